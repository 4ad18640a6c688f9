"""``z.comm.websocket.asgi()``: the gate, refusals, plain HTTP, lifespan, mounts and event loops."""

from __future__ import annotations

import asyncio
import gc
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from asgi_serving import InMemoryServer
from test_asgi_connection import run, until
from websocket_serving import TOKEN

from zCLI import ConfigError, zCLI

MakeZ = Callable[..., zCLI]


async def closed_with(server: InMemoryServer) -> tuple[int, str]:
    """Return the code and reason with which the application closes an upgrade that it accepts."""
    server.put("websocket.connect")
    assert (await server.next())["type"] == "websocket.accept"
    event = await server.next()
    assert event["type"] == "websocket.close"
    server.put("websocket.disconnect", code=event["code"], reason=event["reason"])
    await server.ended()
    return event["code"], event["reason"]


async def http(app: Any, path: str, method: str = "GET", **scope: Any) -> tuple[int, bytes]:
    """Return status and body of the response to a plain request."""
    server = InMemoryServer(app, path, type="http", method=method, scheme="http", **scope)
    start, body = await server.next(), await server.next()
    await server.ended()
    assert dict(start["headers"])[b"content-length"].isdigit()
    return start["status"], body["body"]


# The gate ------------------------------------------------------------------------------------------------------


def test_asgi_gate_admits_a_token_and_refuses_others(make_z: MakeZ) -> None:
    """Strategies see the headers and the query of the scope."""
    admitted: list[Any] = []

    async def main() -> None:
        z = make_z(require_auth=True, tokens={"alice": TOKEN})

        async def on_connect(websocket: Any) -> None:
            admitted.append(z.comm.websocket.auth.get_client_info(websocket)["identity"])

        app = z.comm.websocket.asgi(on_connect=on_connect)
        bearer = (b"authorization", f"Bearer {TOKEN}".encode())
        server = await InMemoryServer(app, headers=[bearer]).open()
        await until(lambda: admitted)
        await server.leave()
        assert await closed_with(InMemoryServer(app)) == (1008, "authentication required")
        assert admitted == ["alice"]

    run(main())


def test_asgi_gate_refuses_a_foreign_origin(make_z: MakeZ) -> None:
    """A page of another origin is closed with 1008, and one that is listed is admitted."""

    async def main() -> None:
        app = make_z(allowed_origins=["https://ours.example"]).comm.websocket.asgi()
        foreign = InMemoryServer(app, headers=[(b"origin", b"https://evil.example")])
        assert (await closed_with(foreign))[0] == 1008
        await (await InMemoryServer(app, headers=[(b"origin", b"https://ours.example")]).open()).leave()

    run(main())


def test_asgi_slow_strategy_is_awaited(make_z: MakeZ, tmp_path: Any) -> None:
    """A message that arrives while a strategy decides is not lost; a client that leaves ends the decision."""
    started: list[asyncio.Event] = []
    cancelled: list[bool] = []

    class Slow:
        never_blocks = False

        async def authenticate(self, request: Any) -> Any:
            from zcli_core.auth.contract import Identified

            started.append(asyncio.Event())
            try:
                await started[-1].wait()
            except asyncio.CancelledError:
                cancelled.append(True)
                raise
            return Identified("bob")

    async def main() -> None:
        from zcli_core.websocket.strategy_runner import StrategyRunner

        z = make_z(require_auth=True, tokens={"alice": TOKEN}, open_timeout=0.2)
        facade = z.comm.websocket
        facade.__dict__["_strategies"] = (StrategyRunner("slow", "test", Slow(), facade._threads, facade._log),)
        app = facade.asgi()
        server = InMemoryServer(app)
        server.put("websocket.connect")
        await until(lambda: started)
        server.put_text("early")
        await asyncio.sleep(0)
        started[-1].set()
        assert (await server.next())["type"] == "websocket.accept"
        assert (await server.next())["text"] == "early"
        await server.leave()

        cut = InMemoryServer(app)
        cut.put("websocket.connect")
        await until(lambda: len(started) == 2)
        started[-1].set()
        await until(lambda: facade.client_count == 1)
        cut.task.cancel()  # before the server's task has noticed that the connection was opened
        await asyncio.wait([cut.task])
        await until(lambda: facade.client_count == 0)

        leaving = InMemoryServer(app)
        leaving.put("websocket.connect")
        await until(lambda: len(started) == 3)
        await leaving.leave(1006)
        assert cancelled == [True]
        assert leaving.sent.empty()

        assert await closed_with(InMemoryServer(app)) == (1011, "no decision within the open timeout")

    run(main())


def test_asgi_refusal_delay_ends_when_client_leaves(make_z: MakeZ) -> None:
    """A client that leaves while its refusal is delayed gets nothing, and the application returns at once."""

    async def main() -> None:
        z = make_z(require_auth=True, tokens={"alice": TOKEN}, max_refusal_delay=60)
        app = z.comm.websocket.asgi()
        for _ in range(5):
            await closed_with(InMemoryServer(app))
        for _ in range(12):
            server = InMemoryServer(app)
            server.put("websocket.connect")
            await server.leave(1006)
            assert server.sent.empty()

    run(main())


def test_asgi_refuse_with_http_needs_the_extension(make_z: MakeZ) -> None:
    """With ``refuse_with: http`` the refusal is a status; a server that cannot send one accepts and closes."""

    async def main() -> None:
        app = make_z(require_auth=True, tokens={"alice": TOKEN}, refuse_with="http").comm.websocket.asgi()
        server = InMemoryServer(app)
        server.put("websocket.connect")
        start, body = await server.next(), await server.next()
        await server.ended()
        assert (start["type"], start["status"]) == ("websocket.http.response.start", 401)
        assert body["body"] == b"authentication required\n"
        assert await closed_with(InMemoryServer(app, extensions={})) == (1008, "authentication required")

    run(main())


def test_asgi_head_over_limit_is_refused(make_z: MakeZ) -> None:
    """The limits of a head apply, although the server has read it."""

    async def main() -> None:
        app = make_z(max_header_bytes=1024).comm.websocket.asgi()
        code, reason = await closed_with(InMemoryServer(app, headers=[(b"cookie", b"x" * 2000)]))
        assert (code, reason) == (1008, "The request's head is over 1024 bytes.")

    run(main())


def test_asgi_capacity_counts_all_clients_of_a_run(make_z: MakeZ) -> None:
    """Over max_connections a client is closed with 1013."""

    async def main() -> None:
        app = make_z(max_connections=1).comm.websocket.asgi()
        server = await InMemoryServer(app).open()
        assert (await closed_with(InMemoryServer(app)))[0] == 1013
        await server.leave()
        await (await InMemoryServer(app).open()).leave()

    run(main())


def test_asgi_subprotocol_is_negotiated(make_z: MakeZ) -> None:
    """The first supported subprotocol that the client offers is accepted."""

    async def main() -> None:
        app = make_z(subprotocols=["v2", "v1"]).comm.websocket.asgi()
        server = InMemoryServer(app, subprotocols=["v1", "v2"])
        server.put("websocket.connect")
        assert (await server.next())["subprotocol"] == "v2"
        await server.leave()

    run(main())


def test_asgi_trusted_proxy_states_the_client(make_z: MakeZ) -> None:
    """The client's address is that of the scope, or the one that a trusted proxy states."""
    seen: list[Any] = []

    async def on_connect(websocket: Any) -> None:
        seen.append((websocket.remote_address, websocket.request.tls, websocket.local_address))

    async def main() -> None:
        app = make_z(trusted_proxies=["10.0.0.1"]).comm.websocket.asgi(on_connect=on_connect)
        headers = [(b"x-forwarded-for", b"203.0.113.7"), (b"x-forwarded-proto", b"https")]
        for address in ("10.0.0.1", "10.0.0.2"):
            server = await InMemoryServer(app, headers=headers, client=[address, 5], server=("name", 80)).open()
            await server.leave()
        server = await InMemoryServer(app, client=None, server=("/run/x.sock", None), scheme="wss").open()
        await server.leave()
        assert seen == [(("203.0.113.7", 0), True, None), (("10.0.0.2", 5), False, None), (None, True, None)]

    run(main())


# Paths and mounts ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "raw", "root", "expected"),
    [
        ("/chat", b"/chat", "", "/chat"),
        ("/ws/chat", b"/ws/chat", "/ws", "/chat"),  # Starlette, uvicorn --root-path
        ("/chat", b"/chat", "/ws", "/chat"),  # hypercorn, Django
        ("/ws/caf\u00e9", b"/ws/caf%C3%A9", "/ws", "/caf%C3%A9"),
        ("/\u00fc/a b", b"/%C3%BC/a%20b", "/\u00fc", "/a%20b"),
        ("/ws", b"/ws", "/ws", "/"),
        ("/wsx", b"/wsx", "/ws", "/wsx"),
        ("/a/b", b"/a%2Fb", "", "/a%2Fb"),
        ("/ws/x y", None, "/ws", "/x%20y"),
        ("/ws/chat", b"/rewritten", "/ws", "/chat"),
        ("/chat", b"/chat?x=1", "", "/chat"),
    ],
)
def test_asgi_path_is_relative_to_the_mount(make_z: MakeZ, path: str, raw: Any, root: str, expected: str) -> None:
    """Handlers see the path below the prefix under which a framework has mounted the application."""
    seen: list[str] = []

    async def on_connect(websocket: Any) -> None:
        seen.append(websocket.path)

    async def main() -> None:
        app = make_z().comm.websocket.asgi(on_connect=on_connect)
        server = await InMemoryServer(app, path, raw_path=raw, root_path=root).open()
        await server.leave()
        assert seen == [expected]

    run(main())


def test_asgi_path_without_handler_is_refused(make_z: MakeZ) -> None:
    """``path`` and a mapping limit the paths."""

    async def main() -> None:
        z = make_z()
        for app in (z.comm.websocket.asgi(path="/chat"), z.comm.websocket.asgi({"/chat": lambda ws, m: None})):
            await (await InMemoryServer(app, "/ws/chat", root_path="/ws").open()).leave()
            assert await closed_with(InMemoryServer(app, "/other")) == (1008, "no such path")
        with pytest.raises(TypeError, match="path must not be given"):
            z.comm.websocket.asgi({"/a": lambda ws, m: None}, path="/b")

    run(main())


def test_asgi_mounts_share_broadcasts_and_clients(make_z: MakeZ) -> None:
    """Two applications of one object have handlers of their own; a broadcast reaches the clients of both."""

    async def shout(websocket: Any, message: str) -> None:
        await websocket.send(message.upper())

    async def main() -> None:
        z = make_z()
        one = await InMemoryServer(z.comm.websocket.asgi()).open()
        two = await InMemoryServer(z.comm.websocket.asgi(shout)).open()
        for server, expected in ((one, "x"), (two, "X")):
            server.put_text("x")
            assert (await server.next())["text"] == expected
        assert z.comm.websocket.client_count == len(z.comm.websocket.clients) == 2
        assert await z.comm.websocket.broadcast("all") == 2
        assert [(await server.next())["text"] for server in (one, two)] == ["all", "all"]
        await one.leave()
        await two.leave()

    run(main())


def test_asgi_rooms_reach_members(make_z: MakeZ) -> None:
    """Rooms work as with our own listener."""

    async def on_connect(websocket: Any) -> None:
        await websocket.join("news")

    async def main() -> None:
        z = make_z()
        server = await InMemoryServer(z.comm.websocket.asgi(on_connect=on_connect)).open()
        await until(lambda: z.comm.websocket.rooms == {"news": 1})
        assert await z.comm.websocket.broadcast("hello", to="news") == 1
        assert (await server.next())["text"] == "hello"
        await server.leave()
        assert z.comm.websocket.rooms == {}

    run(main())


# Plain HTTP ----------------------------------------------------------------------------------------------------


def test_asgi_http_has_health_and_a_page(make_z: MakeZ) -> None:
    """Plain requests get the responses of the gate, below the mount too."""

    async def main() -> None:
        app = make_z().comm.websocket.asgi()
        assert await http(app, "/health") == (200, b'{"status": "ok"}\n')
        assert await http(app, "/ws/health", root_path="/ws") == (200, b'{"status": "ok"}\n')
        assert await http(app, "/health", "HEAD") == (200, b"")
        status, body = await http(app, "/", headers=[(b"accept", b"text/html")])
        assert (status, b"<title>WebSocket server</title>" in body) == (426, True)

    run(main())


# Lifespan, stopping and event loops ----------------------------------------------------------------------------


async def start(app: Any) -> InMemoryServer:
    """Send lifespan.startup and return the server's side of the scope."""
    server = InMemoryServer(app, type="lifespan")
    server.put("lifespan.startup")
    assert await server.next() == {"type": "lifespan.startup.complete"}
    return server


def test_asgi_lifespan_shutdown_closes_with_1001(make_z: MakeZ) -> None:
    """The run begins with startup; shutdown lets handlers finish, closes the clients and waits for on_disconnect."""
    calls: list[Any] = []

    async def on_disconnect(websocket: Any) -> None:
        calls.append(websocket.close_code)

    async def main() -> None:
        z = make_z()
        app = z.comm.websocket.asgi(on_disconnect=on_disconnect)
        lifespan = await start(app)
        assert z.comm.websocket.is_running
        server = await InMemoryServer(app).open()
        lifespan.put("lifespan.shutdown")
        assert (await server.next())["code"] == 1001
        server.put("websocket.disconnect", code=1001, reason="")
        assert await lifespan.next() == {"type": "lifespan.shutdown.complete"}
        await lifespan.ended()
        assert calls == [1001]
        assert not z.comm.websocket.is_running
        await (await start(app)).ended_by_shutdown()

    run(main())


def test_asgi_lifespan_startup_failure_is_reported(make_z: MakeZ, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that cannot begin fails the startup with its cause."""

    async def main() -> None:
        app = make_z().comm.websocket.asgi()

        def fail() -> Any:
            raise RuntimeError("no parts")

        monkeypatch.setattr(app, "_open_core", fail)
        server = InMemoryServer(app, type="lifespan")
        server.put("lifespan.startup")
        assert await server.next() == {"type": "lifespan.startup.failed", "message": "RuntimeError: no parts"}
        await server.ended()

    run(main())


def test_asgi_stop_refuses_until_started_again(make_z: MakeZ) -> None:
    """``stop()`` from another thread closes the clients; new ones are refused until the server starts again."""

    async def main() -> None:
        z = make_z()
        app = z.comm.websocket.asgi()
        server = await InMemoryServer(app).open()
        stopping = asyncio.ensure_future(asyncio.to_thread(z.comm.websocket.stop))
        assert (await server.next())["code"] == 1001
        server.put("websocket.disconnect", code=1001)
        assert await stopping
        assert (await closed_with(InMemoryServer(app)))[0] == 1001
        assert (await http(app, "/health"))[0] == 503
        await start(app)
        await (await InMemoryServer(app).open()).leave()

    run(main())


def test_asgi_second_loop_gets_a_run_of_its_own(make_z: MakeZ) -> None:
    """Each event loop has its run, without lifespan, and nothing of a closed loop is kept."""
    z = make_z()
    app = z.comm.websocket.asgi()
    loops: list[Any] = []

    async def main() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        server = await InMemoryServer(app).open()
        assert z.comm.websocket.client_count == 1
        assert await z.comm.websocket.broadcast("x") == 1
        await server.leave()

    for _ in range(5):
        asyncio.run(main())
        assert not z.comm.websocket.is_running
    gc.collect()
    assert [loop() for loop in loops[:4]] == [None] * 4
    assert z.comm.websocket._servers == ()


def test_asgi_loop_closed_without_cancelling(make_z: MakeZ, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loop that is closed while its tasks are pending leaves no run behind, and publishing goes on."""
    z = make_z()
    app = z.comm.websocket.asgi()

    async def connect() -> None:
        await InMemoryServer(app).open()

    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda loop, context: None)
    loop.run_until_complete(connect())
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # the task of the test's server
    loop.close()
    # The queue of the test's server cancels a future when it is collected, which a closed loop refuses.
    loop.call_soon = lambda *arguments, **options: None  # type: ignore[assignment,method-assign]
    assert not z.comm.websocket.is_running
    assert z.comm.websocket.publish("x").result(5) == 0

    async def main() -> None:
        await (await InMemoryServer(app).open()).leave()
        assert len(z.comm.websocket._servers) == 1

    run(main())
    # The coroutines of the closed loop are collected here, and not in a later test, which would get their errors.
    monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)
    del loop
    gc.collect()


# Settings ------------------------------------------------------------------------------------------------------


def test_asgi_client_certificates_are_an_error(make_z: MakeZ, tmp_path: Any) -> None:
    """A setting that would protect and cannot be enforced is refused."""
    z = make_z(ssl_client_ca=str(tmp_path / "ca.pem"))
    with pytest.raises(ConfigError, match="an ASGI server owns the connections"):
        z.comm.websocket.asgi()


def test_asgi_settings_are_checked_at_once(make_z: MakeZ, monkeypatch: pytest.MonkeyPatch) -> None:
    """An invalid setting stops the import of the module, not the first client."""
    z = make_z(allowed_origins=["not an origin"])
    with pytest.raises(ConfigError, match=r"websocket\.allowed_origins"):
        z.comm.websocket.asgi()
    monkeypatch.setenv("ZCLI_BACKPLANE_REDIS_URL", "http://db")
    z = make_z(backplane="redis")
    with pytest.raises(ConfigError, match=r"backplane\.redis\.url"):
        z.comm.websocket.asgi()


def test_asgi_unknown_scope_type_raises(make_z: MakeZ) -> None:
    """The specification demands an error for a scope type that the application does not know."""

    async def main() -> None:
        server = InMemoryServer(make_z().comm.websocket.asgi(), type="other")
        with pytest.raises(ValueError, match="got 'other'"):
            await server.task

    run(main())

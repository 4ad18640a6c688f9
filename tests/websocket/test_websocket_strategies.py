"""Strategies of third-party plugins: async, plain, slow, broken. Whatever fails, the client is refused."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
from installations import Site
from websocket_serving import DEADLINE, Served, eventually, talks

from zcli_core.app import zCLI
from zcli_core.errors import ConfigError
from zcli_core.testing.websocket.client import upgrade_request
from zcli_core.websocket import strategy_runner

Serve = Callable[..., Served]
HEAD = """
import asyncio, threading, time
from zcli_core.auth.contract import Identified, Rejected

class Strategy:
{body}

@hookimpl
def zcli_auth_strategies():
    return [Provider("mine", "of a test", lambda context: Strategy())]
"""


def _install(site: Site, body: str) -> None:
    indented = "\n".join(f"    {line}" for line in body.strip().splitlines())
    site.plugin("zcli_mine", HEAD.format(body=indented))


MINE: dict[str, Any] = {"require_auth": True, "auth": ["mine"]}

KINDS = {
    "async": "async def authenticate(self, request):\n    await asyncio.sleep(0.01)\n    {0}",
    "plain": "def authenticate(self, request):\n    time.sleep(0.01)\n    {0}",
    "quick": "never_blocks = True\ndef authenticate(self, request):\n    {0}",
}


@pytest.mark.parametrize("kind", KINDS)
def test_strategy_verdict_decides(serve: Serve, site: Site, kind: str) -> None:
    """Identity and claims of the verdict are then known for the client."""
    answer = (
        "return {'alice': Identified('alice', {'role': 'admin'}), 'mallory': Rejected('it is mallory')}"
        ".get(request.query)"
    )
    _install(site, KINDS[kind].format(answer))
    served = serve(**MINE)
    with served.client("/?alice") as client:
        assert talks(client)
        info = served.websocket.auth.get_client_info(served.websocket.clients[0])
    assert (info["identity"], info["strategy"], info["claims"]) == ("alice", "mine", {"role": "admin"})
    assert served.refusal("/?mallory") == (1008, "authentication failed")
    assert served.refusal("/?bob") == (1008, "authentication required")
    log = served.logged("it is mallory")
    assert "the auth strategy 'mine' of the plugin zcli_mine" in log


def test_strategy_uncounted_rejection_is_not_throttled(serve: Serve, site: Site) -> None:
    """The strategy cannot tell whether the credential is valid."""
    _install(site, KINDS["quick"].format("return Rejected('no keys yet', counts=request.query == 'wrong')"))
    served = serve(**MINE, max_auth_failures=1, auth_failures_window=3600)
    for path in ("/?unknown", "/?unknown", "/?wrong"):
        assert served.refusal(path) == (1008, "authentication failed")
    assert served.refusal("/?unknown")[1].startswith("too many failed attempts")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "fault",
    [
        "raise ValueError('the credential is s3cret')",
        "return True",
        "return 'alice'",
        "return {'identity': 'alice'}",
        "return Identified('')",
        "return Identified(None)",
        "return Identified",
        "raise StopIteration",
        "raise SystemExit('s3cret')",
    ],
)
def test_strategy_failure_refuses_1011(serve: Serve, site: Site, kind: str, fault: str) -> None:
    """The log names the plugin, and the type and place of the error but not its text, which may quote a credential."""
    _install(site, KINDS[kind].format(fault))
    served = serve(**MINE)
    assert served.refusal("/?token=x") == (1011, "authentication is not available")
    log = served.logged("the auth strategy 'mine' of the plugin zcli_mine")
    assert "s3cret" not in log
    if "ValueError" in fault:
        assert "failed: ValueError at zcli_mine.py:" in log


@pytest.mark.parametrize("kind", ["failing", "slow"])
def test_strategy_failure_log_is_bounded(serve: Serve, site: Site, kind: str) -> None:
    """However often a client reconnects, the log has one line and later the number."""
    body = {
        "failing": "async def authenticate(self, request):\n    raise ValueError(request.query)",
        "slow": "async def authenticate(self, request):\n    await asyncio.sleep(60)",
    }[kind]
    _install(site, body)
    served = serve(**MINE, max_refusal_delay=0)
    for _ in range(10):
        with socket.create_connection(("127.0.0.1", served.port), timeout=DEADLINE) as sock:
            sock.sendall(upgrade_request())
            if kind == "failing":
                assert b" 101 " in sock.recv(1000)
            else:
                sock.shutdown(socket.SHUT_WR)
                assert sock.recv(1000) == b""
    assert served.handle.stop()
    log = served.logged("9 more times")
    assert log.count("failed: ValueError at" if kind == "failing" else "had not decided") <= 2


@pytest.mark.parametrize(
    "body",
    [
        "async def authenticate(self, request):\n    await asyncio.sleep(3600)",
        "def authenticate(self, request):\n    threading.Event().wait(3600)",
    ],
    ids=["async", "plain"],
)
def test_strategy_hanging_refuses_1011(serve: Serve, site: Site, body: str) -> None:
    """Within open_timeout; the server still responds to others, and stops."""
    _install(site, body)
    served = serve(**MINE, open_timeout=0.5)
    assert served.refusal()[0] == 1011
    assert "refused 127.0.0.1:" in served.logged("the auth strategy 'mine' of the plugin zcli_mine had not decided")
    assert served.handle.stop()


def test_strategy_hanging_threads_are_limited(serve: Serve, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients cannot make it start more threads than a limit."""
    monkeypatch.setattr(strategy_runner, "MAX_THREADS", 2)
    _install(site, "def authenticate(self, request):\n    threading.Event().wait(3600)")
    served = serve(**MINE, open_timeout=0.3)
    assert [served.refusal()[0] for _ in range(4)] == [1011] * 4
    served.logged("has 2 threads that have not returned")


def test_strategy_never_blocks_coroutine_is_an_error(serve: Serve, site: Site) -> None:
    """A strategy with ``never_blocks`` that returns a coroutine is broken."""
    _install(
        site,
        "never_blocks = True\ndef authenticate(self, request):\n    return self.later()\nasync def later(self): ...",
    )
    served = serve(**MINE)
    assert served.refusal()[0] == 1011
    served.logged("returned coroutine, which is not a verdict")


def test_strategy_without_require_auth_is_not_made(serve: Serve, site: Site) -> None:
    site.plugin(
        "zcli_mine",
        "@hookimpl\ndef zcli_auth_strategies(): return [Provider('mine', '', lambda context: 1 / 0)]",
    )
    with serve(auth=["mine"]).client() as client:
        assert talks(client)


def test_strategy_factory_error_prevents_start(make_z: Any, site: Site) -> None:
    """The error names the plugin and the setting that selects it."""
    site.plugin(
        "zcli_mine",
        "@hookimpl\ndef zcli_auth_strategies(): return [Provider('mine', '', lambda context: 1 / 0)]",
    )
    with pytest.raises(ConfigError, match=r"plugin zcli_mine .*websocket\.auth \(zSpark\).*ZeroDivisionError"):
        make_z(**MINE).comm.websocket.start_background(port=0)


def test_strategy_factory_is_called_once(make_z: Any, site: Site) -> None:
    """However often the server is started."""
    body = "made = []\ndef __init__(self):\n    self.made.append(1)\ndef authenticate(self, request):\n    return None"
    _install(site, body)
    z = make_z(**MINE)
    for _ in range(3):
        z.comm.websocket.start_background(port=0).stop()
    assert z.plugins.records["zcli_mine"].plugin.Strategy.made == [1]


def test_max_connections_holds_during_auth(serve: Serve, site: Site) -> None:
    """Clients that authenticate at the same time do not all get the last slot."""
    _install(site, "async def authenticate(self, request):\n    await asyncio.sleep(0.2)\n    return Identified('x')")
    served = serve(**MINE, max_connections=1)
    from concurrent.futures import ThreadPoolExecutor

    refused: list[int] = []

    def attempt(_: int) -> None:
        with served.client() as client:
            while len(refused) < 4:  # the accepted client stays until the others are refused
                try:
                    client.recv(timeout=0.05)
                except TimeoutError:
                    continue
                except Exception as closed:
                    refused.append(closed.rcvd.code)  # type: ignore[attr-defined]
                    return

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(attempt, range(5)))
    assert refused == [1013] * 4


def test_messages_before_the_verdict_wait(serve: Serve, site: Site) -> None:
    """They are handled once the client is accepted."""
    import socket

    _install(site, "async def authenticate(self, request):\n    await asyncio.sleep(0.2)\n    return Identified('x')")
    served = serve(**MINE)
    head = (
        b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", served.port), timeout=DEADLINE) as client:
        client.sendall(head + b"\x81\x82\0\0\0\0hi")
        received = b""
        while b"hi" not in received:
            received += client.recv(1000)
    assert received.startswith(b"HTTP/1.1 101")


# --- hooks ---


def test_run_hooks_get_each_client(serve: Serve, site: Site) -> None:
    """Once each, with the connection and the context; a hook that raises has no effect."""
    site.plugin(
        "zcli_witness",
        """
        calls = []

        @hookimpl
        def zcli_websocket_opened(connection, context):
            calls.append(("opened", connection, context.config.title))

        @hookimpl
        def zcli_websocket_closed(connection, code, reason, context):
            calls.append(("closed", connection, code, reason, context.config.title))
            raise ValueError("not my day")
        """,
    )
    served = serve()
    calls = served.z.plugins.records["zcli_witness"].plugin.calls
    with served.client() as client:
        (connection,) = eventually(lambda: served.websocket.clients)
        assert talks(client)
        client.close(4002, "enough")
    eventually(lambda: len(calls) == 2)
    assert calls == [("opened", connection, "server-0"), ("closed", connection, 4002, "enough", "server-0")]
    served.logged("the hook zcli_websocket_closed of the plugin zcli_witness failed")
    with served.client() as client:
        assert talks(client)


@pytest.mark.parametrize(
    "hook", ["zcli_websocket_opened", "zcli_websocket_closed", "zcli_websocket_joined", "zcli_websocket_left"]
)
def test_run_hooks_without_plugin_are_none(make_z: Callable[..., zCLI], hook: str) -> None:
    """Without an implementation there is nothing to call."""
    z = make_z()
    assert z.plugins.notifier(hook, z.log) is None
    assert z.comm.websocket._observers() == (None, None, None, None)


def test_transport_of_other_plugin_is_used(make_z: Any, site: Site) -> None:
    """Here one that only reports where it would have listened."""
    site.plugin(
        "zcli_elsewhere",
        """
        class Transport:
            async def listen(self, endpoint, acceptor, limits):
                raise OSError(0, f"no listening on {endpoint.host} with {limits.max_size}")

        @hookimpl
        def zcli_websocket_transports(): return [Provider("elsewhere", "of a test", lambda context: Transport())]
        """,
    )
    with pytest.raises(Exception, match=r"no listening on 127\.0\.0\.1 with 1048576"):
        make_z(transport="elsewhere").comm.websocket.start_background(port=0)

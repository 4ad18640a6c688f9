"""``z.comm.websocket.metrics()``: what it counts is what has happened."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from websocket_serving import DEADLINE, Certificates, Served, end_of, eventually

from zcli_core.testing import MockTransport, make_response
from zcli_core.websocket import loop_lag
from zcli_core.websocket.counters import Counters, Totals
from zcli_core.websocket.loop_lag import KEPT, LoopLag

Serve = Callable[..., Served]


def _seen(served: Served) -> dict[str, Any]:
    return dict(served.websocket.metrics())


def _counted(served: Served, group: str) -> dict[str, int]:
    """Return the entries of a group that are not 0."""
    return {name: count for name, count in _seen(served)[group].items() if count}


def _numbers(value: Any) -> list[Any]:
    """Return all numbers of nested dicts."""
    return [value] if not isinstance(value, dict) else [each for inner in value.values() for each in _numbers(inner)]


def test_metrics_before_the_start_are_zero(serve: Serve) -> None:
    """All names are there from the beginning, and the dict can be written as JSON."""
    served = serve()
    served.handle.stop()
    seen = _seen(served)
    json.dumps(seen)
    assert set(seen["connections"]) == {
        "accepted", "refused_auth", "refused_full", "refused_origin", "refused_path", "failed",
    }  # fmt: skip
    assert {"1000", "1006", "1013", "other"} <= set(seen["closed"])
    assert not any(_numbers(seen))


def test_metrics_count_messages_and_bytes(serve: Serve) -> None:
    """Text counts as UTF-8, and ``recv()``, plain handlers and broadcasts count too."""

    async def handler(websocket: Any, message: Any) -> None:
        await websocket.send(message)
        if message == "more":
            await websocket.send(await websocket.recv())

    messages: list[str | bytes] = ["ascii", "größer", "😀", b"\xff\0", "", b"", "more", "x" * 70_000]
    served = serve(handler=handler)
    with served.client() as client, served.client():
        eventually(lambda: served.websocket.client_count == 2)
        for message in messages:
            client.send(message)
        for message in messages:
            assert client.recv(timeout=DEADLINE) == message
        size = sum(len(each.encode() if isinstance(each, str) else each) for each in messages)
        expected = {"messages_received": 8, "messages_sent": 8, "bytes_received": size, "bytes_sent": size}
        assert {name: _seen(served)[name] for name in expected} == expected
        assert served.websocket.publish("größer").result(DEADLINE) == 2
        seen = _seen(served)
        assert (seen["messages_sent"], seen["bytes_sent"]) == (10, size + 16)
        assert (seen["messages_received"], seen["clients"]) == (8, 2)
    with served.client() as client:
        assert served.websocket.clients[-1].blocking.send("plain") is None
        assert client.recv(timeout=DEADLINE) == "plain"
    assert _seen(served)["messages_sent"] == 11


def test_metrics_count_results_of_connections(serve: Serve) -> None:
    """Each refusal is counted by its reason."""
    served = serve(
        handler={"/chat": lambda websocket, message: None},
        require_auth=True, token="0123456789abcdef", allowed_origins=["https://a.example"], max_connections=1,
    )  # fmt: skip
    good = {"Authorization": "Bearer 0123456789abcdef"}
    for path, headers in (
        ("/chat", {}),
        ("/chat", {"Authorization": "Bearer wrong"}),
        ("/chat", {"Origin": "https://evil.example"}),
        ("/other", good),
    ):
        served.refusal(path, additional_headers=headers)
    with served.client("/chat", additional_headers=good):
        eventually(lambda: served.websocket.client_count == 1)
        served.refusal("/chat", additional_headers=good)
    assert _counted(served, "connections") == {
        "accepted": 1, "refused_auth": 2, "refused_origin": 1, "refused_path": 1, "refused_full": 1,
    }  # fmt: skip


def test_metrics_count_failed_handshakes(serve: Serve) -> None:
    """An upgrade whose head is too large is refused by the transport."""
    served = serve()
    assert served.refusal(additional_headers={f"X-{number}": "a" * 4000 for number in range(8)})[0] == 1008
    assert _counted(served, "connections") == {"failed": 1}


def test_metrics_count_close_codes(serve: Serve) -> None:
    """A code that only applications use counts as ``other``, because the client chooses it."""

    def handler(websocket: Any, message: str) -> None:
        raise ValueError(message)

    served = serve(handler=handler, on_disconnect=lambda websocket: 1 / 0)
    for code in (1000, 1001, 3000, 4999):
        with served.client() as client:
            client.close(code)
    with served.client() as client:
        client.send("fail")
        assert end_of(client)[0] == 1011
    expected = {"1000": 1, "1001": 1, "1011": 1, "other": 2}
    eventually(lambda: _counted(served, "closed") == expected, f"{expected} are counted")
    eventually(lambda: _seen(served)["handler_errors"] == 6, "the handler and five callbacks have failed")
    assert _counted(served, "connections") == {"accepted": 5}


def test_metrics_count_seconds_until_admission(serve: Serve, certificates: Certificates) -> None:
    """Also those of the TLS handshake, and only of clients that are admitted."""
    certificate, key = certificates.issue("server")
    served = serve(
        require_auth=True, token="0123456789abcdef", ssl_enabled=True, ssl_cert=str(certificate), ssl_key=str(key)
    )
    good = {"Authorization": "Bearer 0123456789abcdef"}
    with served.client(ssl=certificates.trusting(), additional_headers=good):
        served.refusal(ssl=certificates.trusting())
        eventually(lambda: _counted(served, "connections") == {"accepted": 1, "refused_auth": 1})
    seen = _seen(served)["open_seconds"]
    assert seen["count"] == 1
    counts = list(seen["buckets"].values())
    assert (counts, list(seen["buckets"])) == (sorted(counts), sorted(seen["buckets"], key=float))
    assert 0 < seen["microseconds"] < DEADLINE * 1e6


def test_metrics_count_the_silence_before_a_request(serve: Serve) -> None:
    """The time in which a client has sent nothing counts, so that slow clients show."""
    served = serve()
    with socket.create_connection(("127.0.0.1", served.port)) as client:
        eventually(lambda: served.websocket._servers[0].listener.pending)
        end = time.monotonic() + 0.03
        eventually(lambda: time.monotonic() > end)
        client.sendall(
            b"GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        )
        assert client.recv(1000).startswith(b"HTTP/1.1 101")
    eventually(lambda: _seen(served)["open_seconds"]["count"] == 1)
    seen = _seen(served)["open_seconds"]
    assert seen["microseconds"] >= 30_000
    assert (seen["buckets"]["0.025"], seen["count"]) == (0, 1)


def test_metrics_show_what_blocks_the_loop(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it lasts and for a minute afterwards, for several readers, until the server stops."""
    monkeypatch.setattr(loop_lag, "INTERVAL", 0.01)
    blocked, go_on = threading.Event(), threading.Event()

    async def handler(websocket: Any, message: str) -> None:
        blocked.set()
        assert go_on.wait(DEADLINE)
        await websocket.send(message)

    served = serve(handler=handler)
    with served.client() as client:
        client.send("block")
        assert blocked.wait(DEADLINE)
        eventually(lambda: _seen(served)["loop_lag"] > 0.2, "a delay that goes on is seen")
        go_on.set()
        assert client.recv(timeout=DEADLINE) == "block"
        eventually(lambda: max(served.websocket._servers[0].lag._delays) > 0.2, "the delay is noted")
        assert [_seen(served)["loop_lag"] > 0.2 for _ in range(2)] == [True, True]
    served.handle.stop()
    assert _seen(served)["loop_lag"] == 0


def test_loop_lag_is_forgotten_after_a_minute() -> None:
    """The oldest measurement makes place for the newest."""

    async def main() -> None:
        lag = LoopLag(asyncio.get_running_loop())
        lag._delays[lag._next] = 5.0
        for _ in range(KEPT - 1):
            lag._next = (lag._next + 1) % KEPT
            lag._delays[lag._next] = 0.5
        assert lag.largest() == 5.0
        lag._next = (lag._next + 1) % KEPT
        lag._timer.cancel()
        lag._measure()
        assert lag.largest() == 0.5
        lag.stop()

    asyncio.run(main())


def test_metrics_have_the_http_calls_of_the_object(make_z: Callable[..., Any]) -> None:
    """Before the first call too, which makes the client."""
    z = make_z()
    assert z.comm.websocket.metrics()["http"]["responses"]["2xx"] == 0
    assert "http" not in vars(z.comm)
    MockTransport(make_response(204)).install(z)
    z.comm.http_get("http://host.example/")
    assert z.comm.websocket.metrics()["http"] == z.comm.http.metrics()
    assert z.comm.http.metrics()["responses"]["2xx"] == 1


def test_metrics_keep_growing_over_several_runs(serve: Serve) -> None:
    """The counters of a server that has ended are kept; the gauge is of this moment."""
    served = serve()
    for run in (1, 2):
        if run == 2:
            handle = served.websocket.start_background(port=0)
            served = served._replace(handle=handle)
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                client = stack.enter_context(served.client())
                client.send("hello")
                assert client.recv(timeout=DEADLINE) == "hello"
            assert _seen(served)["clients"] == 3
            assert served.handle.stop()
            for name in ("messages_received", "messages_sent"):
                assert _seen(served)[name] == 3 * run
            assert _seen(served)["clients"] == 0
    assert _counted(served, "closed") == {"1001": 6}


def test_totals_read_while_servers_count_never_shrink() -> None:
    """Servers begin, count and end in several threads while another one reads."""
    totals, runs, each = Totals(), 50, 20

    def serve_often() -> None:
        for _ in range(runs):
            counters = Counters()
            totals.begin(counters)
            for _ in range(each):
                counters.messages_received += 1
                counters.count_close(1000)
                counters.open_seconds.add(0.0015)
            totals.end(counters)

    threads = [threading.Thread(target=serve_often) for _ in range(3)]
    for thread in threads:
        thread.start()
    before = 0
    while any(thread.is_alive() for thread in threads):
        seen = totals.sum().messages_received
        assert seen >= before
        before = seen
    for thread in threads:
        thread.join()
    everything = 3 * runs * each
    assert (totals.sum().messages_received, totals.sum().closed["1000"]) == (everything, everything)
    opened = totals.sum().open_seconds.read()
    assert (opened["count"], opened["microseconds"]) == (everything, everything * 1500)
    assert (opened["buckets"]["0.001"], opened["buckets"]["0.0025"]) == (0, everything)


@pytest.mark.parametrize("code", [999, 1004, 1015, 2999, 3000, 4999, 70_000])
def test_counters_unknown_code_is_other(code: int) -> None:
    """So that a client cannot add names."""
    counters = Counters()
    names = set(counters.closed)
    counters.count_close(code)
    assert (set(counters.closed), counters.closed["other"]) == (names, 1)


def test_metrics_asgi_application_is_counted(make_z: Callable[..., Any]) -> None:
    """A server that passes requests on asks ``/ready`` while the application is being stopped, too."""
    websocket = make_z().comm.websocket
    app = websocket.asgi()
    common = {"headers": [], "query_string": b"", "root_path": "", "client": ("127.0.0.1", 1), "server": None}

    async def ready() -> tuple[int, Any]:
        sent: list[Any] = []

        async def send(event: Any) -> None:
            sent.append(event)

        await app({"type": "http", "method": "GET", "path": "/ready", "scheme": "http", **common}, None, send)
        return sent[0]["status"], json.loads(sent[1]["body"])

    async def main() -> None:
        events: asyncio.Queue[Any] = asyncio.Queue()
        sent: asyncio.Queue[Any] = asyncio.Queue()
        for event in ("connect", "receive"):
            events.put_nowait({"type": f"websocket.{event}", "text": "größer"})
        assert await ready() == (200, {"ready": True})
        scope = {"type": "websocket", "path": "/", "scheme": "ws", "subprotocols": [], **common}
        task = asyncio.ensure_future(app(scope, events.get, sent.put))
        for kind in ("websocket.accept", "websocket.send"):
            assert (await asyncio.wait_for(sent.get(), DEADLINE))["type"] == kind
        events.put_nowait({"type": "websocket.disconnect", "code": 1000})
        await asyncio.wait_for(task, DEADLINE)
        await asyncio.to_thread(websocket.stop)
        assert await ready() == (503, {"ready": False, "because": ["draining"]})

    asyncio.run(main())
    seen = websocket.metrics()
    assert (seen["connections"]["accepted"], seen["closed"]["1000"], seen["open_seconds"]["count"]) == (1, 1, 1)
    assert (seen["messages_received"], seen["bytes_received"], seen["messages_sent"], seen["bytes_sent"]) == (
        1,
        8,
        1,
        8,
    )

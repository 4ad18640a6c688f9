"""Handlers, async and plain: order, and the effects of handlers that raise, block, never return or close."""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from websocket_serving import DEADLINE, Served, end_of, eventually, talks

Serve = Callable[..., Served]
FAILED = (1011, "the server failed to handle a message")


def test_no_handler_echoes_messages(serve: Serve) -> None:
    """Text as text, bytes as bytes."""
    with serve().client() as client:
        for message in ("héllo", "", b"\x00\xff", b"", "x" * 100_000):
            client.send(message)
            assert client.recv(timeout=DEADLINE) == message


@pytest.mark.parametrize("kind", ["async", "plain", "partial", "object", "lambda"])
def test_handler_of_any_kind_is_called(serve: Serve, kind: str) -> None:
    """A coroutine function or a plain one, in any wrapper."""

    async def shout(websocket: Any, message: str) -> None:
        await websocket.send(message.upper())

    def plain(websocket: Any, message: str) -> None:
        websocket.send(message.upper())

    class Object:
        async def __call__(self, websocket: Any, message: str) -> None:
            await shout(websocket, message)

    async def third(extra: str, websocket: Any, message: str) -> None:
        await shout(websocket, message + extra)

    handlers: dict[str, Any] = {
        "async": shout,
        "plain": plain,
        "partial": functools.partial(third, ""),
        "object": Object(),
        "lambda": lambda websocket, message: websocket.send(message.upper()),
    }
    with serve(handlers[kind]).client() as client:
        client.send("hello")
        assert client.recv(timeout=DEADLINE) == "HELLO"


@pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
def test_handler_calls_of_a_client_keep_order(serve: Serve, plain: bool) -> None:
    """One at a time, also if the first messages take longest."""
    running: list[str] = []
    handled: list[str] = []

    async def slow(websocket: Any, message: str) -> None:
        running.append(message)
        assert len(running) == 1
        await asyncio.sleep(0.02 if len(handled) < 3 else 0)
        running.remove(message)
        handled.append(message)

    def slow_plain(websocket: Any, message: str) -> None:
        running.append(message)
        assert len(running) == 1
        time.sleep(0.02 if len(handled) < 3 else 0)
        running.remove(message)
        handled.append(message)

    messages = [str(number) for number in range(60)]
    with serve(slow_plain if plain else slow).client() as client:
        for message in messages:
            client.send(message)
        eventually(lambda: len(handled) == len(messages))
    assert handled == messages


@pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
def test_handler_error_closes_its_connection(serve: Serve, plain: bool) -> None:
    """With 1011 and one traceback in the log; other connections continue."""

    async def fail(websocket: Any, message: str) -> None:
        if message == "fail":
            raise ValueError("of all things")
        await websocket.send(message)

    def fail_plain(websocket: Any, message: str) -> None:
        if message == "fail":
            raise ValueError("of all things")
        websocket.send(message)

    served = serve(fail_plain if plain else fail)
    with served.client() as other, served.client() as client:
        client.send("fail")
        assert end_of(client) == FAILED
        assert talks(other)
    log = served.logged("the handler failed")
    assert log.count("ValueError: of all things") == 1
    assert log.count("Traceback") == 1


@pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
def test_handler_blocking_delays_only_its_client(serve: Serve, plain: bool) -> None:
    """Even a hundred blocked plain handlers; stopping the server does not wait for them."""
    hold = threading.Event()
    stuck: list[Any] = []

    async def wait(websocket: Any, message: str) -> None:
        if message == "hold":
            stuck.append(websocket)
            await asyncio.sleep(3600)
        await websocket.send(message)

    def block(websocket: Any, message: str) -> None:
        if message == "hold":
            stuck.append(websocket)
            hold.wait(600)
            return
        websocket.send(message)

    served = serve(block if plain else wait, close_timeout=1)
    sessions = served.websocket._servers[0].sessions
    held = 100
    try:
        clients = []
        for _ in range(held):
            manager = served.client()
            clients.append(manager)
            manager.__enter__().send("hold")
        eventually(lambda: len(stuck) == held)
        with served.client() as other:
            assert talks(other)
        began = time.monotonic()
        assert served.handle.stop()
        assert time.monotonic() - began < DEADLINE
        for manager in clients:
            manager.__exit__(None, None, None)
    finally:
        hold.set()
    eventually(lambda: not sessions._disconnecting, "every task has ended")


def test_handler_close_sends_its_code(serve: Serve) -> None:
    """And it waits until the connection is closed."""
    codes = []

    async def close(websocket: Any, message: str) -> None:
        await websocket.close(4000, "enough")
        codes.append((websocket.close_code, websocket.close_reason))

    with serve(close).client() as client:
        client.send("go")
        assert end_of(client) == (4000, "enough")
    eventually(lambda: codes == [(4000, "enough")])


def test_handler_send_to_gone_client_is_quiet(serve: Serve) -> None:
    """A client that disconnects is not an error of the server, so there is no traceback."""
    gone = threading.Event()
    ended = threading.Event()

    async def persist(websocket: Any, message: str) -> None:
        await websocket.wait_closed()
        gone.set()
        try:
            await websocket.send("too late")
        finally:
            ended.set()

    served = serve(persist)
    with served.client() as client:
        client.send("go")
        eventually(lambda: served.websocket.client_count == 1)
    assert gone.wait(DEADLINE)
    assert ended.wait(DEADLINE)
    served.handle.stop()
    assert "Traceback" not in served.log()


# --- recv and iteration inside handlers ---


def test_handler_recv_takes_messages(serve: Serve) -> None:
    """The handler is not called with them."""

    async def ask(websocket: Any, message: str) -> None:
        await websocket.send(f"your name, {message}?")
        name = await websocket.recv()
        await websocket.send(f"hello {name}")

    with serve(ask).client() as client:
        for visitor in ("stranger", "friend"):
            client.send(visitor)
            assert client.recv(timeout=DEADLINE) == f"your name, {visitor}?"
            client.send("Ada")
            assert client.recv(timeout=DEADLINE) == "hello Ada"


@pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
def test_handler_iteration_ends_with_connection(serve: Serve, plain: bool) -> None:
    seen: list[str] = []
    done = threading.Event()

    async def loop(websocket: Any, message: str) -> None:
        seen.append(message)
        async for further in websocket:
            seen.append(further)  # noqa: PERF401 - it is seen while it goes on
        done.set()

    def loop_plain(websocket: Any, message: str) -> None:
        seen.append(message)
        for further in websocket:
            seen.append(further)  # noqa: PERF402
        done.set()

    with serve(loop_plain if plain else loop).client() as client:
        for message in ("a", "b", "c"):
            client.send(message)
        eventually(lambda: seen == ["a", "b", "c"])
    assert done.wait(DEADLINE)


# --- on_connect, on_disconnect ---


@pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
def test_callbacks_run_in_order(serve: Serve, plain: bool) -> None:
    """All get the same object, on which attributes can be set."""
    events: list[Any] = []

    async def connected(websocket: Any) -> None:
        await asyncio.sleep(0.05)
        websocket.mark = "kept"
        events.append("connected")

    async def handle(websocket: Any, message: str) -> None:
        events.append((message, websocket.mark))

    async def disconnected(websocket: Any) -> None:
        events.append(("disconnected", websocket.mark, websocket.close_code))

    def connected_plain(websocket: Any) -> None:
        time.sleep(0.05)
        websocket.mark = "kept"
        events.append("connected")

    def handle_plain(websocket: Any, message: str) -> None:
        events.append((message, websocket.mark))

    def disconnected_plain(websocket: Any) -> None:
        events.append(("disconnected", websocket.mark, websocket.close_code))

    functions: tuple[Any, Any, Any] = (handle, connected, disconnected)
    if plain:
        functions = (handle_plain, connected_plain, disconnected_plain)
    handler, on_connect, on_disconnect = functions
    served = serve(handler, on_connect=on_connect, on_disconnect=on_disconnect)
    with served.client() as client:
        client.send("first")
        eventually(lambda: ("first", "kept") in events)
    eventually(lambda: len(events) == 3)
    assert events == ["connected", ("first", "kept"), ("disconnected", "kept", 1000)]


def test_on_connect_can_send_and_close(serve: Serve) -> None:
    """A script can apply rules of its own there."""

    async def greet(websocket: Any) -> None:
        if websocket.path == "/closed":
            await websocket.close(4003, "not today")
        else:
            await websocket.send(f"welcome to {websocket.path}")

    served = serve(on_connect=greet)
    with served.client("/open?x=1") as client:
        assert client.recv(timeout=DEADLINE) == "welcome to /open"
        assert talks(client)
    assert served.refusal("/closed") == (4003, "not today")


def test_on_connect_error_closes_1011(serve: Serve) -> None:
    """on_disconnect is still called once."""
    left = []

    async def fail(websocket: Any) -> None:
        raise ValueError("not ready")

    async def leave(websocket: Any) -> None:
        left.append(websocket.close_code)

    served = serve(on_connect=fail, on_disconnect=leave)
    assert served.refusal()[0] == 1011
    eventually(lambda: left == [1011])
    assert "ValueError: not ready" in served.log()


def test_on_disconnect_error_is_logged(serve: Serve) -> None:
    """The next client is served."""

    async def fail(websocket: Any) -> None:
        raise ValueError("goodbye")

    served = serve(on_disconnect=fail)
    with served.client() as client:
        assert talks(client)
    served.logged("on_disconnect failed for 127.0.0.1")
    with served.client() as client:
        assert talks(client)


def test_keepalive_silent_client_is_closed(serve: Serve) -> None:
    """A client that sends no pong is closed with 1011, and on_disconnect is called once."""
    import socket

    left: list[Any] = []

    async def leave(websocket: Any) -> None:
        left.append((websocket.close_code, websocket.close_reason))

    served = serve(on_disconnect=leave, ping_interval=0.2, ping_timeout=1, close_timeout=0.2)
    with socket.create_connection(("127.0.0.1", served.port), timeout=DEADLINE) as silent:
        silent.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        with served.client() as lively:
            eventually(lambda: left)
            assert talks(lively)
    assert served.handle.stop()
    assert [code for code, _ in left] == [1011, 1000]
    assert "keepalive" in left[0][1]


# --- mistakes ---


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ({"handler": "echo"}, r"handler must be a function of \(websocket, message\), got str"),
        ({"handler": lambda websocket: None}, r"handler must accept \(websocket, message\)"),
        ({"handler": lambda websocket, path, message: None}, r"handler must accept \(websocket, message\)"),
        ({"on_connect": lambda: None}, r"on_connect must accept \(websocket\)"),
        ({"on_disconnect": 5}, r"on_disconnect must be a function of \(websocket\), got int"),
    ],
)
def test_handler_with_wrong_parameters_raises(make_z: Any, functions: dict[str, Any], message: str) -> None:
    """At the start, not with the first client."""
    with pytest.raises(TypeError, match=message):
        make_z().comm.websocket.start_background(port=0, **functions)


@pytest.mark.parametrize("value", [None, 5, {"a": 1}, ["a"]])
def test_send_invalid_message_raises(serve: Serve, value: Any) -> None:
    """In the handler, in broadcast and in publish; for a dict the error says what to do."""
    errors: list[str] = []

    async def send(websocket: Any, message: str) -> None:
        for operation in (websocket.send, served.websocket.broadcast):
            try:
                await operation(value)
            except TypeError as error:
                errors.append(str(error))
        await websocket.send("done")

    served = serve(send)
    with served.client() as client:
        client.send("go")
        assert client.recv(timeout=DEADLINE) == "done"
    with pytest.raises(TypeError) as raised:
        served.websocket.publish(value)
    assert errors == [str(raised.value)] * 2
    assert ("json.dumps" in errors[0]) == isinstance(value, (dict, list))


def test_send_bytes_like_objects_works(serve: Serve) -> None:
    """bytearray and memoryview too."""

    async def send(websocket: Any, message: str) -> None:
        await websocket.send(bytearray(b"one"))
        await websocket.send(memoryview(b"two"))

    with serve(send).client() as client:
        client.send("go")
        assert [client.recv(timeout=DEADLINE), client.recv(timeout=DEADLINE)] == [b"one", b"two"]

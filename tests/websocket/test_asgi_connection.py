"""Connections that an ASGI server owns: messages, sending, limits and ends, over a server in memory."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from asgi_serving import InMemoryServer
from websocket_serving import DEADLINE

from zCLI import ConnectionClosed, zCLI

MakeZ = Callable[..., zCLI]


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    """Run a test in an event loop of its own, within a deadline."""
    asyncio.run(asyncio.wait_for(coroutine, DEADLINE * 2))


async def until(condition: Callable[[], Any]) -> None:
    """Wait until a condition is true, while the event loop runs."""

    async def wait() -> None:
        while not condition():
            await asyncio.sleep(0)

    await asyncio.wait_for(wait(), DEADLINE)


def test_asgi_echo_sends_text_and_bytes(make_z: MakeZ) -> None:
    """Text comes back as text and bytes as bytes, in order."""

    async def main() -> None:
        server = await InMemoryServer(make_z().comm.websocket.asgi()).open()
        server.put_text("hello")
        server.put("websocket.receive", bytes=b"\0\1", text=None)
        assert await server.next() == {"type": "websocket.send", "text": "hello"}
        assert await server.next() == {"type": "websocket.send", "bytes": b"\0\1"}
        await server.leave()

    run(main())


def test_asgi_handler_has_a_task_and_timeouts(make_z: MakeZ) -> None:
    """current_task is the same for all messages, is not the server's, and can be cancelled by a timeout."""
    seen: list[Any] = []

    async def handler(websocket: Any, message: str) -> None:
        seen.append(asyncio.current_task())
        try:
            await asyncio.wait_for(asyncio.Event().wait(), 0.001)
        except (TimeoutError, asyncio.TimeoutError):
            await websocket.send("timed out")

    async def main() -> None:
        server = await InMemoryServer(make_z().comm.websocket.asgi(handler)).open()
        for _ in range(2):
            server.put_text("x")
            assert (await server.next())["text"] == "timed out"
        await server.leave()
        assert seen[0] is seen[1]
        assert seen[0] not in (None, server.task)

    run(main())


def test_asgi_handler_sees_context_of_the_server(make_z: MakeZ) -> None:
    """Context variables of the server's task are visible, and those that a handler sets last until the next message."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="none")

    async def handler(websocket: Any, message: str) -> None:
        await websocket.send(variable.get())
        variable.set(message)

    async def main() -> None:
        app = make_z().comm.websocket.asgi(handler)

        async def middleware(scope: Any, receive: Any, send: Any) -> None:
            variable.set("middleware")
            await app(scope, receive, send)
            assert variable.get() == "middleware"
            assert asyncio.current_task() is server.task

        server = await InMemoryServer(middleware).open()
        for text in ("one", "two"):
            server.put_text(text)
        expected = ["middleware", "one"]
        assert [(await server.next())["text"] for _ in range(2)] == expected
        await server.leave()

    run(main())


def test_asgi_callbacks_run_in_order(make_z: MakeZ) -> None:
    """on_connect, the handler and on_disconnect run in order, and the application returns after on_disconnect."""
    calls: list[Any] = []

    async def on_connect(websocket: Any) -> None:
        await asyncio.sleep(0)
        calls.append("connect")

    async def handler(websocket: Any, message: str) -> None:
        await asyncio.sleep(0)
        calls.append(message)

    async def on_disconnect(websocket: Any) -> None:
        await asyncio.sleep(0.01)
        calls.append((websocket.close_code, websocket.close_reason))

    async def main() -> None:
        app = make_z().comm.websocket.asgi(handler, on_connect=on_connect, on_disconnect=on_disconnect)
        server = await InMemoryServer(app).open()
        server.put_text("one")
        server.put_text("two")
        await server.leave(4001, reason="done")
        assert calls == ["connect", "one", "two", (4001, "done")]

    run(main())


def test_asgi_handler_error_closes_with_1011(make_z: MakeZ) -> None:
    """A handler that raises ends its own connection."""

    async def handler(websocket: Any, message: str) -> None:
        raise ValueError("a fault")

    async def main() -> None:
        server = await InMemoryServer(make_z().comm.websocket.asgi(handler)).open()
        server.put_text("x")
        assert (await server.next())["code"] == 1011
        await server.leave(1011)

    run(main())


def test_asgi_blocked_send_keeps_the_order(make_z: MakeZ) -> None:
    """While the server does not accept a message, the following ones wait, and all arrive in order."""

    async def handler(websocket: Any, message: str) -> None:
        for number in range(5):
            websocket._connection.send(f"{message} {number}")

    async def main() -> None:
        z = make_z()
        server = await InMemoryServer(z.comm.websocket.asgi(handler)).open()
        server.writable.clear()
        server.put_text("a")
        (client,) = z.comm.websocket.clients
        await until(lambda: client._connection.write_buffer_size == 15)
        assert client._connection.write_paused
        assert server.sent.empty()
        drained = asyncio.ensure_future(client._connection.drain())
        server.writable.set()
        assert [(await server.next())["text"] for _ in range(5)] == [f"a {number}" for number in range(5)]
        await drained
        assert not client._connection.write_paused
        assert client._connection.write_buffer_size == 0
        await server.leave()

    run(main())


def test_asgi_slow_client_is_closed_with_1013(make_z: MakeZ) -> None:
    """A client that leaves more than max_send_buffer unread is closed, and a blocked send ends with close_timeout."""
    ends: list[Any] = []

    async def on_disconnect(websocket: Any) -> None:
        ends.append(websocket.close_code)

    async def main() -> None:
        z = make_z(max_send_buffer=65536, close_timeout=0.05)
        server = await InMemoryServer(z.comm.websocket.asgi(on_disconnect=on_disconnect)).open()
        server.writable.clear()
        counts = [await z.comm.websocket.broadcast("x" * 30000) for _ in range(4)]
        assert counts == [1, 1, 0, 0]
        await server.ended()  # although neither the client nor send() does anything
        assert ends == [1013]
        assert z.comm.websocket.slow_client_count == 1
        assert z.comm.websocket.client_count == 0

    run(main())


def test_asgi_slow_client_of_empty_messages_is_closed(make_z: MakeZ) -> None:
    """Messages without content need memory, too."""

    async def main() -> None:
        z = make_z(max_send_buffer=65536, close_timeout=0.05)
        server = await InMemoryServer(z.comm.websocket.asgi()).open()
        server.writable.clear()
        assert sum([await z.comm.websocket.broadcast("") for _ in range(1000)]) < 500
        await server.ended()
        assert z.comm.websocket.slow_client_count == 1

    run(main())


def test_asgi_send_waits_for_a_slow_client(make_z: MakeZ) -> None:
    """``await websocket.send()`` returns when the server has accepted the message."""
    done: list[str] = []

    async def handler(websocket: Any, message: str) -> None:
        await websocket.send(message)
        done.append(message)

    async def main() -> None:
        server = await InMemoryServer(make_z().comm.websocket.asgi(handler)).open()
        server.writable.clear()
        server.put_text("slow")
        await until(server.events.empty)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not done
        server.writable.set()
        assert (await server.next())["text"] == "slow"
        await until(lambda: done)
        await server.leave()

    run(main())


def test_asgi_cancelled_send_loses_nothing_silently(make_z: MakeZ) -> None:
    """If the server cancels what its ``send`` waits for, the messages behind it are lost, and so is the connection."""
    ends: list[Any] = []

    async def on_disconnect(websocket: Any) -> None:
        ends.append(websocket.close_code)

    async def main() -> None:
        z = make_z(close_timeout=0.05)
        server = await InMemoryServer(z.comm.websocket.asgi(on_disconnect=on_disconnect)).open()
        waiting: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        server.writable.wait = lambda: waiting  # type: ignore[method-assign, assignment, return-value]
        assert [await z.comm.websocket.broadcast(text) for text in ("slow", "next")] == [1, 1]
        del server.writable.wait  # what follows could be sent
        waiting.cancel()
        await until(lambda: not z.comm.websocket.clients[0]._connection.write_paused)
        assert await z.comm.websocket.broadcast("third") == 0
        await server.ended()
        assert ends == [1006]

    run(main())


@pytest.mark.parametrize("error", [OSError("gone"), RuntimeError("after close")])
def test_asgi_failed_send_ends_quietly(make_z: MakeZ, caplog: pytest.LogCaptureFixture, error: Exception) -> None:
    """If ``send`` raises because the client is gone, the handler gets ConnectionClosed and nothing is logged."""
    raised: list[Any] = []

    async def handler(websocket: Any, message: str) -> None:
        try:
            await websocket.send(message)
        except ConnectionClosed as closed:
            raised.append(closed.code)
            raise

    async def main() -> None:
        server = await InMemoryServer(make_z().comm.websocket.asgi(handler)).open()
        server.error = error
        server.put_text("x")
        await until(lambda: raised)
        await server.leave(1001, reason="page closed")
        assert raised == [1006]

    run(main())
    assert not [record for record in caplog.records if record.levelname in ("WARNING", "ERROR")]


def test_asgi_client_that_never_leaves_is_given_up(make_z: MakeZ) -> None:
    """The application returns after close_timeout if the server does not report the end, without a cancellation."""

    async def handler(websocket: Any, message: str) -> None:
        await websocket.close(4000, "bye")

    async def main() -> None:
        server = await InMemoryServer(make_z(close_timeout=0.05).comm.websocket.asgi(handler)).open()
        server.put_text("x")
        assert await server.next() == {"type": "websocket.close", "code": 4000, "reason": "bye"}
        await server.ended()
        assert not server.task.cancelled()

    run(main())


def test_asgi_cancelled_receive_ends_the_connection(make_z: MakeZ) -> None:
    """A server that cancels the application ends the connection as lost, and on_disconnect runs."""
    ends: list[Any] = []

    async def on_disconnect(websocket: Any) -> None:
        await asyncio.sleep(0)
        ends.append(websocket.close_code)

    async def main() -> None:
        z = make_z()
        server = await InMemoryServer(z.comm.websocket.asgi(on_disconnect=on_disconnect)).open()
        await asyncio.sleep(0)
        server.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await server.task
        assert ends == [1006]
        assert z.comm.websocket.client_count == 0

    run(main())


def test_asgi_handler_outlives_its_connection(make_z: MakeZ) -> None:
    """A handler that still runs when its client leaves gets ConnectionClosed; the application does not wait forever."""
    release: list[asyncio.Event] = []
    raised: list[Any] = []

    async def handler(websocket: Any, message: str) -> None:
        release.append(asyncio.Event())
        await release[0].wait()
        try:
            await websocket.send("late")
        except ConnectionClosed as closed:
            raised.append(closed.code)
            raise

    async def main() -> None:
        server = await InMemoryServer(make_z(close_timeout=0.05).comm.websocket.asgi(handler)).open()
        server.put_text("x")
        await until(lambda: release)
        await server.leave(1001, reason="")
        release[0].set()
        await until(lambda: raised)
        assert raised == [1001]

    run(main())


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"code": 1000, "reason": "fine"}, (1000, "fine")),
        ({"code": 1005, "reason": ""}, (1005, "")),
        ({"code": 1005}, (1006, "the client left without a close frame")),
        ({"code": 1006}, (1006, "the client left without a close frame")),
        ({"code": 1012, "reason": None}, (1012, "")),
        ({}, (1006, "the client left without a close frame")),
    ],
)
def test_asgi_disconnect_event_gives_code(make_z: MakeZ, fields: dict[str, Any], expected: tuple[int, str]) -> None:
    """The code and reason are those of the event; without a close frame the code is 1006."""
    ends: list[Any] = []

    async def on_disconnect(websocket: Any) -> None:
        ends.append((websocket.close_code, websocket.close_reason))

    async def main() -> None:
        server = await InMemoryServer(make_z().comm.websocket.asgi(on_disconnect=on_disconnect)).open()
        server.put("websocket.disconnect", **fields)
        await server.ended()
        assert ends == [expected]

    run(main())


@pytest.mark.parametrize("message", ["x" * 101, "ä" * 51, b"x" * 101])
def test_asgi_message_over_max_size_is_closed(make_z: MakeZ, message: Any) -> None:
    """A message over max_size, in bytes of UTF-8, is closed with 1009; the messages before it are handled."""

    async def main() -> None:
        server = await InMemoryServer(make_z(max_size=100).comm.websocket.asgi()).open()
        server.put_text("x" * 100)
        server.put("websocket.receive", **{"text" if isinstance(message, str) else "bytes": message})
        server.put_text("not handled")
        assert (await server.next())["text"] == "x" * 100
        assert (await server.next())["code"] == 1009
        await server.leave(1009)
        assert server.sent.empty()

    run(main())


def test_asgi_busy_client_lets_others_run(make_z: MakeZ) -> None:
    """A client whose messages are always ready does not stop the event loop."""

    async def main() -> None:
        server = await InMemoryServer(make_z().comm.websocket.asgi()).open()
        for _ in range(1000):
            server.put_text("x")
        turns = 0
        while server.sent.qsize() < 1000:
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 1000 // 128
        await server.leave()

    run(main())


def test_asgi_full_queue_stops_receiving(make_z: MakeZ) -> None:
    """While a handler is busy and its queue is full, ``receive`` is not called, so that the server slows the client."""
    release: list[asyncio.Event] = []

    async def handler(websocket: Any, message: str) -> None:
        if not release:
            release.append(asyncio.Event())
        await release[0].wait()
        await websocket.send(message)

    async def main() -> None:
        server = await InMemoryServer(make_z().comm.websocket.asgi(handler)).open()
        for number in range(100):
            server.put_text(str(number))
        await until(lambda: release)
        for _ in range(300):
            await asyncio.sleep(0)
        assert server.events.qsize() > 50
        release[0].set()
        assert [(await server.next())["text"] for _ in range(100)] == [str(number) for number in range(100)]
        await server.leave()

    run(main())


def test_asgi_ping_raises_not_implemented(make_z: MakeZ) -> None:
    """ASGI has no pings, and the error says who sends them."""
    raised: list[BaseException] = []

    async def handler(websocket: Any, message: str) -> None:
        try:
            await websocket.ping()
        except NotImplementedError as error:
            raised.append(error)
        assert websocket.latency == 0.0

    async def main() -> None:
        server = await InMemoryServer(make_z().comm.websocket.asgi(handler)).open()
        server.put_text("x")
        await until(lambda: raised)
        assert "ASGI has no pings" in str(raised[0])
        await server.leave()

    run(main())


def test_asgi_plain_handler_runs_in_a_thread(make_z: MakeZ) -> None:
    """A plain handler may block and send."""

    def handler(websocket: Any, message: str) -> None:
        websocket.send(message.upper())

    async def main() -> None:
        server = await InMemoryServer(make_z().comm.websocket.asgi(handler)).open()
        server.put_text("x")
        assert (await server.next())["text"] == "X"
        await server.leave()

    run(main())


def test_asgi_send_with_timeout_inside_works(make_z: MakeZ) -> None:
    """A ``send`` that needs a current task also works for a broadcast from another thread."""

    async def main() -> None:
        z = make_z()
        app = z.comm.websocket.asgi()

        async def middleware(scope: Any, receive: Any, send: Any) -> None:
            async def timed(event: Any) -> None:
                await asyncio.wait_for(send(event), DEADLINE)

            await app(scope, receive, timed)

        server = await InMemoryServer(middleware).open()
        future = await asyncio.to_thread(z.comm.websocket.publish, "hello")
        assert (await server.next())["text"] == "hello"
        assert await asyncio.wrap_future(future) == 1
        await server.leave()

    run(main())

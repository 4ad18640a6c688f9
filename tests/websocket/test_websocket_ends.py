"""How connections end: received messages are handled, callbacks never overlap, an error closes one connection."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, cast

import pytest
from websocket_serving import DEADLINE, Certificates, Served, end_of, eventually, talks
from zcli_wsproto.transport import WsprotoListener

from zcli_core.errors import ConnectionClosed
from zcli_core.net.headers import Headers
from zcli_core.testing.websocket.client import Client, upgrade_request
from zcli_core.testing.websocket.frames import TEXT, close, frame
from zcli_core.websocket.contract import Limits, Request

Serve = Callable[..., Served]
without_uvloop = pytest.mark.skipif(find_spec("uvloop") is None, reason="uvloop is not installed")
on_both_loops = pytest.mark.parametrize("loop", ["asyncio", pytest.param("uvloop", marks=without_uvloop)])


def raw(served: Served) -> Client:
    """A client whose bytes the test sends itself."""
    sock = socket.create_connection(("127.0.0.1", served.port), timeout=DEADLINE)
    return Client(sock, upgrade_request(target="/"))


def leave(client: Client, how: str) -> None:
    """End the connection with a close frame, with the end of TCP, or abruptly."""
    if how == "close":
        client.send(close(1000))
    elif how == "eof":
        client.sock.shutdown(socket.SHUT_WR)
    elif how == "killed":
        client.sock.close()


# --- what arrived before the end ---


@on_both_loops
@pytest.mark.parametrize("how", ["close", "eof", "killed"])
@pytest.mark.parametrize("kind", ["async", "quick", "plain", "iterating", "receiving"])
def test_end_handles_received_messages_first(serve: Serve, kind: str, how: str, loop: str) -> None:
    """All of them, in order, then on_disconnect, however slow the handler is."""
    events: list[Any] = []
    count = 60

    async def slow(websocket: Any, message: str) -> None:
        await asyncio.sleep(0.001)
        events.append(message)
        await websocket.send(message)

    async def quick(websocket: Any, message: str) -> None:
        events.append(message)
        await websocket.send(message)

    def plain(websocket: Any, message: str) -> None:
        events.append(message)
        websocket.send(message)

    async def iterate(websocket: Any) -> None:
        async for message in websocket:
            await asyncio.sleep(0.001)
            events.append(message)

    def receive(websocket: Any) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                events.append(websocket.recv())

    async def gone(websocket: Any) -> None:
        events.append(websocket.close_code)

    handler: Any = {"async": slow, "quick": quick, "plain": plain}.get(kind)
    on_connect: Any = {"iterating": iterate, "receiving": receive}.get(kind)
    served = serve(handler, on_connect=on_connect, on_disconnect=gone, loop=loop)
    with raw(served) as client:
        client.send(*[frame(TEXT, b"%d" % at) for at in range(count)])
        leave(client, how)
        eventually(lambda: len(events) > count)
    assert events == [*map(str, range(count)), 1000 if how == "close" else 1006]
    assert "not handled" not in served.log()
    assert "Traceback" not in served.log()


@on_both_loops
@pytest.mark.parametrize("count", [20, 100])
def test_half_closed_client_gets_all_messages(serve: Serve, count: int, loop: str) -> None:
    """Also those that are still buffered when the last message is handled."""
    ended = threading.Event()

    async def iterate(websocket: Any) -> None:
        async for message in websocket:
            await websocket.send(message)
            while message == "wait" and not ended.is_set():
                await asyncio.sleep(0.001)

    served = serve(None, on_connect=iterate, loop=loop)
    with raw(served) as client:
        for _ in range(3):  # until responses are collected
            client.send(frame(TEXT, b"a") * 3)
            assert [client.read_message()[1] for _ in range(3)] == [b"a"] * 3
        client.send(frame(TEXT, b"wait") + frame(TEXT, b"b") * count)
        client.sock.shutdown(socket.SHUT_WR)
        (connection,) = (one._connection for one in served.websocket.clients)
        eventually(lambda: connection._gone)
        ended.set()
        assert client.read_message()[1] == b"wait"
        assert [found.payload for found in client.read_to_end()] == [b"b"] * count


@pytest.mark.parametrize("how", ["close", "eof"])
def test_end_over_tls_handles_received_messages(serve: Serve, certificates: Certificates, how: str) -> None:
    """TLS makes no difference."""
    events: list[Any] = []

    async def slow(websocket: Any, message: str) -> None:
        await asyncio.sleep(0.001)
        events.append(message)
        await websocket.send(message)

    async def gone(websocket: Any) -> None:
        events.append(websocket.close_code)

    cert, key = certificates.issue("server")
    served = serve(slow, on_disconnect=gone, ssl_enabled=True, ssl_cert=str(cert), ssl_key=str(key))
    sock = socket.create_connection(("127.0.0.1", served.port), timeout=DEADLINE)
    with Client(certificates.trusting().wrap_socket(sock, server_hostname="localhost"), upgrade_request()) as client:
        client.send(*[frame(TEXT, b"%d" % at) for at in range(60)], close(1000) if how == "close" else b"")
        if how == "eof":
            client.sock.close()
        eventually(lambda: len(events) > 60)
    assert events == [*map(str, range(60)), 1000 if how == "close" else 1006]


@pytest.mark.parametrize("how", ["close", "killed"])
def test_close_timeout_counts_dropped_messages(serve: Serve, how: str) -> None:
    """After close_timeout the rest is dropped and logged, and the client does not get 1000."""
    begun: list[str] = []
    codes: list[int] = []

    async def stuck(websocket: Any, message: str) -> None:
        begun.append(message)
        await asyncio.sleep(3600)

    async def gone(websocket: Any) -> None:
        codes.append(websocket.close_code)

    served = serve(stuck, on_disconnect=gone, close_timeout=0.2, drain_timeout=0)
    with raw(served) as client:
        client.send(*[frame(TEXT, b"%d" % at) for at in range(40)])
        eventually(lambda: begun)
        leave(client, how)
        if how == "close":
            assert client.ending()[1:] == (1011, "messages before the close were not handled in time")
        assert "39 messages of 127.0.0.1:" in served.logged("arrived before the connection ended were not handled")
    assert begun == ["0"]
    assert served.handle.stop()
    assert codes == [1000 if how == "close" else 1006]


def test_streaming_handler_does_not_delay_close(serve: Serve) -> None:
    """If no message waits, the client's close frame is answered after a short time."""

    async def stream(websocket: Any) -> None:
        while True:
            await websocket.send("tick")
            await asyncio.sleep(0.01)

    served = serve(on_connect=stream, close_timeout=60)
    with raw(served) as client:
        client.send(close(1000))
        assert client.ending().code == 1000
    eventually(lambda: not served.websocket._servers[0].sessions._disconnecting)
    assert "failed" not in served.log()


def test_close_by_handler_drops_messages_quietly(serve: Serve) -> None:
    """The handler is not called again, and there is no warning."""
    seen: list[str] = []

    async def handler(websocket: Any, message: str) -> None:
        seen.append(message)
        await websocket.close(4000, "enough")

    served = serve(handler)
    with raw(served) as client:
        client.send(*[frame(TEXT, b"%d" % at) for at in range(5)])
        assert client.ending()[1:] == (4000, "enough")
        eventually(lambda: served.websocket.client_count == 0)
    assert seen == ["0"]
    assert "WARNING" not in served.log()


@pytest.mark.parametrize("code", [1013, 1011])
def test_close_1013_by_handler_is_not_slow(serve: Serve, code: int) -> None:
    """The cause counts, not the code."""

    async def close_it(websocket: Any, message: str) -> None:
        await websocket.close(code, "come back later")

    served = serve(close_it)
    with served.client() as client:
        client.send("go")
        assert end_of(client) == (code, "come back later")
    eventually(lambda: served.websocket.client_count == 0)
    assert served.websocket.slow_client_count == 0
    assert "too slowly" not in served.log()


# --- callbacks ---


@pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
@pytest.mark.parametrize("where", ["on_connect", "handler"])
def test_on_disconnect_waits_for_callbacks(serve: Serve, plain: bool, where: str) -> None:
    """For on_connect and for the handler, even if the connection ended long before."""
    events: list[str] = []
    go_on = threading.Event()

    async def wait(websocket: Any, message: str = "") -> None:
        events.append("begins")
        while not go_on.is_set():
            await asyncio.sleep(0.001)
        events.append("ends")

    def wait_plain(websocket: Any, message: str = "") -> None:
        events.append("begins")
        go_on.wait(DEADLINE)
        events.append("ends")

    async def gone(websocket: Any) -> None:
        events.append("disconnect")

    def gone_plain(websocket: Any) -> None:
        events.append("disconnect")

    function: Any = wait_plain if plain else wait
    served = serve(**{where: function}, on_disconnect=gone_plain if plain else gone, close_timeout=0.1)
    with raw(served) as client:
        if where == "handler":
            client.send(frame(TEXT, b"x"))
        eventually(lambda: events)
    eventually(lambda: served.websocket.client_count == 0)
    assert events == ["begins"]
    go_on.set()
    eventually(lambda: len(events) == 3)
    assert events == ["begins", "ends", "disconnect"]


def test_on_disconnect_blocked_thread_is_logged(serve: Serve) -> None:
    """A plain handler that does not return cannot be ended; the log says so when the server stops."""
    events: list[str] = []
    go_on = threading.Event()

    def block(websocket: Any, message: str) -> None:
        events.append("begins")
        go_on.wait(DEADLINE)

    served = serve(block, on_disconnect=lambda websocket: events.append("disconnect"), drain_timeout=0)
    try:
        with raw(served) as client:
            client.send(frame(TEXT, b"x"))
            eventually(lambda: events)
            stopping = threading.Thread(target=served.handle.stop)
            stopping.start()
            assert client.ending().code == 1001
            stopping.join(DEADLINE)
    finally:
        go_on.set()
    assert events == ["begins"]
    assert "still running in its thread, so on_disconnect is not called" in served.log()


# --- errors ---


def _raise(what: str) -> Any:
    if what == "SystemExit":
        sys.exit(2)
    if what == "CancelledError":
        raise asyncio.CancelledError
    if what == "KeyboardInterrupt":
        raise KeyboardInterrupt
    if what == "GeneratorExit":
        raise GeneratorExit
    raise BaseException("of all things")


ERRORS = ["SystemExit", "CancelledError", "KeyboardInterrupt", "GeneratorExit", "BaseException"]


@on_both_loops
@pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
@pytest.mark.parametrize("where", ["handler", "on_connect", "after a wait", "in a task"])
@pytest.mark.parametrize("what", ERRORS)
def test_handler_any_exception_closes_its_connection(
    serve: Serve, what: str, where: str, plain: bool, loop: str
) -> None:
    """With 1011 and a log line; other connections continue."""
    if plain and where in ("after a wait", "in a task"):
        pytest.skip("for async functions")
    if what == "GeneratorExit" and where == "in a task":
        pytest.skip("a task that raises it has been closed")

    async def fail(websocket: Any, message: str = "") -> None:
        if message == "fail" or websocket.path == "/fail":
            if where == "after a wait":
                await asyncio.sleep(0)
            if where == "in a task":
                await asyncio.ensure_future(fail_in_task())
            _raise(what)
        if message:
            await websocket.send(message)

    async def fail_in_task() -> None:
        await asyncio.sleep(0)
        _raise(what)

    def fail_plain(websocket: Any, message: str = "") -> None:
        if message == "fail" or websocket.path == "/fail":
            _raise(what)
        if message:
            websocket.send(message)

    function: Any = fail_plain if plain else fail
    left: list[int] = []
    served = serve(
        function,
        on_connect=function if where == "on_connect" else None,
        on_disconnect=lambda websocket: left.append(websocket.close_code),
        loop=loop,
    )
    with served.client() as other:
        with served.client("/fail" if where == "on_connect" else "/") as client:
            if where != "on_connect":
                client.send("fail")
            assert end_of(client) == (1011, "the server failed to handle a message")
        assert talks(other)
        served.logged("the handler failed on 127.0.0.1")
        served.logged(what)
        eventually(lambda: left == [1011])
        assert served.websocket.is_running


@pytest.mark.parametrize("what", ERRORS)
def test_on_disconnect_any_exception_is_logged(serve: Serve, what: str) -> None:
    """The next client is served."""

    async def fail(websocket: Any) -> None:
        _raise(what)

    served = serve(on_disconnect=fail)
    with served.client() as client:
        assert talks(client)
    served.logged("on_disconnect failed for 127.0.0.1")
    with served.client() as client:
        assert talks(client)


@pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
@pytest.mark.parametrize("operation", ["send", "ping", "recv"])
def test_closed_of_other_connection_is_an_error(serve: Serve, operation: str, plain: bool) -> None:
    """It is logged, and the sender's connection is closed with 1011."""
    others: list[Any] = []
    arguments = ("for you",) if operation == "send" else ()

    async def handler(websocket: Any, message: str) -> None:
        if message == "I am the other":
            others.append(websocket)
        else:
            await getattr(others[0], operation)(*arguments)

    def handler_plain(websocket: Any, message: str) -> None:
        if message == "I am the other":
            others.append(websocket)
        else:
            getattr(others[0], operation)(*arguments)

    served = serve(handler_plain if plain else handler)
    with served.client() as client:
        with served.client() as other:
            other.send("I am the other")
            eventually(lambda: others)
        eventually(lambda: served.websocket.client_count == 1)
        client.send("go")
        assert end_of(client)[0] == 1011
    assert "ConnectionClosed" in served.logged("the handler failed")


@pytest.mark.skipif(sys.version_info < (3, 11), reason="task groups came with Python 3.11")
@pytest.mark.parametrize("mixed", [False, True], ids=["ends", "mixed"])
def test_closed_in_task_group_is_not_an_error(serve: Serve, mixed: bool) -> None:
    """Another error in the group is logged."""
    left: list[int] = []

    async def serve_both(websocket: Any) -> None:
        async def tell() -> None:
            while True:
                await websocket.send("tick")
                await asyncio.sleep(0.001)

        async def listen() -> None:
            try:
                await websocket.recv()
            finally:
                if mixed:
                    raise LookupError("of all things")

        async with asyncio.TaskGroup() as group:
            group.create_task(tell())
            group.create_task(listen())

    served = serve(on_connect=serve_both, on_disconnect=lambda websocket: left.append(websocket.close_code))
    with raw(served) as client:
        assert client.read_message() == (TEXT, b"tick")
        client.send(close(1000))
        client.read_to_end()
    eventually(lambda: left == [1000])
    assert ("LookupError" in served.log()) == mixed
    assert ("the handler failed" in served.log()) == mixed


# --- the end of the server ---


@on_both_loops
@pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
def test_stop_lets_busy_handlers_finish(serve: Serve, plain: bool, loop: str) -> None:
    """With the messages that wait behind them; a handler that waits for a message is closed at once."""
    stopping = threading.Event()
    begun: list[str] = []

    async def answer(websocket: Any, message: str) -> None:
        begun.append(message)
        while not stopping.is_set():
            await asyncio.sleep(0.001)
        await websocket.send(f"answer {message}")

    def answer_plain(websocket: Any, message: str) -> None:
        begun.append(message)
        stopping.wait(DEADLINE)
        websocket.send(f"answer {message}")

    served = serve(answer_plain if plain else answer, drain_timeout=60, loop=loop)
    with served.client() as busy, served.client() as idle:
        for message in ("1", "2", "3"):
            busy.send(message)
        eventually(lambda: begun)
        stopper = threading.Thread(target=served.handle.stop)
        stopper.start()
        assert end_of(idle) == (1001, "the server is shutting down")
        stopping.set()
        assert [busy.recv(timeout=DEADLINE) for _ in range(3)] == ["answer 1", "answer 2", "answer 3"]
        assert end_of(busy) == (1001, "the server is shutting down")
        stopper.join(DEADLINE)
    assert "not handled" not in served.log()


@pytest.mark.parametrize("plain", [False, True], ids=["async", "plain"])
@pytest.mark.parametrize("waits_in", ["recv", "iteration", "wait_closed", "close"])
def test_stop_does_not_wait_for_idle_handlers(serve: Serve, waits_in: str, plain: bool) -> None:
    """A handler that waits for a message or for the end of its connection is idle."""
    waiting = threading.Event()

    async def handler(websocket: Any) -> None:
        waiting.set()
        if waits_in == "iteration":
            async for _ in websocket:
                pass
        else:
            await getattr(websocket, waits_in)()

    def handler_plain(websocket: Any) -> None:
        waiting.set()
        if waits_in == "iteration":
            for _ in websocket:
                pass
        else:
            getattr(websocket, waits_in)()

    served = serve(on_connect=handler_plain if plain else handler, drain_timeout=3600)
    with raw(served) as client:
        assert waiting.wait(DEADLINE)
        stopper = threading.Thread(target=served.handle.stop)
        stopper.start()
        assert client.ending().code == (1000 if waits_in == "close" else 1001)
        stopper.join(DEADLINE)
        assert served.handle.wait(DEADLINE)


def test_stop_logs_dropped_messages(serve: Serve) -> None:
    """After drain_timeout, the messages behind a busy handler are dropped."""
    begun: list[str] = []

    async def stuck(websocket: Any, message: str) -> None:
        begun.append(message)
        await asyncio.sleep(3600)

    served = serve(stuck, drain_timeout=0.05)
    with served.client() as client:
        for message in "abc":
            client.send(message)
        eventually(lambda: begun)
        stopper = threading.Thread(target=served.handle.stop)
        stopper.start()
        assert end_of(client)[0] == 1001
        stopper.join(DEADLINE)
    assert "2 messages of 127.0.0.1:" in served.logged("were not handled")


def test_stop_does_not_wait_for_refused_clients(serve: Serve) -> None:
    """They have received their close frame, and their response does not matter."""
    served = serve(require_auth=True, token="right", close_timeout=3600, drain_timeout=0)
    with raw(served) as client:
        assert client.read().payload[:2] == struct.pack("!H", 1008)
        began = time.monotonic()
        assert served.handle.stop()
        assert time.monotonic() - began < DEADLINE
        assert client.sock.recv(1) == b""


# --- waiting with a timeout, in threads ---


def test_recv_timeout_keeps_later_message(serve: Serve) -> None:
    """The next call gets a message that arrives later; 0 does not wait."""
    found: list[Any] = []
    asked = threading.Event()

    def handler(websocket: Any, message: str) -> None:
        for timeout in (0, 0.01):
            try:
                found.append(websocket.recv(timeout=timeout))
            except TimeoutError as error:
                found.append(str(error))
        asked.set()
        found.append(websocket.recv(timeout=DEADLINE))
        websocket.send("done")

    with serve(handler).client() as client:
        client.send("hi")
        assert asked.wait(DEADLINE)
        client.send("late")
        assert client.recv(timeout=DEADLINE) == "done"
    assert found == ["no message arrived within 0 s", "no message arrived within 0.01 s", "late"]


@pytest.mark.parametrize("timeout", [-1, "1", float("nan"), float("inf")])
def test_recv_invalid_timeout_raises(serve: Serve, timeout: Any) -> None:
    """The error is raised before the wait."""
    errors: list[str] = []

    def handler(websocket: Any, message: str) -> None:
        for wait in (websocket.recv, websocket.ping, websocket.wait_closed):
            with pytest.raises(ValueError, match="timeout must be a number of seconds") as caught:
                wait(timeout=timeout)
            errors.append(str(caught.value))
        websocket.send("done")

    with serve(handler).client() as client:
        client.send("hi")
        assert client.recv(timeout=DEADLINE) == "done"
    assert len(errors) == 3


def test_ping_and_wait_closed_time_out(serve: Serve) -> None:
    """The client sends no pong and does not close."""
    found: list[Any] = []

    def handler(websocket: Any, message: str) -> None:
        for wait in (websocket.ping, websocket.wait_closed):
            with contextlib.suppress(TimeoutError):
                wait(timeout=0.01)
                continue
            found.append(wait)
        websocket.send("done")

    with raw(serve(handler)) as client:
        client.send(frame(TEXT, b"hi"))
        while client.read().payload != b"done":
            pass
    assert len(found) == 2


# --- a handler that cancels its own task ---


@pytest.mark.parametrize("where", ["at once", "after waiting", "on_connect"])
def test_handler_cancelling_itself_is_logged(serve: Serve, where: str) -> None:
    """It closes its connection with 1011 like any other error, and on_disconnect is called."""
    left: list[int] = []

    async def handler(websocket: Any, message: str) -> None:
        if where == "after waiting":
            await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        task.cancel()

    async def on_connect(websocket: Any) -> None:
        await handler(websocket, "")

    served = serve(
        handler,
        on_connect=on_connect if where == "on_connect" else None,
        on_disconnect=lambda websocket: left.append(websocket.close_code),
    )
    with served.client() as client:
        if where != "on_connect":
            client.send("cancel yourself")
        assert end_of(client) == (1011, "the server failed to handle a message")
    eventually(lambda: left == [1011])
    assert "the handler failed on" in served.logged("CancelledError")


# --- a client that could not be registered ---


def test_opened_hook_error_forgets_the_client(serve: Serve) -> None:
    """The client is closed with 1011 and not counted, and no callback runs for it."""
    events: list[str] = []
    served = serve(
        on_connect=lambda websocket: events.append("connect"),
        on_disconnect=lambda websocket: events.append("disconnect"),
        max_connections_per_address=1,
    )

    def fail(record: logging.LogRecord) -> bool:
        if "connected" in record.msg:
            raise RuntimeError("no line today")
        return True

    served.websocket._log.addFilter(fail)
    for _ in range(2):
        assert served.refusal() == (1011, "the server failed to open the connection")
    served.websocket._log.removeFilter(fail)
    assert not events
    with served.client() as client:
        assert talks(client)


# --- one bound for an end ---


def test_close_timeout_counts_once() -> None:
    """A client whose messages were not handled in time gets no second close_timeout to read the close frame."""

    class Busy:
        def message(self, message: Any) -> bool:
            return False

        def end(self) -> bool:
            return False

        def closed(self, closed: Any) -> None:
            pass

    class Unread(asyncio.Transport):
        def write(self, data: Any) -> None:
            pass

        def can_write_eof(self) -> bool:
            return True

        def write_eof(self) -> None:
            pass

        def get_write_buffer_size(self) -> int:
            return 1

    async def run() -> None:
        loop = asyncio.get_running_loop()
        listener: Any = WsprotoListener(cast("Any", None), Limits(close_timeout=60), logging.getLogger("test"))
        request = Request("GET", "/", "", Headers(), None, None, False)
        connection = listener.connection(Unread(), request, None)
        connection.start(Busy(), frame(TEXT, b"not handled") + close(1000))
        connection._give_up()
        assert connection._closing_timer.when() - loop.time() < 60 / 2
        connection._stop_timer()

    asyncio.run(run())

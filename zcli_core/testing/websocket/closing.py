"""Contract suite, part: the end of connections, by the server, by the client, or by a lost network."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from zcli_core.errors import ConnectionClosed
from zcli_core.testing.certificates import client_tls, server_tls
from zcli_core.testing.websocket.client import (
    PATIENCE,
    Frame,
    read_all,
    reset,
    until,
)
from zcli_core.testing.websocket.decisions import FLOOD
from zcli_core.testing.websocket.flow_control import (
    Holding,
    Silent,
    fill,
)
from zcli_core.testing.websocket.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    TEXT,
    close,
    frame,
)
from zcli_core.testing.websocket.server import (
    Echo,
    ServerUnderTest,
)
from zcli_core.testing.websocket.suite import (
    Serve,
    WebSocketSuite,
    requires,
)
from zcli_core.websocket.contract import (
    Capability,
    Cause,
    Closed,
    ClosedBy,
    Connection,
    Endpoint,
    Limits,
    Message,
    Refuse,
    State,
)

#: Codes that must not be sent (RFC 6455, 7.4).
UNSENDABLE = [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65000, -1]


class Busy(Echo):
    """A receiver whose ``end`` returns False, so that the end waits for ``resume_delivery``."""

    def end(self) -> bool:
        """Record the call and return False."""
        self.server.messages.append("end")
        return False


def half_close(sock: socket.socket) -> None:
    """End the client's data and go on reading."""
    if isinstance(sock, ssl.SSLSocket):
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.unwrap()
    else:
        sock.shutdown(socket.SHUT_WR)


class ClosingTests(WebSocketSuite):
    """The close handshake with its one deadline, and connections that end without it."""

    # By the server ------------------------------------------------------------------------------------------------

    @requires(Capability.CLOSE_HANDSHAKE)
    def test_close_by_server_ends_with_the_clients_close(self, serve: Serve) -> None:
        """Pings and messages that cross the close frame do no harm, and the server closes TCP (RFC 6455, 7.1.1)."""
        with serve() as server, server.connect() as client:
            connection = server.connection
            states = [connection.state]
            server.call(connection.close, 4000, "enough, dänke")
            states.append(connection.state)
            assert client.read() == Frame(CLOSE, (4000).to_bytes(2, "big") + "enough, dänke".encode())
            client.send(frame(TEXT, b"crossing"), frame(PING), close(4000))
            assert client.read_to_end() == []
            expected = Closed(4000, "enough, dänke", ClosedBy.SERVER)
            assert server.wait(connection.wait_closed()) == server.has_closed() == expected
            assert [*states, connection.state] == [State.OPEN, State.CLOSING, State.CLOSED]

    def test_close_without_arguments_sends_1000(self, serve: Serve) -> None:
        """The code is 1000, whatever code the client responds with."""
        with serve() as server, server.connect() as client:
            server.call(server.connection.close)
            assert client.read() == Frame(CLOSE, b"\x03\xe8")
            client.send(close(4999, b"what else"))
            assert server.has_closed()[:3] == (1000, "", ClosedBy.SERVER)

    def test_close_sends_buffered_messages_first(self, serve: Serve) -> None:
        """All messages arrive before the close frame, although more is buffered than the system accepts."""
        with serve(Limits(max_send_buffer=FLOOD)) as server, server.connect() as client:
            connection = server.connection

            def send() -> None:
                for _ in range(100):
                    connection.send(bytes(100_000))
                connection.close(1000)

            server.call(send)
            assert [len(client.read_message()[1]) for _ in range(100)] == [100_000] * 100
            assert client.read() == Frame(CLOSE, b"\x03\xe8")
            client.send(close(1000))
            assert server.has_closed()[:3] == (1000, "", ClosedBy.SERVER)

    @pytest.mark.parametrize("code", UNSENDABLE)
    def test_close_invalid_code_raises_valueerror(self, serve: Serve, code: int) -> None:
        """An invalid close code raises ValueError and leaves the connection open."""
        with serve() as server, server.connect() as client:
            with pytest.raises(ValueError):
                server.call(server.connection.close, code)
            assert client.echo() == b"are you there?"

    def test_close_reason_over_123_bytes_raises_valueerror(self, serve: Serve) -> None:
        """A reason of 123 bytes in UTF-8 is sent (RFC 6455, 5.5.1); a longer one leaves the connection open."""
        with serve() as server, server.connect() as client:
            for reason in ("x" * 124, "é" * 62):
                with pytest.raises(ValueError):
                    server.call(server.connection.close, 1000, reason)
            assert client.echo() == b"are you there?"
            server.call(server.connection.close, 3000, "é" * 61 + "x")
            assert client.read().payload[2:].decode() == "é" * 61 + "x"

    def test_close_twice_keeps_the_first_code(self, serve: Serve) -> None:
        """The code and reason of the first close count."""
        with serve() as server, server.connect() as client:
            connection = server.connection

            def twice() -> None:
                connection.close(4001, "first")
                connection.close(4002, "second")

            server.call(twice)
            assert client.read() == Frame(CLOSE, (4001).to_bytes(2, "big") + b"first")
            client.send(close(4001))
            assert client.read_to_end() == []
            assert server.has_closed()[:3] == (4001, "first", ClosedBy.SERVER)
            server.call(connection.close, 4003)

    @requires(Capability.CLOSE_HANDSHAKE, ended=[False])
    @pytest.mark.parametrize("ended", [False, True], ids=["closing", "closed"])
    def test_closing_connection_sends_nothing(self, serve: Serve, ended: bool) -> None:
        """send, ping and drain raise, send_prepared returns False, and the other methods do nothing."""
        with serve() as server, server.connect() as client:
            connection = server.connection
            server.call(connection.close, 4000, "over")
            if ended:
                client.send(close(4000))
                server.has_closed()

            def use() -> None:
                for use in (lambda: connection.send("x"), lambda: connection.send(b""), connection.ping):
                    with pytest.raises(ConnectionClosed) as caught:
                        use()
                    assert (caught.value.code, caught.value.reason) == (4000, "over")
                assert connection.send_prepared(server.listener.prepare("x")) is False
                connection.close(1000)
                connection.resume_delivery()
                if ended:
                    connection.abort()

            server.call(use)
            with pytest.raises(ConnectionClosed):
                server.wait(connection.drain())
            assert connection.state is (State.CLOSED if ended else State.CLOSING)

    # By the client ------------------------------------------------------------------------------------------------

    def test_close_by_client_reports_code_and_reason(self, serve: Serve) -> None:
        """The server responds with the same code and closes TCP."""
        with serve() as server, server.connect() as client:
            client.send(close(3001, b"bye"))
            assert client.close_code() == 3001
            client.sock.close()
            assert server.has_closed() == Closed(3001, "bye", ClosedBy.CLIENT)
            assert server.wait(server.connection.wait_closed()) == server.closed[0]

    def test_close_by_client_without_code_reports_1005(self, serve: Serve) -> None:
        """A close frame without a code is reported as 1005 (RFC 6455, 7.1.5); the response is empty or 1000."""
        with serve() as server, server.connect() as client:
            client.send(close(None))
            assert client.close_code() in (None, 1000)
            client.sock.close()
            closed = server.has_closed()
            assert (closed.code in (1000, 1005), closed.reason, closed.by) == (True, "", ClosedBy.CLIENT)

    @pytest.mark.parametrize("leave", [lambda sock: sock.close(), reset], ids=["closes", "resets"])
    @pytest.mark.parametrize("sent", [b"", frame(TEXT, b"half")[:-2]], ids=["idle", "inside a frame"])
    def test_lost_client_reports_1006(self, serve: Serve, leave: Callable[[Any], None], sent: bytes) -> None:
        """A connection without any close frame is reported as 1006."""
        with serve() as server:
            client = server.connect(behind=sent)
            connection = server.connection
            leave(client.sock)
            closed = server.has_closed()
            assert (closed.code, closed.by) == (1006, ClosedBy.NETWORK)
            assert server.messages == []
            with pytest.raises(ConnectionClosed) as caught:
                server.call(connection.send, "x")
            assert caught.value.code == 1006

    @requires(Capability.CLOSE_HANDSHAKE)
    @pytest.mark.parametrize("end", [close(1000), frame(3)], ids=["close", "violation"])
    def test_end_is_called_after_the_last_message(self, serve: Serve, end: bytes) -> None:
        """``end`` follows the last message, and the close frame waits for ``resume_delivery``."""
        with serve(receiver=Busy) as server, server.connect() as client:
            client.send(frame(TEXT, b"question"), end)
            until(lambda: "end" in server.messages, "Receiver.end was not called")
            connection = server.connection

            def respond_late() -> None:
                connection.send("late response")
                connection.resume_delivery()

            server.call(respond_late)
            before, code, _ = client.ending()
            assert [frame_.payload for frame_ in before] == [b"question", b"late response"]
            assert code == (1000 if end == close(1000) else 1002)

    @requires(Capability.CLOSE_HANDSHAKE)
    def test_end_waits_for_held_messages(self, serve: Serve) -> None:
        """Each held message needs one ``resume_delivery`` before the end."""
        with serve(receiver=Holding) as server, server.connect() as client:
            client.send(*[frame(TEXT, b"%d" % at) for at in range(3)], close(1000))
            for at in range(3):
                assert client.read_message() == (TEXT, b"%d" % at)
                server.call(server.connection.resume_delivery)
            assert client.close_code() == 1000

    @requires(Capability.CLOSE_HANDSHAKE, end=[close(1000)])
    @pytest.mark.parametrize("end", [close(1000), frame(3)], ids=["close", "violation"])
    def test_core_over_close_timeout_closes_with_1011(self, serve: Serve, end: bytes) -> None:
        """The client gets 1011 if the core has not handled all messages within close_timeout."""
        with serve(Limits(close_timeout=0.2), receiver=Busy) as server, server.connect() as client:
            client.send(end)
            assert client.close_code() == (1011 if end == close(1000) else 1002)
            closed = server.has_closed()
            expected = (1000, "", ClosedBy.CLIENT) if end == close(1000) else (1002, closed.reason, ClosedBy.SERVER)
            assert closed[:3] == expected

    @requires(Capability.CLOSE_HANDSHAKE)
    def test_close_after_clients_close_ends_at_once(self, serve: Serve) -> None:
        """Both close frames are sent then, so the server closes TCP at once."""
        with serve(receiver=Busy) as server, server.connect() as client:
            client.send(frame(TEXT, b"x"), close(1000))
            until(lambda: "end" in server.messages, "Receiver.end was not called")
            server.call(server.connection.close, 4000, "done")
            assert client.read_message() == (TEXT, b"x")
            assert client.read() == Frame(CLOSE, (4000).to_bytes(2, "big") + b"done")
            assert client.sock.recv(1) == b""
            assert server.wait(server.connection.wait_closed())[:3] == (4000, "done", ClosedBy.SERVER)

    # By the end of TCP --------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
    @pytest.mark.parametrize("leave", [half_close, lambda sock: sock.close(), reset], ids=["half", "closes", "resets"])
    @pytest.mark.parametrize("receiver", [Echo, Silent], ids=["echoing", "silent"])
    def test_eof_delivers_all_messages_first(
        self, serve: Serve, leave: Callable[[Any], None], receiver: Any, tls: bool
    ) -> None:
        """Every complete message is delivered, however the client leaves, and if responses cannot be sent."""
        context, client_context = (server_tls(), client_tls()) if tls else (None, None)
        count = 1000
        endpoint = Endpoint(port=0, tls=context)
        with serve(endpoint=endpoint, receiver=receiver) as server, contextlib.ExitStack() as stack:
            client = stack.enter_context(server.connect(tls=client_context))
            client.send(*[frame(TEXT, b"%d" % at) for at in range(count)], frame(TEXT, b"half")[:-1])
            if leave is reset:
                until(lambda: len(server.messages) == count)  # a reset could overtake data on the way
            leave(client.sock)
            closed = server.has_closed()
            assert server.messages == [str(at) for at in range(count)]
            assert closed[2:] == (ClosedBy.NETWORK, Cause.LOST, 0)

    @requires(Capability.LAST_MESSAGES)
    @pytest.mark.parametrize("leave", [half_close, lambda sock: sock.close()], ids=["half", "closes"])
    def test_eof_waits_for_held_messages(self, serve: Serve, leave: Callable[[Any], None]) -> None:
        """This includes data that the event loop had not read when a write failed, because delivery was held."""
        pieces = [frame(BINARY, bytes(5000)) * 3] * 3
        count = 9
        with serve(receiver=Holding) as server, server.connect() as client:
            for piece in pieces:  # the first is partly delivered, the second is read, the third is not read yet
                client.send(piece)
                until(lambda: server.messages)
                server.wait(asyncio.sleep(0.01))
            leave(client.sock)
            for at in range(count):
                until(lambda at=at: len(server.messages) > at or server.closed)  # type: ignore[misc]
                server.call(server.connection.resume_delivery)
            assert server.has_closed().dropped == 0
            assert len(server.messages) == count

    @pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
    def test_close_frame_behind_held_messages_is_found(self, serve: Serve, tls: bool) -> None:
        """The close frame of a client that is gone is found behind messages that are held."""
        context, client_context = (server_tls(), client_tls()) if tls else (None, None)
        with serve(endpoint=Endpoint(port=0, tls=context), receiver=Holding) as server:
            with server.connect(tls=client_context) as client:
                client.send(*[frame(TEXT, b"%d" % at) for at in range(5)], close(4001, b"bye"))
                client.read_message()
            for at in range(5):
                until(lambda at=at: len(server.messages) > at)  # type: ignore[misc]
                server.call(server.connection.resume_delivery)
            assert server.has_closed() == Closed(4001, "bye", ClosedBy.CLIENT)

    @requires(Capability.LAST_MESSAGES)
    @pytest.mark.parametrize("end", [b"", close(1000)], ids=["eof", "close"])
    def test_held_messages_over_close_timeout_are_counted(self, serve: Serve, end: bytes) -> None:
        """Undelivered messages are counted after close_timeout; an incomplete message at the end does not count."""
        with serve(Limits(close_timeout=0.2), receiver=Holding) as server, server.connect() as client:
            client.send(*[frame(TEXT, b"%d" % at) for at in range(5)], end or frame(TEXT, b"half")[:-1])
            client.read_message()
            half_close(client.sock)
            closed = server.has_closed()
            assert (server.messages, closed.dropped) == (["0"], 4)

    @requires(Capability.LAST_MESSAGES)
    def test_half_closed_client_gets_its_responses(self, serve: Serve) -> None:
        """The end of the client's data does not cut off responses that are still to come."""
        with serve(receiver=Busy) as server, server.connect() as client:
            client.send(frame(TEXT, b"question"))
            half_close(client.sock)
            until(lambda: "end" in server.messages, "Receiver.end was not called")
            server.call(server.connection.send, "late response")
            server.call(server.connection.resume_delivery)
            assert [client.read_message()[1] for _ in range(2)] == [b"question", b"late response"]
            assert client.read_to_end() == []

    # Delayed responses to a close frame --------------------------------------------------------------------------

    @requires(Capability.CLOSE_HANDSHAKE)
    @pytest.mark.parametrize("ends_with", ["close frame", "end of data"])
    @pytest.mark.parametrize("why", ["refused", "violation", "bad text", "too big", "too big in pieces", "closed"])
    def test_fin_waits_for_the_clients_close(self, serve: Serve, why: str, ends_with: str) -> None:
        """Some proxies and clients lose code and reason if FIN follows the close frame at once (RFC 6455, 7.1.2)."""
        sent = {
            "violation": frame(3, b"abc"),
            "bad text": frame(TEXT, b"ab\xff") + frame(TEXT, b"more"),
            "too big": frame(BINARY, bytes(5000)),
            "too big in pieces": frame(BINARY, bytes(800), fin=False) + frame(CONTINUATION, bytes(5000)),
        }.get(why, b"")
        decide = (lambda server, request: Refuse(1008, "no")) if why == "refused" else None
        with serve(Limits(max_size=1000), decide=decide) as server, server.connect() as client:
            client.send(sent[:2000])
            if why == "closed":
                server.call(server.connection.close, 1008, "no")
            assert client.read().opcode == CLOSE
            client.send(sent[2000:], frame(BINARY, bytes(70_000)), frame(PING, b"?"))
            client.sock.settimeout(0.1)
            with pytest.raises(TimeoutError):
                client.sock.recv(1)
            client.sock.settimeout(PATIENCE)
            if ends_with == "close frame":
                client.send(close(1008))
            else:
                half_close(client.sock)
            assert client.sock.recv(1) == b""

    def test_too_big_code_reaches_a_late_reader(self, serve: Serve) -> None:
        """A client that reads only after it has sent everything still gets the code and the reason."""
        with serve(Limits(max_size=1000)) as server, server.connect() as client:
            client.send(frame(BINARY, bytes(5_000_000)))
            _, code, reason = client.ending()
            assert (code, "1000" in reason) == (1009, True)

    # The cause -----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("cause", "code"),
        [
            (Cause.CLOSE, 1013), (Cause.CLOSE, 1011), (Cause.VIOLATION, 1002), (Cause.SLOW, 1013), (Cause.SILENT, 1011),
            (Cause.LOST, 1006), (Cause.ABORTED, 1006),
        ],
    )  # fmt: skip
    def test_closed_reports_the_cause(self, serve: Serve, cause: Cause, code: int) -> None:
        """The cause is not inferred from the code, because an application may close with 1013 or 1011 too."""
        limits = Limits(max_send_buffer=200_000, close_timeout=0.3)
        if cause is Cause.SILENT:
            limits = replace(limits, ping_interval=0.05, ping_timeout=0.05)
        with serve(limits) as server, server.connect() as client:
            connection = server.connection

            def flood() -> None:
                with contextlib.suppress(ConnectionClosed):
                    for _ in range(1000):
                        connection.send(bytes(50_000))

            if cause is Cause.CLOSE:
                server.call(connection.close, code)
            elif cause is Cause.VIOLATION:
                client.send(frame(3))
            elif cause is Cause.SLOW:
                server.call(flood)
            elif cause is Cause.LOST:
                client.sock.close()
            elif cause is Cause.ABORTED:
                server.call(connection.abort)
            closed = server.has_closed()
            assert (closed.code, closed.cause) == (code, cause)

    # Deadlines ----------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("begun_by", ["server", "client", "violation"])
    def test_close_handshake_has_one_deadline(self, serve: Serve, begun_by: str) -> None:
        """The deadline holds for a client that is silent, slow, flooding or stopped inside a frame."""
        behaviours = [b"", b"\x81", frame(BINARY, bytes(50_000)), b"\x82\xff"]
        with serve(Limits(close_timeout=0.3)) as server, contextlib.ExitStack() as stack:
            clients = [stack.enter_context(server.connect()) for _ in behaviours]
            connections = until(lambda: server.connections[len(clients) - 1 :] and server.connections)
            for client, connection in zip(clients, connections, strict=True):
                client.sock.settimeout(0.02)
                if begun_by == "server":
                    server.call(connection.close)
                else:
                    client.send(close(1000) if begun_by == "client" else frame(3))

            def gone() -> bool:
                for client, data in zip(clients, behaviours, strict=True):
                    client.try_to_send(data)
                return len(server.closed) == len(clients)

            until(gone, "close_timeout passed, and a connection is still there")
            assert {closed.code for closed in server.closed} == {1002 if begun_by == "violation" else 1000}

    @pytest.mark.parametrize("held", [False, True], ids=["delivering", "held"])
    def test_unread_data_is_dropped_after_close_timeout(self, serve: Serve, held: bool) -> None:
        """Megabytes that are buffered for a client that reads nothing are dropped after close_timeout."""
        limits = Limits(max_send_buffer=FLOOD, close_timeout=0.3)
        with serve(limits, receiver=Holding if held else Echo) as server, server.connect() as client:
            connection = server.connection
            if held:
                client.send(frame(TEXT, b"x"), frame(TEXT, b"y"))
                until(lambda: server.messages)
            server.call(fill, connection)
            server.call(connection.close, 1001)
            assert server.has_closed()[:3:2] == (1001, ClosedBy.SERVER)

    def test_close_while_delivery_is_held_finds_close_frame(self, serve: Serve) -> None:
        """The client's close frame is found behind messages that are no longer delivered."""
        with serve(receiver=Holding) as server, server.connect() as client:
            client.send(*[frame(BINARY, bytes(1000))] * 500)
            client.read_message()
            server.call(server.connection.close)
            assert client.read().opcode == CLOSE
            client.send(close(1000))
            assert server.has_closed()[:3] == (1000, "", ClosedBy.SERVER)

    # Aborting -----------------------------------------------------------------------------------------------------

    def test_abort_sends_no_close_frame(self, serve: Serve) -> None:
        """Buffered data is dropped too, and every ``wait_closed`` returns."""
        with serve(Limits(max_send_buffer=FLOOD)) as server, server.connect() as client:
            connection = server.connection
            waiting = [server.start(connection.wait_closed()) for _ in range(3)]
            server.call(fill, connection)
            server.call(connection.abort)
            with pytest.raises(ConnectionClosed):
                server.call(connection.send, "x")
            assert {future.result(PATIENCE) for future in waiting} == {server.has_closed()}
            assert server.closed[0].code == 1006
            assert len(read_all(client.sock)) < FLOOD

    def test_abort_while_closing_drops_the_connection(self, serve: Serve) -> None:
        """It does not wait for the client, and reports the code that was sent."""
        with serve() as server, server.connect():
            server.call(server.connection.close, 4000, "over")
            server.call(server.connection.abort)
            assert server.has_closed()[:3] == (4000, "over", ClosedBy.SERVER)

    @requires(Capability.EARLY_DATA, where=["message", "end"])
    @pytest.mark.parametrize("way", ["close", "abort"])
    @pytest.mark.parametrize("where", ["message", "end", "opened"])
    def test_connection_can_be_ended_in_any_callback(self, serve: Serve, way: str, where: str) -> None:
        """``closed`` comes after that call, never inside it, and no message follows an ``abort``."""

        class Ending(Echo):
            def __init__(self, server: ServerUnderTest, connection: Connection) -> None:
                super().__init__(server, connection)
                self._end_in("opened")

            def _end_in(self, callback: str) -> None:
                if callback == where:
                    getattr(self.connection, way)()
                    assert self.connection.state is not State.OPEN

            def message(self, message: Message) -> bool:
                self.server.messages.append(message)
                self._end_in("message")
                return True

            def end(self) -> bool:
                self._end_in("end")
                return True

        behind = frame(TEXT, b"1") + frame(TEXT, b"2") + close(1000)
        with serve(Limits(close_timeout=0.3), receiver=Ending) as server, server.connect(behind=behind) as client:
            expected = {1000 if way == "close" else 1006, 1000 if where == "end" else None}
            assert server.has_closed().code in expected
            if way == "abort":
                assert server.messages == {"opened": [], "message": ["1"], "end": ["1", "2"]}[where]
            read_all(client.sock)

    def test_wait_closed_repeated_returns_the_same(self, serve: Serve) -> None:
        """It returns the same value later, and a cancelled wait does not affect another."""
        with serve() as server, server.connect() as client:
            connection = server.connection

            async def impatient() -> None:
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(connection.wait_closed(), 0.01)

            waiting = server.start(connection.wait_closed())
            server.wait(impatient())
            client.send(close(4001))
            client.sock.close()
            assert waiting.result(PATIENCE) == server.has_closed()
            assert server.wait(connection.wait_closed()) == server.closed[0]

    def test_connection_id_is_unique_and_constant(self, serve: Serve) -> None:
        """Each connection has its own id, which never changes."""
        with serve() as server, server.connect(), server.connect():
            one, two = until(lambda: server.connections[1:] and server.connections)
            assert (one.id == one.id, one.id == two.id) == (True, False)

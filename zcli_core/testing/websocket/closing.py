"""Part of the WebSocket contract suite: the ends of connections, by the server, by the client, by accident."""

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
from zcli_core.testing.localhost import client_tls, server_tls
from zcli_core.testing.websocket.client import PATIENCE, Frame, read_all, reset, until
from zcli_core.testing.websocket.decisions import FLOOD
from zcli_core.testing.websocket.flow_control import Holding, Silent, fill
from zcli_core.testing.websocket.frames import BINARY, CLOSE, CONTINUATION, PING, TEXT, close, frame
from zcli_core.testing.websocket.server import Echo, ServerUnderTest
from zcli_core.testing.websocket.suite import Serve, WebSocketSuite
from zcli_core.websocket.contract import Cause, Closed, ClosedBy, Connection, Endpoint, Limits, Message, Refuse, State

#: Codes that no endpoint may send (RFC 6455, 7.4).
UNSENDABLE = [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65000, -1]


class Busy(Echo):
    """Does not say that it has dealt with everything before it is asked to go on."""

    def end(self) -> bool:
        """Note it; wait."""
        self.server.messages.append("end")
        return False


def half_close(sock: socket.socket) -> None:
    """Say that no more is sent, and go on reading."""
    if isinstance(sock, ssl.SSLSocket):
        sock.setblocking(False)
        with contextlib.suppress(OSError):
            sock.unwrap()
    else:
        sock.shutdown(socket.SHUT_WR)


class ClosingTests(WebSocketSuite):
    """The close handshake with its one deadline, and connections that end without it."""

    # By the server ------------------------------------------------------------------------------------------------

    def test_a_close_by_the_server_is_finished_by_the_clients_answer(self, serve: Serve) -> None:
        """Pings and messages that cross it harm nobody; the server closes TCP (RFC 6455, 7.1.1)."""
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

    def test_a_close_without_arguments_is_1000(self, serve: Serve) -> None:
        """Whatever code the client answers with."""
        with serve() as server, server.connect() as client:
            server.call(server.connection.close)
            assert client.read() == Frame(CLOSE, b"\x03\xe8")
            client.send(close(4999, b"what else"))
            assert server.has_closed()[:3] == (1000, "", ClosedBy.SERVER)

    def test_what_was_sent_before_a_close_arrives_before_it(self, serve: Serve) -> None:
        """Although more is buffered than the system takes, and the client reads late."""
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
    def test_a_code_that_may_not_be_sent_is_a_valueerror(self, serve: Serve, code: int) -> None:
        """And leaves the connection open."""
        with serve() as server, server.connect() as client:
            with pytest.raises(ValueError):
                server.call(server.connection.close, code)
            assert client.echo() == b"are you there?"

    def test_a_reason_may_have_123_bytes(self, serve: Serve) -> None:
        """Counted in UTF-8 (RFC 6455, 5.5.1); a longer one is a ValueError and leaves the connection open."""
        with serve() as server, server.connect() as client:
            for reason in ("x" * 124, "é" * 62):
                with pytest.raises(ValueError):
                    server.call(server.connection.close, 1000, reason)
            assert client.echo() == b"are you there?"
            server.call(server.connection.close, 3000, "é" * 61 + "x")
            assert client.read().payload[2:].decode() == "é" * 61 + "x"

    def test_a_second_close_changes_nothing(self, serve: Serve) -> None:
        """The first one counts."""
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

    @pytest.mark.parametrize("ended", [False, True], ids=["closing", "closed"])
    def test_nothing_can_be_sent_on_a_connection_that_ends(self, serve: Serve, ended: bool) -> None:
        """send, ping and drain raise, send_prepared says so, the rest is harmless."""
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

    def test_a_close_by_the_client_is_told_with_code_and_reason(self, serve: Serve) -> None:
        """It is answered with the same code, and then the server closes TCP."""
        with serve() as server, server.connect() as client:
            client.send(close(3001, b"bye"))
            assert client.close_code() == 3001
            client.sock.close()
            assert server.has_closed() == Closed(3001, "bye", ClosedBy.CLIENT)
            assert server.wait(server.connection.wait_closed()) == server.closed[0]

    def test_a_close_without_a_code_is_a_good_close(self, serve: Serve) -> None:
        """RFC 6455, 7.1.5 calls that 1005; the answer is empty, or 1000."""
        with serve() as server, server.connect() as client:
            client.send(close(None))
            assert client.close_code() in (None, 1000)
            client.sock.close()
            closed = server.has_closed()
            assert (closed.code in (1000, 1005), closed.reason, closed.by) == (True, "", ClosedBy.CLIENT)

    @pytest.mark.parametrize("leave", [lambda sock: sock.close(), reset], ids=["closes", "resets"])
    @pytest.mark.parametrize("sent", [b"", frame(TEXT, b"half")[:-2]], ids=["idle", "inside a frame"])
    def test_a_client_that_vanishes_is_1006(self, serve: Serve, leave: Callable[[Any], None], sent: bytes) -> None:
        """Nobody said goodbye."""
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

    @pytest.mark.parametrize("end", [close(1000), frame(3)], ids=["close", "breach"])
    def test_what_came_before_the_end_is_delivered_before_it(self, serve: Serve, end: bytes) -> None:
        """``end`` comes behind the last message, and the close frame waits for ``resume_delivery``."""
        with serve(receiver=Busy) as server, server.connect() as client:
            client.send(frame(TEXT, b"question"), end)
            until(lambda: "end" in server.messages, "Receiver.end was not called")
            connection = server.connection

            def answer_late() -> None:
                connection.send("late answer")
                connection.resume_delivery()

            server.call(answer_late)
            before, code, _ = client.ending()
            assert [frame_.payload for frame_ in before] == [b"question", b"late answer"]
            assert code == (1000 if end == close(1000) else 1002)

    def test_an_end_behind_messages_that_are_held_waits_for_them(self, serve: Serve) -> None:
        """One ``resume_delivery`` for each."""
        with serve(receiver=Holding) as server, server.connect() as client:
            client.send(*[frame(TEXT, b"%d" % at) for at in range(3)], close(1000))
            for at in range(3):
                assert client.read_message() == (TEXT, b"%d" % at)
                server.call(server.connection.resume_delivery)
            assert client.close_code() == 1000

    @pytest.mark.parametrize("end", [close(1000), frame(3)], ids=["close", "breach"])
    def test_core_out_of_time_is_not_told_1000(self, serve: Serve, end: bytes) -> None:
        """A core that is not done within close_timeout does not keep the client, which is told that it was not."""
        with serve(Limits(close_timeout=0.2), receiver=Busy) as server, server.connect() as client:
            client.send(end)
            assert client.close_code() == (1011 if end == close(1000) else 1002)
            closed = server.has_closed()
            expected = (1000, "", ClosedBy.CLIENT) if end == close(1000) else (1002, closed.reason, ClosedBy.SERVER)
            assert closed[:3] == expected

    def test_close_while_the_clients_waits_ends_at_once(self, serve: Serve) -> None:
        """Both close frames are sent then: nothing more is expected of the client, which sees the end of TCP."""
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
    @pytest.mark.parametrize("receiver", [Echo, Silent], ids=["answering", "silent"])
    def test_eof_comes_after_the_messages_before_it(
        self, serve: Serve, leave: Callable[[Any], None], receiver: Any, tls: bool
    ) -> None:
        """However the client leaves, and if answers fail: every complete message is delivered, the last one too."""
        context, client_context = (server_tls(), client_tls()) if tls else (None, None)
        count = 1000
        endpoint = Endpoint(port=0, tls=context)
        with serve(endpoint=endpoint, receiver=receiver) as server, contextlib.ExitStack() as stack:
            client = stack.enter_context(server.connect(tls=client_context))
            client.send(*[frame(TEXT, b"%d" % at) for at in range(count)], frame(TEXT, b"half")[:-1])
            if leave is reset:
                until(lambda: len(server.messages) == count)  # a reset may overtake what is under way
            leave(client.sock)
            closed = server.has_closed()
            assert server.messages == [str(at) for at in range(count)]
            assert closed[2:] == (ClosedBy.NETWORK, Cause.LOST, 0)

    @pytest.mark.parametrize("leave", [half_close, lambda sock: sock.close()], ids=["half", "closes"])
    def test_eof_waits_for_held_messages(self, serve: Serve, leave: Callable[[Any], None]) -> None:
        """Also for what the event loop had not read when a write failed, because delivery was held."""
        pieces = [frame(BINARY, bytes(5000)) * 3] * 3
        count = 9
        with serve(receiver=Holding) as server, server.connect() as client:
            for piece in pieces:  # the first is delivered in part, the second is read, the third waits for the loop
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
    def test_close_frame_counts_if_the_client_does_not_wait(self, serve: Serve, tls: bool) -> None:
        """It is found behind messages that are held when the client has gone."""
        context, client_context = (server_tls(), client_tls()) if tls else (None, None)
        with serve(endpoint=Endpoint(port=0, tls=context), receiver=Holding) as server:
            with server.connect(tls=client_context) as client:
                client.send(*[frame(TEXT, b"%d" % at) for at in range(5)], close(4001, b"bye"))
                client.read_message()
            for at in range(5):
                until(lambda at=at: len(server.messages) > at)  # type: ignore[misc]
                server.call(server.connection.resume_delivery)
            assert server.has_closed() == Closed(4001, "bye", ClosedBy.CLIENT)

    @pytest.mark.parametrize("end", [b"", close(1000)], ids=["eof", "close"])
    def test_held_messages_are_counted_when_time_is_over(self, serve: Serve, end: bytes) -> None:
        """After close_timeout; the half message at the end does not count."""
        with serve(Limits(close_timeout=0.2), receiver=Holding) as server, server.connect() as client:
            client.send(*[frame(TEXT, b"%d" % at) for at in range(5)], end or frame(TEXT, b"half")[:-1])
            client.read_message()
            half_close(client.sock)
            closed = server.has_closed()
            assert (server.messages, closed.dropped) == (["0"], 4)

    def test_half_closed_client_gets_its_answers(self, serve: Serve) -> None:
        """The end of the client's data does not cut off answers that are still to come."""
        with serve(receiver=Busy) as server, server.connect() as client:
            client.send(frame(TEXT, b"question"))
            half_close(client.sock)
            until(lambda: "end" in server.messages, "Receiver.end was not called")
            server.call(server.connection.send, "late answer")
            server.call(server.connection.resume_delivery)
            assert [client.read_message()[1] for _ in range(2)] == [b"question", b"late answer"]
            assert client.read_to_end() == []

    # Close frames that are not answered at once -----------------------------------------------------------------------

    @pytest.mark.parametrize("ends_with", ["close frame", "end of data"])
    @pytest.mark.parametrize("why", ["refused", "breach", "bad text", "too big", "too big in pieces", "closed"])
    def test_fin_waits_for_the_clients_close(self, serve: Serve, why: str, ends_with: str) -> None:
        """Proxies and some clients lose code and reason if it follows our close frame at once (RFC 6455, 7.1.2)."""
        sent = {
            "breach": frame(3, b"abc"),
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

    def test_too_big_is_told_to_who_sends_it_all(self, serve: Serve) -> None:
        """A client that reads only after it has sent everything still gets the code and the reason."""
        with serve(Limits(max_size=1000)) as server, server.connect() as client:
            client.send(frame(BINARY, bytes(5_000_000)))
            _, code, reason = client.ending()
            assert (code, "1000" in reason) == (1009, True)

    # Why -----------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("cause", "code"),
        [
            (Cause.CLOSE, 1013), (Cause.CLOSE, 1011), (Cause.VIOLATION, 1002), (Cause.SLOW, 1013), (Cause.SILENT, 1011),
            (Cause.LOST, 1006), (Cause.ABORTED, 1006),
        ],
    )  # fmt: skip
    def test_cause_of_the_end_is_told(self, serve: Serve, cause: Cause, code: int) -> None:
        """It is not the code: an application may close with 1013 or 1011 too."""
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

    @pytest.mark.parametrize("begun_by", ["server", "client", "breach"])
    def test_the_close_handshake_has_one_deadline(self, serve: Serve, begun_by: str) -> None:
        """Whether the client is silent, drips, floods or stops inside a frame; ``closed`` is called once for each."""
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
            assert {closed.code for closed in server.closed} == {1002 if begun_by == "breach" else 1000}

    @pytest.mark.parametrize("held", [False, True], ids=["delivering", "held"])
    def test_a_client_that_reads_nothing_does_not_outlast_close_timeout(self, serve: Serve, held: bool) -> None:
        """With megabytes buffered for it, that are given up."""
        limits = Limits(max_send_buffer=FLOOD, close_timeout=0.3)
        with serve(limits, receiver=Holding if held else Echo) as server, server.connect() as client:
            connection = server.connection
            if held:
                client.send(frame(TEXT, b"x"), frame(TEXT, b"y"))
                until(lambda: server.messages)
            server.call(fill, connection)
            server.call(connection.close, 1001)
            assert server.has_closed()[:3:2] == (1001, ClosedBy.SERVER)

    def test_a_close_while_delivery_is_held_is_finished_by_the_clients_answer(self, serve: Serve) -> None:
        """The client's close frame is found behind messages that nobody takes any more."""
        with serve(receiver=Holding) as server, server.connect() as client:
            client.send(*[frame(BINARY, bytes(1000))] * 500)
            client.read_message()
            server.call(server.connection.close)
            assert client.read().opcode == CLOSE
            client.send(close(1000))
            assert server.has_closed()[:3] == (1000, "", ClosedBy.SERVER)

    # At once ------------------------------------------------------------------------------------------------------

    def test_abort_drops_without_a_close_frame(self, serve: Serve) -> None:
        """And without what is buffered; those who wait for the connection are told."""
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

    def test_abort_drops_a_connection_that_closes(self, serve: Serve) -> None:
        """It need not wait for the client; the code is the one that was sent."""
        with serve() as server, server.connect():
            server.call(server.connection.close, 4000, "over")
            server.call(server.connection.abort)
            assert server.has_closed()[:3] == (4000, "over", ClosedBy.SERVER)

    @pytest.mark.parametrize("way", ["close", "abort"])
    @pytest.mark.parametrize("where", ["message", "end", "opened"])
    def test_a_connection_may_be_ended_from_any_callback(self, serve: Serve, way: str, where: str) -> None:
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

    def test_wait_closed_gives_the_same_again_and_again(self, serve: Serve) -> None:
        """Also long after; one who gives up waiting disturbs no other."""
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

    def test_connections_have_ids_of_their_own(self, serve: Serve) -> None:
        """The same at every look."""
        with serve() as server, server.connect(), server.connect():
            one, two = until(lambda: server.connections[1:] and server.connections)
            assert (one.id == one.id, one.id == two.id) == (True, False)

"""Contract suite, part: one side is faster than the other, in receiving, in sending, in broadcasts."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from zcli_core.errors import ConnectionClosed
from zcli_core.testing.certificates import client_tls, server_tls
from zcli_core.testing.websocket.client import (
    DEFLATE_OFFER,
    PATIENCE,
    Frame,
    send_until_stalled,
    until,
)
from zcli_core.testing.websocket.decisions import FLOOD
from zcli_core.testing.websocket.frames import (
    BINARY,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    close,
    deflated,
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
from zcli_core.websocket.contract import Capability, ClosedBy, Compression, Connection, Endpoint, Limits, Message, State


class Holding(Echo):
    """A receiver that stops delivery after every message."""

    def message(self, message: Message) -> bool:
        """Send it back; wait."""
        super().message(message)
        return False


class Silent(Echo):
    """A receiver that sends nothing back."""

    def message(self, message: Message) -> bool:
        """Note it; go on."""
        self.server.messages.append(message)
        return True


def fill(connection: Connection) -> None:
    """Send until the client would have to read."""
    for _ in range(FLOOD // 100_000):
        if connection.write_paused:
            return
        connection.send(bytes(100_000))
    raise AssertionError("write_paused stays False although the client reads nothing")


def _kind_and_length(message: str | bytes) -> str:
    return f"{type(message).__name__} of {len(message)}"


#: Frames that come at once. None of them is a message, so the number of messages does not end the turn.
MANY_FRAMES = {
    "pings": frame(PING) * 20_000,
    "unasked pongs": frame(PONG, b"x") * 20_000,
    "fragments": frame(BINARY, fin=False) + frame(CONTINUATION, b"x", fin=False) * 20_000 + frame(CONTINUATION),
    "messages of some fragments": (
        frame(BINARY, fin=False) + frame(CONTINUATION, b"x", fin=False) * 248 + frame(CONTINUATION)
    )
    * 80,
    "compressed fragments": frame(BINARY, b"\x00", fin=False, rsv=4)
    + frame(CONTINUATION, b"\x00\x00\xff\xff\x00", fin=False) * 10_000
    + frame(CONTINUATION, b"\x00\x00\xff\xff\x00"),
    "compressed messages that inflate a thousandfold": frame(BINARY, deflated(bytes(1_000_000), 9), rsv=4) * 50,
}


class FlowControlTests(WebSocketSuite):
    """Delivery that is held, clients that do not read, senders that wait."""

    # Delivery ---------------------------------------------------------------------------------------------------------

    def test_held_delivery_gives_one_message_a_resume(self, serve: Serve) -> None:
        """Each ``resume_delivery`` delivers one message, in order, however the messages came."""
        messages = [b"%03d" % at * (1 + at % 5 * 3000) for at in range(100)]
        with serve(receiver=Holding) as server, server.connect() as client:
            client.send(*[frame(BINARY, message) for message in messages])
            for at, message in enumerate(messages):
                assert client.read_message() == (BINARY, message)
                assert len(server.messages) == at + 1
                server.call(server.connection.resume_delivery)
            assert server.messages == messages

    def test_held_delivery_stops_reading(self, serve: Serve) -> None:
        """The transport stops reading, so TCP slows the client."""
        message = frame(BINARY, b"x" * 50_000)
        count = FLOOD // len(message)
        with serve(receiver=Holding) as server, server.connect() as client:
            assert send_until_stalled(client.sock, message * count) < count * len(message)
            assert len(server.messages) == 1

    def test_held_data_does_not_grow(self, serve: Serve) -> None:
        """No more is read while there are messages to deliver, so short messages do not pile up."""
        data = frame(BINARY, b"x") * (FLOOD // 7)
        with serve(receiver=Holding) as server, server.connect() as client:
            sent = send_until_stalled(client.sock, data)
            for _ in range(200):
                server.call(server.connection.resume_delivery)
            more = send_until_stalled(client.sock, data[sent:], quiet=0.1)
            assert more < FLOOD // 20
            assert len(server.messages) == 201

    def test_resume_inside_a_message_delivers_after_it(self, serve: Serve) -> None:
        """The core is not called again before its call has returned."""

        class Eager(Echo):
            def message(self, message: Message) -> bool:
                super().message(message)
                self.server.loop.call_soon(self.connection.resume_delivery)
                self.connection.resume_delivery()
                return False

        with serve(receiver=Eager) as server, server.connect() as client:
            client.send(*[frame(TEXT, b"%d" % at) for at in range(20)])
            assert [client.read_message()[1] for _ in range(20)] == [b"%d" % at for at in range(20)]

    def test_hold_ends_only_by_resume_delivery(self, serve: Serve) -> None:
        """An earlier ``resume_delivery`` or a turn of other connections does not end it."""
        count = 1000
        early: list[Message] = []

        class Fickle(Echo):
            holding = False

            def message(self, message: Message) -> bool:
                if self.holding:
                    early.append(message)
                self.server.messages.append(message)
                self.holding = len(self.server.messages) % 130 == 0
                self.server.loop.call_soon(self.resume_for_nothing)
                return not self.holding

            def resume_for_nothing(self) -> None:
                if not self.holding:
                    self.connection.resume_delivery()

            def resume(self) -> None:
                self.holding = False
                self.connection.resume_delivery()

        receivers: list[Fickle] = []

        def make(server: ServerUnderTest, connection: Connection) -> Fickle:
            receivers.append(Fickle(server, connection))
            return receivers[0]

        with serve(receiver=make) as server, server.connect() as client:
            client.send(frame(TEXT, b"x") * count)
            for held_at in range(130, count, 130):
                until(lambda at=held_at: len(server.messages) >= at)  # type: ignore[misc]
                server.wait(asyncio.sleep(0.01))
                assert (len(server.messages), early) == (held_at, [])
                server.call(receivers[0].resume)
            until(lambda: len(server.messages) == count)

    def test_resume_without_a_hold_does_nothing(self, serve: Serve) -> None:
        """It does nothing before the first message, between two, and at the end."""
        with serve() as server, server.connect() as client:
            connection = server.connection
            server.call(connection.resume_delivery)
            assert client.echo() == b"are you there?"
            server.call(connection.resume_delivery)
            client.send(close())
            assert client.close_code() == 1000
            client.sock.close()
            server.has_closed()
            server.call(connection.resume_delivery)

    def test_held_delivery_notices_a_lost_client(self, serve: Serve) -> None:
        """The loss is reported at the latest when delivery goes on."""
        with serve(receiver=Holding) as server:
            with server.connect() as client:
                client.send(frame(TEXT, b"1"), frame(TEXT, b"2"))
                client.read_message()

            def gone() -> bool:
                server.call(server.connection.resume_delivery)
                return bool(server.closed)

            until(gone, "a client that has left was not noticed")
            assert server.closed[0].code == 1006

    def test_many_messages_let_others_have_a_turn(self, serve: Serve) -> None:
        """A client that pipelines messages does not block other connections."""
        count = 20_000
        turns = 0

        class Counting(Echo):
            def message(self, message: Message) -> bool:
                if not self.server.messages:
                    self.turn()
                self.server.messages.append(message)
                return True

            def turn(self) -> None:
                nonlocal turns
                if len(self.server.messages) < count:
                    turns += 1
                    self.server.loop.call_soon(self.turn)

        with serve(receiver=Counting) as server, server.connect() as client:
            client.send(frame(TEXT, b"x") * count)
            until(lambda: len(server.messages) == count)
            assert turns > 10, "the loop stood still until all messages of one client had been delivered"

    @requires(Capability.TURNS)
    @pytest.mark.parametrize("kind", MANY_FRAMES)
    def test_many_frames_let_others_have_a_turn(self, serve: Serve, kind: str) -> None:
        """Pings, fragments and compressed messages end a turn too, not only the number of messages."""
        turns = 0

        class Counting(Echo):
            ended = False

            def message(self, message: Message) -> bool:
                if message == "begin":
                    self.turn()
                self.ended = message == "end"
                return True

            def turn(self) -> None:
                nonlocal turns
                if not self.ended:
                    turns += 1
                    self.server.loop.call_soon(self.turn)
                else:
                    self.server.messages.append("end")

        limits = Limits(compression=Compression(threshold=0))
        with serve(limits, receiver=Counting) as server, server.connect(extensions=DEFLATE_OFFER) as client:
            if kind.startswith("compressed") and not client.extensions:
                pytest.skip("this transport does not compress")
            client.send(frame(TEXT, b"begin") + MANY_FRAMES[kind] + frame(TEXT, b"end"))
            until(lambda: server.messages)
            assert turns > 20, "the loop stood still until all frames of one client had been dealt with"

    # Sending ------------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        "message",
        ["", "text", "é😀" * 50_000, b"", b"bytes", bytes(range(256)) * 300, bytes(1_000_000)],
        ids=_kind_and_length,
    )
    def test_send_and_prepare_keep_every_message(self, serve: Serve, message: str | bytes) -> None:
        """str arrives as text, bytes as binary; the size of a prepared message is that of its payload."""
        payload = message.encode() if isinstance(message, str) else message
        expected = (TEXT if isinstance(message, str) else BINARY, payload)
        with serve() as server, server.connect() as client:
            connection = server.connection

            def send() -> int:
                connection.send(message)
                prepared = server.listener.prepare(message)
                assert connection.send_prepared(prepared)
                assert connection.send_prepared(prepared)
                return prepared.size

            assert server.call(send) == len(payload)
            assert [client.read_message() for _ in range(3)] == [expected] * 3

    @pytest.mark.parametrize("message", [3, None, ["x"], {"a": 1}], ids=str)
    def test_send_of_another_type_raises_typeerror(self, serve: Serve, message: Any) -> None:
        """The connection stays open."""
        with serve() as server, server.connect() as client:
            for use in (server.connection.send, server.listener.prepare):
                with pytest.raises(TypeError):
                    server.call(use, message)
            assert client.echo() == b"are you there?"

    def test_messages_of_one_callback_arrive_in_order(self, serve: Serve) -> None:
        """The order holds for sent messages, prepared messages and pongs."""

        class Talking(Echo):
            def message(self, message: Message) -> bool:
                for at in range(100):
                    if at % 2:
                        self.connection.send(f"{message!r} {at}")
                    else:
                        self.connection.send_prepared(self.server.listener.prepare(f"{message!r} {at}"))
                return True

        with serve(receiver=Talking) as server, server.connect() as client:
            client.send(frame(TEXT, b"a"), frame(PING, b"p"), frame(TEXT, b"b"))
            frames = [client.read() for _ in range(201)]
            texts = [frame_.payload.decode() for frame_ in frames if frame_.opcode == TEXT]
            assert texts == [f"{name!r} {at}" for name in "ab" for at in range(100)]

    def test_send_outside_a_callback_writes_at_once(self, serve: Serve) -> None:
        """It waits neither for data from the client nor for another message."""
        with serve() as server, server.connect() as client:
            server.call(server.connection.send, "now")
            assert client.read() == Frame(TEXT, b"now")

    @pytest.mark.parametrize("tls", [False, True], ids=["ws", "wss"])
    @pytest.mark.parametrize("messages", [1, 2, 3])
    def test_send_in_a_callback_writes_at_once(self, serve: Serve, messages: int, tls: bool) -> None:
        """A message is written while the core still handles the message before, also if others came with that."""
        received = threading.Event()
        noticed = []

        class Computing(Echo):
            def message(self, message: Message) -> bool:
                self.server.messages.append(message)
                self.connection.send("working")
                if len(self.server.messages) == 1:
                    noticed.append(received.wait(PATIENCE / 2))
                return True

        context, client_context = (server_tls(), client_tls()) if tls else (None, None)
        endpoint = Endpoint(port=0, tls=context)
        with serve(endpoint=endpoint, receiver=Computing) as server, server.connect(tls=client_context) as client:
            client.send(*[frame(TEXT, b"go")] * messages)
            assert client.read_message() == (TEXT, b"working")
            received.set()
            assert [client.read_message() for _ in range(messages - 1)] == [(TEXT, b"working")] * (messages - 1)
            assert until(lambda: noticed) == [True]

    # Clients that read too slowly ---------------------------------------------------------------------------------

    def test_drain_keeps_a_sender_within_the_limit(self, serve: Serve) -> None:
        """Ten megabytes reach a slow client: ``send`` while not ``write_paused``, or else ``drain``."""
        with serve(Limits(max_send_buffer=300_000)) as server, server.connect() as client:
            connection = server.connection

            async def stream() -> tuple[int, int]:
                most = waited = 0
                for _ in range(100):
                    connection.send(bytes(100_000))
                    most = max(most, connection.write_buffer_size)
                    if connection.write_paused:
                        waited += 1
                        await connection.drain()
                return most, waited

            streaming = server.start(stream())
            until(lambda: connection.write_paused or streaming.done())
            for _ in range(100):
                assert len(client.read_message()[1]) == 100_000
            most, waited = streaming.result(PATIENCE)
            assert most <= 300_000
            assert waited

    def test_drain_returns_at_once_for_a_reading_client(self, serve: Serve) -> None:
        """Nothing is buffered, so it does not wait."""
        with serve() as server, server.connect():
            server.wait(server.connection.drain())
            assert server.connection.write_buffer_size == 0

    @pytest.mark.parametrize("end", ["close", "abort", "leave"])
    def test_drain_raises_when_the_connection_ends(self, serve: Serve, end: str) -> None:
        """Every waiting ``drain`` raises ConnectionClosed."""
        with serve(Limits(max_send_buffer=FLOOD, close_timeout=0.3)) as server, server.connect() as client:
            connection = server.connection
            server.call(fill, connection)
            waiting = [server.start(connection.drain()) for _ in range(3)]
            if end == "leave":
                client.sock.close()
            else:
                server.call(getattr(connection, end))
            for future in waiting:
                with pytest.raises(ConnectionClosed):
                    future.result(PATIENCE)

    def test_slow_reader_is_closed_with_1013(self, serve: Serve) -> None:
        """``send`` raises ConnectionClosed, and the memory that is held for the client is limited."""
        limits = Limits(max_send_buffer=200_000, close_timeout=0.3)
        with serve(limits) as server, server.connect():
            connection = server.connection
            peak = 0

            def flood() -> ConnectionClosed:
                nonlocal peak
                for _ in range(1000):
                    try:
                        connection.send(bytes(50_000))
                    except ConnectionClosed as error:
                        return error
                    peak = max(peak, connection.write_buffer_size)
                raise AssertionError("50 MB were left unread, and nothing was said")

            error = server.call(flood)
            assert error.code == 1013
            assert peak <= 200_000 + 50_100
            closed = server.has_closed()
            assert (closed.code, closed.by) == (1013, ClosedBy.SERVER)
            assert closed.reason

    @pytest.mark.parametrize("limit", [2000, 200_000])
    @pytest.mark.parametrize("size", [500, 150_000])
    @pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
    def test_collected_responses_count_as_unread(self, serve: Serve, limit: int, size: int, tls: bool) -> None:
        """A transport may collect the responses to messages that came together, up to ``max_send_buffer``."""
        peak, refused = 0, []

        class Flooding(Echo):
            def message(self, message: Message) -> bool:
                nonlocal peak
                try:
                    for _ in range(FLOOD // size):
                        self.connection.send(bytes(size))
                        peak = max(peak, self.connection.write_buffer_size)
                except ConnectionClosed as error:
                    refused.append(error.code)
                return True

        limits = Limits(max_send_buffer=limit, close_timeout=0.3)
        endpoint = Endpoint(port=0, tls=server_tls() if tls else None)
        with (
            serve(limits, endpoint, receiver=Flooding) as server,
            server.connect(tls=client_tls() if tls else None) as client,
        ):
            client.send(frame(TEXT, b"a"), frame(TEXT, b"b"))
            assert server.has_closed().code == 1013
        assert refused[0] == 1013
        assert peak <= limit + size + 100

    @requires(Capability.UNREAD_DATA)
    def test_data_inside_tls_counts_as_unread(self, serve: Serve) -> None:
        """``write_buffer_size`` includes what TLS holds of a message."""
        size = FLOOD + 8_000_000
        limits = Limits(max_send_buffer=2 * size, close_timeout=0.3)
        with (
            serve(limits, Endpoint(port=0, tls=server_tls())) as server,
            server.connect(tls=client_tls()),
        ):
            connection = server.connection
            server.call(connection.send, bytes(size))
            assert server.call(lambda: connection.write_buffer_size) >= size - FLOOD

    def test_send_prepared_to_slow_reader_returns_false(self, serve: Serve) -> None:
        """It returns False from the moment in which the client is closed, and raises nothing."""
        with serve(Limits(max_send_buffer=200_000, close_timeout=0.3)) as server, server.connect():
            connection = server.connection

            def flood() -> list[bool]:
                prepared = server.listener.prepare(bytes(50_000))
                return [connection.send_prepared(prepared) for _ in range(1000)]

            sent = server.call(flood)
            assert sent.index(False) == sum(sent)
            assert server.has_closed().code == 1013

    @requires(Capability.UNREAD_DATA, payload=[frame(PING, b"x" * 125) * 4000])
    @pytest.mark.parametrize(
        "payload", [frame(PING, b"x" * 125) * 4000, frame(BINARY, b"x" * 50_000) * 10], ids=["pings", "messages"]
    )
    def test_client_that_never_reads_is_limited(self, serve: Serve, payload: bytes) -> None:
        """Responses and pongs count: the client is closed, or the transport stops reading from it."""
        limits = Limits(max_send_buffer=200_000, close_timeout=0.3)
        with serve(limits) as server, server.connect() as client:
            connection = server.connection
            client.sock.settimeout(0.3)
            peak = 0

            def given_up() -> bool:
                nonlocal peak
                taken = client.try_to_send(payload)
                peak = max(peak, server.call(lambda: connection.write_buffer_size))
                return not taken or bool(server.closed)

            # The system's buffers take some megabytes of pongs first.
            until(given_up, "the transport did not give up a client that reads nothing", 4 * PATIENCE)
            assert peak < 2_000_000

    def test_broadcast_closes_only_the_slow_reader(self, serve: Serve) -> None:
        """A client that stopped reading is closed with 1013, and one that reads gets every message."""
        limits = Limits(max_send_buffer=500_000, close_timeout=0.3)
        message = "x" * 2000
        with serve(limits) as server, server.connect(), server.connect() as quick:
            slow, reading = until(lambda: server.connections[1:] and server.connections)

            def burst() -> tuple[int, int]:
                prepared = server.listener.prepare(message)
                counts = [sum(one.send_prepared(prepared) for _ in range(100)) for one in (slow, reading)]
                return counts[0], counts[1]

            sent_to_slow = 0
            for _ in range(80):
                to_slow, to_reading = server.call(burst)
                sent_to_slow += to_slow
                assert to_reading == 100
                assert {quick.read_message() for _ in range(100)} == {(TEXT, message.encode())}
            assert sent_to_slow < 8000
            until(lambda: server.closed)
            assert [closed.code for closed in server.closed] == [1013]
            assert reading.state is State.OPEN

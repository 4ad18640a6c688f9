"""What a hostile or careless client may cost: sizes, fragments, inflation, floods, slow reading; memory stays flat."""

from __future__ import annotations

import gc
import os
import random
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websocket_frames import BINARY, CONTINUATION, PING, TEXT, close, frame
from wsproto_server import Echo, Frame, Server, until

from zcli_core.contracts.websocket import Compression, Connection, Limits, Message

MAX_SIZE = 100_000


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(Limits(max_size=MAX_SIZE, max_fragments=1000, compression=Compression())) as running:
        yield running


def deflated(payload: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -12)
    return (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def peak_of(action: Callable[[], None]) -> int:
    """Bytes by which this process's memory grew at the most while it did that."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew (proc(5))
    before = _peak()
    action()
    return _peak() - before


def _peak() -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


on_linux = pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="measures as Linux does")


# Sizes ----------------------------------------------------------------------------------------------------------


def in_one_frame(size: int) -> list[bytes]:
    return [frame(BINARY, b"x" * size)]


def in_fragments(size: int) -> list[bytes]:
    first, *others = (b"x" * size)[:-30_000], b"x" * 20_000, b"x" * 10_000
    return [
        frame(BINARY, first, fin=False),
        *[frame(CONTINUATION, other, fin=at == len(others) - 1) for at, other in enumerate(others)],
    ]


def inflated(size: int) -> list[bytes]:
    return [frame(BINARY, deflated(b"x" * size), rsv=4)]


def inflated_in_fragments(size: int) -> list[bytes]:
    data = deflated(b"x" * size)
    return [frame(BINARY, data[:9], rsv=4, fin=False), frame(CONTINUATION, data[9:])]


@pytest.mark.parametrize("way", [in_one_frame, in_fragments, inflated, inflated_in_fragments])
def test_max_size_passes_and_one_byte_more_is_1009_with_the_limit_in_the_reason(server: Server, way: Any) -> None:
    """However the message is made."""
    with server.connect(extensions="permessage-deflate") as client:
        client.send(*way(MAX_SIZE))
        assert client.read().opcode == BINARY
        client.send(*way(MAX_SIZE + 1))
        before, code, reason = client.ending()
        assert (before, code) == ([], 1009)
        assert "limit" in reason
        assert str(MAX_SIZE) in reason


@pytest.mark.parametrize("declared", [MAX_SIZE + 1, 1 << 40, (1 << 63) - 1])
@pytest.mark.parametrize("fin", [True, False])
def test_an_oversize_frame_fails_on_its_header(server: Server, declared: int, fin: bool) -> None:
    """Nobody waits for a terabyte."""
    with server.connect() as client:
        client.send(frame(BINARY, fin=fin, declared=declared)[: 4 + (10 if declared > 65535 else 4)])
        assert client.close_code() == 1009


def test_max_size_counts_bytes_and_not_characters(server: Server) -> None:
    """Of text as it is sent."""
    with server.connect() as client:
        client.send(frame(TEXT, ("é" * (MAX_SIZE // 2)).encode()))
        assert len(client.read().payload) == MAX_SIZE
        client.send(frame(TEXT, ("é" * (MAX_SIZE // 2 + 1)).encode()))
        assert client.close_code() == 1009


def test_a_hundred_thousand_empty_fragments_are_1009(server: Server) -> None:
    """They would cost far more to keep than they weigh."""
    with server.connect() as client:
        client.try_to_send(frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * 100_000)
        before, code, reason = client.ending()
        assert (before, code) == ([], 1009)
        assert "fragments" in reason


def test_max_fragments_passes_and_one_more_is_1009(server: Server) -> None:
    """The limit is the limit."""

    def message(fragments: int) -> bytes:
        return frame(TEXT, b"x", fin=False) + frame(CONTINUATION, b"y", fin=False) * (fragments - 2) + frame(0, b"z")

    with server.connect() as client:
        client.send(message(1000))
        assert client.read().payload == b"x" + b"y" * 998 + b"z"
        client.send(message(1001))
        assert client.close_code() == 1009


# Memory ---------------------------------------------------------------------------------------------------------


@on_linux
@pytest.mark.parametrize("attack", ["bomb", "bomb in fragments", "bytes after the end", "pings unread", "oversize"])
def test_memory_stays_flat_under(server: Server, attack: str) -> None:
    """What a bomb would become, or an attacker sends, is a multiple of what is allowed here."""
    bomb = deflated(bytes(48 * 1024 * 1024))
    half = len(bomb) // 2
    flood = {
        "bomb": frame(BINARY, bomb, rsv=4),
        "bomb in fragments": frame(BINARY, bomb[:half], rsv=4, fin=False) + frame(CONTINUATION, bomb[half:]),
        "bytes after the end": frame(3) + bytes(16 * 1024 * 1024),
        "pings unread": frame(PING, b"x" * 125) * 20_000,
        "oversize": frame(BINARY, bytes(16 * 1024 * 1024)),
    }[attack]

    def once() -> None:
        with server.connect(extensions="permessage-deflate") as client:
            client.try_to_send(flood)
            if attack == "pings unread":
                client.send(close(1000))
            assert client.ending()[1] in (1009, 1002, 1000)

    once()  # what is imported or allocated once has its peak here
    assert peak_of(once) < 6 * 1024 * 1024


@pytest.mark.parametrize("attack", ["pings", "messages"])
def test_a_client_that_sends_and_never_reads_is_closed_with_1013(attack: str) -> None:
    """Answers count, those to pings too."""
    limits = Limits(send_buffer_max=200_000, close_timeout=0.5)
    data = frame(PING, b"x" * 125) * 500 if attack == "pings" else frame(BINARY, b"x" * 50_000)
    with Server(limits) as server, server.connect() as client:
        client.sock.settimeout(0.05)
        until(lambda: server.connections)
        peak = [0]

        def send_more() -> bool:
            client.try_to_send(data)
            peak.append(server.call(lambda: server.connections[0].write_buffer_size))
            return bool(server.closed)

        until(send_more)
        assert server.closed[0].code == 1013
        assert "200000 bytes" in server.closed[0].reason
        assert max(peak) < 2_000_000


def test_a_slow_reader_of_a_broadcast_is_closed_and_nobody_else_notices() -> None:
    """10,000 messages to a client that stopped reading and to one that reads; the slow one is gone with 1013."""
    limits = Limits(send_buffer_max=500_000, close_timeout=0.2)
    message = "x" * 2000
    with Server(limits) as server, server.connect() as slow, server.connect() as quick:
        until(lambda: len(server.connections) == 2)
        peak = 0
        sent = {"slow": 0, "quick": 0}
        gone = False
        for _ in range(100):

            def burst() -> list[int]:
                prepared = server.listener.prepare(message)
                return [sum(wire.send_prepared(prepared) for _ in range(100)) for wire in server.connections]

            first, second = server.call(burst)
            peak = max(peak, *(server.call(lambda: [c.write_buffer_size for c in server.connections])))
            for _ in range(100):
                assert quick.read().payload == message.encode()
            sent["slow"] += first
            sent["quick"] += second
        gone = bool(until(lambda: server.closed))
        assert sent["quick"] == 10_000
        assert sent["slow"] < 10_000
        assert gone
        assert [closed.code for closed in server.closed] == [1013]
        assert peak < 500_000 + 100 * 2100
        slow.sock.close()


# Backpressure ---------------------------------------------------------------------------------------------------


class Holding(Echo):
    """Asks to wait after every message; whoever resumes delivery gets the next one."""

    def message(self, message: Message) -> bool:
        super().message(message)
        return False


def test_a_receiver_that_waits_slows_the_client_down() -> None:
    """One message at a time; what is not taken stays with TCP, and nothing is lost or out of order."""
    messages = [b"%06d" % at * 1000 for at in range(400)]
    with Server(receiver=Holding) as server, server.connect() as client:
        client.sock.settimeout(0.3)
        sent = 0
        stream = b"".join(frame(BINARY, message) for message in messages)
        try:
            while sent < len(stream):
                sent += client.sock.send(stream[sent:])
        except TimeoutError:
            pass
        until(lambda: server.messages)
        assert len(server.messages) == 1
        connection: Connection = server.connections[0]
        assert connection._decoder.waiting < 600_000  # type: ignore[attr-defined]
        client.sock.settimeout(20)
        for message in messages:
            assert client.read() == Frame(BINARY, message)
            client.sock.setblocking(False)
            try:
                while sent < len(stream):
                    sent += client.sock.send(stream[sent:])
            except BlockingIOError:
                pass
            client.sock.settimeout(20)
            server.call(connection.resume_delivery)
        assert server.messages == messages


def test_a_sender_that_drains_is_never_too_fast() -> None:
    """Twenty megabytes to a client that takes its time."""
    with Server(Limits(send_buffer_max=300_000)) as server, server.connect() as client:
        (connection,) = until(lambda: server.connections)

        async def stream() -> int:
            most = 0
            for _ in range(200):
                connection.send(bytes(100_000))
                most = max(most, connection.write_buffer_size)
                if connection.write_paused:
                    await connection.drain()
            return most

        import asyncio

        future = asyncio.run_coroutine_threadsafe(stream(), server.loop)
        for _ in range(200):
            assert len(client.read().payload) == 100_000
        assert future.result(20) < 300_000


def test_many_messages_in_one_read_leave_others_their_turn() -> None:
    """A client that pipelines does not hold the loop until it has run dry."""
    with Server() as server, server.connect() as busy, server.connect() as other:
        busy.send(frame(TEXT, b"x") * 20_000)
        assert other.echo() == b"are you there?"
        for _ in range(20_000):
            busy.read()


# Anything at all ------------------------------------------------------------------------------------------------


def test_random_bytes_close_one_connection_and_no_other(server: Server, caplog: Any) -> None:
    """A hundred clients that talk nonsense, with a traceback for none of them."""
    chance = random.Random(5)
    with server.connect() as witness:
        for _ in range(100):
            with server.connect(extensions=chance.choice([None, "permessage-deflate"])) as client:
                client.try_to_send(chance.randbytes(chance.choice([10, 200, 70_000])))
                client.try_to_send(frame(TEXT, b"x" * MAX_SIZE) * 3)  # whatever was begun is over now
                client.try_to_send(frame(3))
                assert client.read_to_end()
        assert witness.echo() == b"are you there?"
    assert "Traceback" not in caplog.text

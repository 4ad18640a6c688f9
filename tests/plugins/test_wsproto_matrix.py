"""The decoder compared with a model and with `websockets`: fragments, compression, control frames, and errors."""

from __future__ import annotations

import codecs
import zlib
from typing import Any, NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from websocket_streams import comparable, cut, decode_with, masks
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Opcode
from websockets.protocol import SERVER, Protocol
from zcli_wsproto.decoder import MessageDecoder
from zcli_wsproto.deflate import Agreement, Deflater

from zcli_core.testing.websocket.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    close,
    deflated,
    frame,
)
from zcli_core.testing.websocket.messages import BAD_TEXTS, GOOD_TEXTS
from zcli_core.websocket.contract import Compression, Limits
from zcli_core.websocket.parts.events import Close, Failure, Ping, Pong

LARGE = Limits(max_size=1 << 22, max_fragments=10_000)
AGREEMENT = Agreement(15, 15, False, "permessage-deflate")


def decode(chunks: list[bytes], limits: Limits = LARGE, agreement: Agreement | None = AGREEMENT) -> list[Any]:
    """Return every event of a stream that comes in these chunks."""
    return decode_with(MessageDecoder(limits, agreement), chunks)


def second_oracle(data: bytes, agreement: Agreement | None) -> list[Any]:
    """Return the events of `websockets`, with fragments joined."""
    protocol = Protocol(SERVER, max_size=LARGE.max_size)
    if agreement is not None:
        protocol.extensions = [PerMessageDeflate(agreement.client_forgets, True, agreement.client_bits, 15)]
    protocol.receive_data(data)
    events: list[Any] = []
    parts, text = b"", False
    for received in protocol.events_received():
        payload = bytes(received.data)
        if received.opcode is Opcode.PING:
            events.append(Ping(payload))
        elif received.opcode is Opcode.PONG:
            events.append(Pong(payload))
        elif received.opcode is Opcode.CLOSE:
            events.append(Close(protocol.close_rcvd.code, protocol.close_rcvd.reason))  # type: ignore[union-attr]
        else:
            if received.opcode is not Opcode.CONT:
                parts, text = b"", received.opcode is Opcode.TEXT
            parts += payload
            if received.fin:
                events.append(parts.decode() if text else parts)
    if protocol.parser_exc is not None and protocol.close_rcvd is None:
        events.append(("failure", protocol.close_sent.code if protocol.close_sent else None))
    return events


# Conversations ----------------------------------------------------------------------------------------------------


class Conversation(NamedTuple):
    """The data of a client, and the expected events."""

    agreement: Agreement | None
    data: bytes
    events: list[Any]
    #: Whether a message has a final deflate block, after which `websockets` does not go on.
    final_blocks: bool


texts = st.text(max_size=50) | st.sampled_from(GOOD_TEXTS) | st.just("κόσμε €😀 " * 300)
binaries = st.binary(max_size=200) | st.integers(0, 70_000).map(lambda size: bytes(range(251)) * (size // 251 + 1))


class _Compressor:
    """A client's compressor, which keeps its window between messages if that was agreed on."""

    def __init__(self, draw: Any, agreement: Agreement) -> None:
        self._draw = draw
        self._agreement = agreement
        self._kept: Any = None
        self.final_blocks = False

    def message(self, payload: bytes) -> bytes:
        draw = self._draw
        compressor = self._kept or zlib.compressobj(
            draw(st.integers(0, 9)), zlib.DEFLATED, -self._agreement.client_bits, draw(st.integers(1, 9)),
            draw(st.sampled_from([zlib.Z_DEFAULT_STRATEGY, zlib.Z_HUFFMAN_ONLY, zlib.Z_RLE, zlib.Z_FIXED])),
        )  # fmt: skip
        data = b""
        for part in cut(payload, draw(st.lists(st.integers(1, 300), max_size=3))):
            data += compressor.compress(part)
            data += compressor.flush(draw(st.sampled_from([zlib.Z_NO_FLUSH, zlib.Z_SYNC_FLUSH, zlib.Z_FULL_FLUSH])))
        if draw(st.integers(0, 5)) == 0:
            self._kept = None
            self.final_blocks = True
            return data + compressor.flush(zlib.Z_FINISH) + draw(st.sampled_from([b"", b"\x00"]))
        self._kept = None if self._agreement.client_forgets else compressor
        data = data + compressor.flush(zlib.Z_SYNC_FLUSH)
        return data[:-4] if data else b"\x00"  # nothing to flush: an empty message (RFC 7692, 7.2.3.6)


@st.composite
def conversations(draw: Any) -> Conversation:
    """Messages of every form, with control frames between their fragments."""
    agreement = draw(
        st.none() | st.builds(Agreement, st.just(15), st.integers(9, 15), st.booleans(), st.just("permessage-deflate"))
    )
    compressor = _Compressor(draw, agreement) if agreement is not None else None
    data, events = b"", []
    for _ in range(draw(st.integers(1, 5))):
        message: str | bytes = draw(texts | binaries)
        payload = message.encode() if isinstance(message, str) else message
        compressed = compressor is not None and draw(st.booleans())
        if compressed:
            assert compressor is not None
            payload = compressor.message(payload)
        sizes = draw(st.lists(st.integers(0, 40) | st.integers(0, 9000), max_size=6))
        pieces, at = [], 0
        for size in sizes:
            pieces.append(payload[at : at + size])
            at += size
        pieces.append(payload[at:])
        for number, piece in enumerate(pieces):
            first, last = number == 0, number == len(pieces) - 1
            opcode = (TEXT if isinstance(message, str) else BINARY) if first else CONTINUATION
            data += frame(opcode, piece, fin=last, rsv=4 if compressed and first else 0, mask=draw(masks))
            if not last and draw(st.booleans()):
                control = draw(st.binary(max_size=125))
                kind = draw(st.sampled_from([PING, PONG]))
                data += frame(kind, control, mask=draw(masks))
                events.append(Ping(control) if kind == PING else Pong(control))
        events.append(message)
    if draw(st.booleans()):
        data += close(1000, b"bye")
        events.append(Close(1000, "bye"))
    return Conversation(agreement, data, events, compressor is not None and compressor.final_blocks)


chunks = st.just([]) | st.lists(st.integers(1, 20), max_size=40) | st.lists(st.integers(1, 70_000), max_size=10)


@settings(max_examples=60, deadline=None)
@given(conversations(), chunks)
def test_decoder_valid_stream_matches_websockets(conversation: Conversation, sizes: list[int]) -> None:
    """The events do not depend on where TCP splits the data, and `websockets` returns the same ones."""
    agreement, data, events, final_blocks = conversation
    assert decode(cut(data, sizes), LARGE, agreement) == events
    if not final_blocks:
        assert second_oracle(data, agreement) == events


@settings(max_examples=60, deadline=None)
@given(conversations(), st.data())
def test_decoder_damaged_stream_fails_once(conversation: Conversation, chance: Any) -> None:
    """Whichever byte is changed, the decoder raises nothing, and a failure is the last event."""
    data = bytearray(conversation.data)
    for _ in range(chance.draw(st.integers(1, 3))):
        data[chance.draw(st.integers(0, len(data) - 1))] ^= chance.draw(st.integers(1, 255))
    limits = Limits(max_size=2000, max_fragments=3)
    events = decode([bytes(data)], limits, conversation.agreement)
    assert not any(isinstance(event, (Close, Failure)) for event in events[:-1])
    for event in events:
        if isinstance(event, (str, bytes)):
            assert len(event if isinstance(event, bytes) else event.encode()) <= 2000
    sizes = chance.draw(chunks)
    assert comparable(decode(cut(bytes(data), sizes), limits, conversation.agreement)) == comparable(events)


@pytest.mark.parametrize(("start", "code"), [(b"\xff", 1007), ("\u03ba".encode(), 1009)])
@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_decoder_too_large_text_fails_alike(start: bytes, code: int, step: int) -> None:
    """A text that is invalid before the limit fails as invalid, wherever TCP splits the data."""
    data = frame(TEXT, deflated(start + b"a" * 5000), rsv=4)
    pieces = [data[at : at + step] for at in range(0, len(data), step)]
    assert [event.code for event in decode(pieces, Limits(max_size=2000))] == [code]


# Frames that are not allowed --------------------------------------------------------------------------------------

#: The data before the tested frame: nothing, a message, or the beginning of one.
BEFORE = {
    "at the start": b"",
    "after a message": frame(TEXT, b"x"),
    "inside a message": frame(TEXT, b"x", fin=False),
    "inside a compressed message": frame(TEXT, deflated(b"x"), fin=False, rsv=4),
}


@pytest.mark.parametrize("agreement", [None, AGREEMENT], ids=["plain", "deflate"])
@pytest.mark.parametrize("before", BEFORE)
def test_decoder_first_byte_matches_websockets(before: str, agreement: Agreement | None) -> None:
    """All 256: reserved bits, opcodes, fragmented control frames, messages inside messages."""
    if agreement is None and "compressed" in before:
        return
    for first in range(256):
        if first == 0x88 and "inside" in before:
            continue  # `websockets` refuses a close frame inside a message, which RFC 6455 does not
        data = BEFORE[before] + frame(first & 15, fin=first >= 128, rsv=first >> 4 & 7)
        expected = second_oracle(data, agreement)
        found = comparable(decode([data], LARGE, agreement))
        assert found == expected, f"first byte {first:#x}"
        assert comparable(decode(cut(data, [1] * len(data)), LARGE, agreement)) == expected, f"first byte {first:#x}"


@pytest.mark.parametrize("first", [0x81, 0x82, 0x01, 0xC2, 0x88, 0x89, 0x8A])
def test_decoder_second_byte_follows_the_rfc(first: int) -> None:
    """Frames without a mask, and control frames of more than 125 bytes, fail (RFC 6455, 5.1 and 5.5)."""
    for second in range(256):
        events = decode([bytes((first, second))])
        wrong = second < 0x80 or (first & 8 and second > 0x80 + 125)
        assert [getattr(event, "code", None) for event in events] == ([1002] if wrong else []), f"{second:#x}"


@pytest.mark.parametrize(
    ("length", "size"),
    [(125, 2), (125, 8), (0, 2), (0, 8), (65535, 8), (126, 8), (1 << 63, 8), ((1 << 64) - 1, 8)],
)
@pytest.mark.parametrize("kind", [(BINARY, 0), (TEXT, 4), (CONTINUATION, 0)], ids=["binary", "compressed", "fragment"])
def test_decoder_length_not_shortest_fails_at_once(length: int, size: int, kind: tuple[int, int]) -> None:
    """It fails before the mask has come (RFC 6455, 5.2)."""
    opcode, rsv = kind
    before = frame(TEXT, b"x", fin=False) if opcode == CONTINUATION else b""
    header = frame(opcode, rsv=rsv, declared=length, length_bytes=size)[: 2 + size]
    (failure,) = decode([before + header])
    assert failure.code == 1002


# Text -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("compressed", [False, True], ids=["plain", "compressed"])
@pytest.mark.parametrize("text", [*GOOD_TEXTS, "a" * 50 + "😀" * 20])
def test_decoder_text_can_be_split_anywhere(text: str, compressed: bool) -> None:
    """It may be split between fragments and between reads."""
    payload = deflated(text.encode()) if compressed else text.encode()
    for at in range(len(payload) + 1):
        data = frame(TEXT, payload[:at], fin=False, rsv=4 if compressed else 0)
        data += frame(PING, b"p") + frame(CONTINUATION, payload[at:])
        assert decode([data]) == [Ping(b"p"), text]
        assert decode(cut(data, [1] * len(data))) == [Ping(b"p"), text]


def first_bad_byte(payload: bytes) -> int:
    """Return where Python's incremental decoder fails if it gets one byte at a time."""
    incremental = codecs.getincrementaldecoder("utf-8")()
    for at in range(len(payload)):
        try:
            incremental.decode(payload[at : at + 1])
        except UnicodeDecodeError:
            return at
    raise AssertionError("it is good")


@pytest.mark.parametrize("size", [1, 2, 7])
@pytest.mark.parametrize("bad", BAD_TEXTS.values(), ids=BAD_TEXTS)
def test_decoder_split_invalid_text_fails_at_its_byte(bad: bytes, size: int) -> None:
    """It fails at the first byte that cannot begin or continue a character, however the message is split."""
    payload = "héllo".encode() + bad + b" and more" * 3
    fails_at = first_bad_byte(payload)
    decoder = MessageDecoder(LARGE, AGREEMENT)
    for at in range(0, len(payload), size):
        data = frame(CONTINUATION if at else TEXT, payload[at : at + size], fin=False)
        for byte in range(len(data)):
            decoder.feed(data[byte : byte + 1])
            event = decoder.next()
            failed = byte >= 6 and at + byte - 6 >= fails_at
            assert (event is not None) == failed, (at, byte)
            if failed:
                assert isinstance(event, Failure)
                assert event.code == 1007
                return


def test_decoder_text_ending_inside_a_character() -> None:
    """It fails in one frame, in fragments, and compressed."""
    payload = "é".encode()[:1]
    for data in (
        frame(TEXT, payload),
        frame(TEXT, payload, fin=False) + frame(CONTINUATION),
        frame(TEXT, deflated(payload), rsv=4),
        frame(TEXT, deflated(payload), fin=False, rsv=4) + frame(CONTINUATION),
    ):
        (failure,) = decode([data])
        assert failure.code == 1007


# Sizes and work ---------------------------------------------------------------------------------------------------

KIB_256 = 256 * 1024


@pytest.mark.parametrize("cuts", [[], [1], [100, 0, 100]], ids=["whole", "two fragments", "four fragments"])
@pytest.mark.parametrize("size", [0, 1, KIB_256 - 1, KIB_256, KIB_256 + 1, 2 * KIB_256, 600_000, 600_001])
def test_decoder_max_size_is_exact_decompressed(size: int, cuts: list[int]) -> None:
    """This holds for decompression in several steps; the state is valid for the next message."""
    limits = Limits(max_size=600_000)
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)

    def message(payload: bytes, sizes: list[int]) -> bytes:
        data = (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
        pieces, at = [], 0
        for length in sizes:
            pieces.append(data[at : at + length])
            at += length
        pieces.append(data[at:])
        return b"".join(
            frame(CONTINUATION if at else BINARY, piece, fin=at == len(pieces) - 1, rsv=0 if at else 4)
            for at, piece in enumerate(pieces)
        )

    stream = message(bytes(range(256)) * (size // 256) + bytes(size % 256), cuts) + message(b"next", [])
    for sizes in ([], [7], [3000]):
        events = decode(cut(stream, sizes), limits)
        if size > limits.max_size:
            assert [event.code for event in events] == [1009]
        else:
            assert [len(event) for event in events] == [size, 4]


def steps(decoder: MessageDecoder) -> tuple[int, list[Any]]:
    """Return how many calls of next() it takes until there is nothing to do, and their events."""
    count, events = 0, []
    while (event := decoder.next()) is not None or decoder.unfinished:
        count += 1
        if event is not None:
            events.append(event)
    return count, events


def test_decoder_call_decodes_limited_fragments() -> None:
    """A client that sends tiny fragments lets other connections work in the middle of its message."""
    decoder = MessageDecoder(LARGE)
    fragment = frame(CONTINUATION, b"y", fin=False)
    decoder.feed(frame(TEXT, b"x", fin=False) + fragment * 9999 + frame(CONTINUATION))
    before = decoder.waiting
    assert decoder.next() is None
    assert decoder.unfinished
    assert before - decoder.waiting < 1000 * len(fragment)
    count, events = steps(decoder)
    assert events == ["x" + "y" * 9999]
    assert count > 10


@pytest.mark.parametrize("whole", [True, False], ids=["whole", "in fragments"])
def test_decoder_call_decompresses_a_limited_amount(whole: bool) -> None:
    """A message of megabytes, or of tiny final blocks, takes several calls."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    tiny = compressor.compress(b"x") + compressor.flush(zlib.Z_FINISH)
    for data, payload in ((deflated(bytes(1 << 22)), bytes(1 << 22)), (tiny * 5000, b"x" * 5000)):
        decoder = MessageDecoder(LARGE, AGREEMENT)
        half = len(data) // 2
        decoder.feed(
            frame(BINARY, data, rsv=4)
            if whole
            else frame(BINARY, data[:half], rsv=4, fin=False) + frame(CONTINUATION, data[half:])
        )
        count, events = steps(decoder)
        assert events == [payload]
        assert 10 < count < 100


@pytest.mark.parametrize("parts", [1, 50])
def test_decoder_empty_final_blocks_are_limited(parts: int) -> None:
    """Like empty fragments, each of them costs far more than its two bytes."""
    data = b"\x03\x00" * 100
    pieces = cut(data, [len(data) // parts] * (parts - 1))
    stream = b"".join(
        frame(CONTINUATION if at else BINARY, piece, fin=at == len(pieces) - 1, rsv=0 if at else 4)
        for at, piece in enumerate(pieces)
    )
    assert decode([stream], Limits(max_fragments=100)) == [b""]
    (failure,) = decode([stream], Limits(max_fragments=99))
    assert (failure.code, "99 empty fragments" in failure.reason) == (1009, True)


def test_decoder_max_fragments_counts_empty_ones() -> None:
    """``max_size`` limits those with a payload; each message counts its own empty ones."""
    limits = Limits(max_size=5000, max_fragments=3)
    empty, full = frame(CONTINUATION, fin=False), frame(CONTINUATION, b"y", fin=False)
    message = frame(BINARY, b"x", fin=False) + empty + full * 4999 + empty + frame(CONTINUATION)
    assert decode([message * 3], limits) == [b"x" + b"y" * 4999] * 3
    (failure,) = decode([frame(BINARY, b"x", fin=False) + full * 5000], limits)
    assert (failure.code, "5001" in failure.reason) == (1009, True)
    (failure,) = decode([frame(BINARY, fin=False) + empty * 3], limits)
    assert (failure.code, "3 empty fragments" in failure.reason) == (1009, True)


def test_decoder_partial_message_holds_only_its_bytes() -> None:
    """It holds the bytes of the text, not an object for each fragment or four bytes for each character."""
    import tracemalloc

    text = "é" * 5000
    payload = text.encode()
    data = frame(TEXT, payload[:2], fin=False)
    data += b"".join(frame(CONTINUATION, payload[at : at + 2], fin=False) for at in range(2, len(payload), 2))
    decoder = MessageDecoder(LARGE)
    tracemalloc.start()
    for at in range(0, len(data), 500):
        decoder.feed(data[at : at + 500])
        assert steps(decoder)[1] == []
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 2 * len(payload) + 4096
    decoder.feed(frame(CONTINUATION))
    assert steps(decoder)[1] == [text]


@pytest.mark.parametrize("cut_at", [None, 3, 20])
@pytest.mark.parametrize(
    ("bad", "missing"),
    [
        (frame(TEXT, b"\xff" + b"x" * 50), 0),
        (frame(BINARY, declared=1 << 30), None),
        (frame(3, b"x" * 50), None),
        (frame(TEXT, b"\x06" + b"x" * 50, rsv=4), 0),
    ],
    ids=["text", "size", "opcode", "deflate"],
)
def test_decoder_rest_after_a_failure_finds_frames(bad: bytes, missing: int | None, cut_at: int | None) -> None:
    """``rest`` gives the data that is needed to find the client's close frame."""
    stream = frame(TEXT, b"good") + bad + close(1000)
    decoder = MessageDecoder(LARGE, AGREEMENT)
    fed = len(stream) if cut_at is None else len(frame(TEXT, b"good")) + cut_at
    decoder.feed(stream[:fed])
    events = steps(decoder)[1]
    assert events[0] == "good"
    if isinstance(events[-1], Failure):
        to_come, data = decoder.rest()
        at_frame = data + stream[fed:]
        # Either the data begins with the frame that failed, or so many bytes of it are still to come.
        assert at_frame in (bad + close(1000), bad[len(bad) - to_come - len(data) :] + close(1000)) or (
            at_frame[to_come:] == close(1000)
        )
        if missing == 0 and cut_at is None:
            assert (to_come, data) == (0, close(1000))


# Compression ------------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.binary(max_size=300) | binaries, st.integers(9, 15)), min_size=1, max_size=6),
    st.integers(1, 9),
)
@example([(b"x", 12), (b"", 12)], 5)
def test_deflater_frames_are_independent(messages: list[tuple[bytes, int]], memory_level: int) -> None:
    """One compressor serves every client, but each frame can be decompressed alone, in its window."""
    deflater = Deflater(Compression(memory_level=memory_level, threshold=0))
    for payload, bits in messages:
        made = deflater.frame(0x82, payload, bits)
        if made[0] & 0x40:
            start = {126: 4, 127: 10}.get(made[1], 2)
            assert len(made) > start  # an empty payload is not valid deflate data
            inflater = zlib.decompressobj(-bits)
            assert inflater.decompress(made[start:] + b"\x00\x00\xff\xff") == payload
        else:
            assert made.endswith(payload)


def test_decoder_empty_compressed_message_is_valid() -> None:
    """It may have no payload at all, or the form of RFC 7692, 7.2.3.6."""
    again = frame(TEXT, deflated(b"again"), rsv=4)
    stream = b"".join(frame(TEXT, empty, rsv=4) + again for empty in (b"", b"\x00", b"\x02\x00"))
    assert decode([stream]) == ["", "again"] * 3
    stream = frame(TEXT, fin=False, rsv=4) + frame(CONTINUATION) + again
    assert decode([stream]) == ["", "again"]


def test_decoder_close_frame_ends_a_partial_message() -> None:
    """The client may close at any time (RFC 6455, 5.5.1)."""
    assert decode([frame(TEXT, b"x", fin=False) + close(1001)]) == [Close(1001, "")]
    assert decode([frame(CLOSE, b"")]) == [Close(1005, "")]

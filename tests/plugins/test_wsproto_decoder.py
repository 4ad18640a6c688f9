"""The decoder compared with wsproto, and its deliberate differences from it."""

from __future__ import annotations

import sys
import zlib
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websocket_streams import (
    any_frames,
    comparable,
    cut,
    decode_with,
    good_messages,
    masks,
    oracle,
    sizes,
    streams,
    texts,
)
from zcli_wsproto import masking
from zcli_wsproto.decoder import MessageDecoder
from zcli_wsproto.deflate import Agreement

from zcli_core.testing.websocket.frames import BINARY, CONTINUATION, PING, TEXT, close, frame
from zcli_core.websocket.contract import Limits
from zcli_core.websocket.parts.events import Close, Failure, Ping

PLAIN = Limits(max_size=1 << 24, max_fragments=10_000)
AGREEMENT = Agreement(15, 15, False, "permessage-deflate")


def xor(data: bytes, mask: bytes) -> bytes:
    """Unmask in the simplest way, to check the fast ones."""
    return bytes(byte ^ mask[index % 4] for index, byte in enumerate(data))


def decode(chunks: list[bytes], limits: Limits = PLAIN, agreement: Agreement | None = None) -> list[Any]:
    return decode_with(MessageDecoder(limits, agreement), chunks)


@settings(max_examples=200, deadline=None)
@given(streams, sizes, st.integers(0, 40))
def test_decoder_any_stream_matches_wsproto(data: bytes, cuts: list[int], missing: int) -> None:
    data = data[: len(data) - missing]
    found, expected = comparable(decode(cut(data, cuts))), oracle(data)
    # wsproto reports an invalid header only when it is complete; zeros complete it.
    assert found == expected or (found[:-1] == expected and found == oracle(data + bytes(14))[: len(found)])


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=60) | st.lists(any_frames() | st.binary(max_size=12), max_size=5).map(b"".join),
    sizes,
    st.sampled_from([None, AGREEMENT]),
)
def test_decoder_random_bytes_raise_nothing(data: bytes, cuts: list[int], agreement: Agreement | None) -> None:
    limits = Limits(max_size=100, max_fragments=3)
    events = decode(cut(data, cuts), limits, agreement)
    assert not any(isinstance(event, (Close, Failure)) for event in events[:-1])
    assert all(
        len(event if isinstance(event, bytes) else event.encode()) <= 100
        for event in events
        if isinstance(event, (str, bytes))
    )
    assert comparable(decode([data], limits, agreement)) == comparable(events)


@st.composite
def compressed_messages(draw: Any) -> bytes:
    """A compressed message, possibly in fragments, possibly broken."""
    payload = draw(texts)
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    data = (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    if draw(st.integers(0, 9)) == 0:
        data = b"\x06" + draw(st.binary(max_size=30))  # a block of the reserved type (RFC 1951, 3.2.3)
    parts = cut(data, draw(st.lists(st.integers(1, 8), max_size=3))) or [b""]
    last = len(parts) - 1
    return b"".join(
        frame(TEXT if at == 0 else CONTINUATION, part, fin=at == last, rsv=4 if at == 0 else 0, mask=draw(masks))
        for at, part in enumerate(parts)
    )


@settings(max_examples=150, deadline=None)
@given(st.lists(compressed_messages() | good_messages(), max_size=6).map(b"".join), sizes)
def test_decoder_compressed_stream_matches_wsproto(data: bytes, cuts: list[int]) -> None:
    assert comparable(decode(cut(data, cuts), agreement=AGREEMENT)) == oracle(data, compressed=True)


@settings(deadline=None)
@given(st.binary(max_size=100) | st.integers(4, 160).map(lambda pages: bytes(range(256)) * pages + b"abc"), masks)
def test_unmask_all_ways_return_the_same(data: bytes, mask: bytes) -> None:
    ways = (masking.unmask_by_integers, masking.unmask_by_tables, masking.unmask_in_python, masking.unmask)
    for way in ways:
        assert [bytes(way(form, mask)) for form in (data, bytearray(data), memoryview(data))] == [xor(data, mask)] * 3


@pytest.mark.parametrize(
    ("routine", "taken"),
    [
        (None, False),
        (lambda data, mask: xor(bytes(data), mask), True),
        (lambda data, mask: xor(bytes(data), mask[::-1]), False),
        (lambda data, mask: bytearray(xor(bytes(data), mask)), False),
        (lambda data: data, False),
    ],
    ids=["not installed", "as we need it", "wrong", "of another type", "of another signature"],
)
def test_unmask_c_routine_is_used_only_if_suitable(routine: Any, taken: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    module = None if routine is None else SimpleNamespace(apply_mask=routine)
    monkeypatch.setitem(sys.modules, "websockets.speedups", module)
    assert masking._choose() is (routine if taken else masking.unmask_in_python)


def test_decoder_close_code_1014_is_valid() -> None:
    assert decode([close(1014)]) == [Close(1014, "")]


def test_decoder_final_block_does_not_end_a_message() -> None:
    # RFC 7692, 7.2.3.4 and 7.2.3.5; wsproto drops the rest.
    final = bytes([0xF3, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00])
    hello = bytes([0xF2, 0x48, 0xCD, 0xC9, 0xC9, 0x07, 0x00])
    stream = frame(TEXT, final + b"\x00", rsv=4) + frame(TEXT, final + hello, rsv=4) + frame(TEXT, hello, rsv=4)
    assert decode([stream], agreement=AGREEMENT) == ["Hello", "HelloHello", "Hello"]


def test_decoder_ping_between_compressed_fragments() -> None:
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    data = (compressor.compress(b"hello " * 20) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    stream = frame(TEXT, data[:5], fin=False, rsv=4) + frame(PING, b"p") + frame(CONTINUATION, data[5:])
    assert decode([stream], agreement=AGREEMENT) == [Ping(b"p"), "hello " * 20]


@pytest.mark.parametrize("pieces", [1, 3, 50])
def test_decoder_max_size_is_exact(pieces: int) -> None:
    limits = Limits(max_size=1000)

    def message(size: int) -> bytes:
        parts = cut(b"x" * size, [size // pieces] * (pieces - 1))
        return b"".join(
            frame(BINARY if at == 0 else CONTINUATION, part, fin=at == len(parts) - 1) for at, part in enumerate(parts)
        )

    assert decode([message(1000)], limits) == [b"x" * 1000]
    (failure,) = decode([message(1001)], limits)
    assert (failure.code, "1001" in failure.reason, "1000" in failure.reason) == (1009, True, True)


def test_decoder_oversize_frame_fails_on_its_header() -> None:
    (failure,) = decode([frame(BINARY, declared=1 << 40)], Limits())
    assert failure.code == 1009


@pytest.mark.parametrize(("size", "code"), [(5000, None), (5001, 1009)])
def test_decoder_decompression_stops_at_max_size(size: int, code: int | None) -> None:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    data = (compressor.compress(b"x" * size) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    (event,) = decode([frame(TEXT, data, rsv=4)], Limits(max_size=5000), AGREEMENT)
    assert event == "x" * size if code is None else event.code == code


def test_decoder_incompressible_max_size_is_accepted() -> None:
    import random

    payload = random.Random(3).randbytes(100_000)
    compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
    data = (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    assert len(data) > len(payload)
    assert decode([frame(BINARY, data, rsv=4)], Limits(max_size=len(payload)), AGREEMENT) == [payload]


def test_decoder_1001_empty_fragments_fail() -> None:
    stream = frame(TEXT, fin=False) + frame(CONTINUATION, fin=False) * 100_000
    (failure,) = decode([stream], Limits(max_fragments=1000))
    assert (failure.code, "1000 empty fragments" in failure.reason) == (1009, True)


@pytest.mark.parametrize("opcode_and_fin", [(TEXT, True), (TEXT, False)], ids=["whole frame", "fragment"])
def test_decoder_invalid_text_fails_at_its_byte(opcode_and_fin: tuple[int, bool]) -> None:
    opcode, fin = opcode_and_fin
    text = "κόσμε".encode() + b"\xf4\x90\x80\x80" + b"edited" * 100
    decoder = MessageDecoder(PLAIN)
    stream = frame(opcode, text, fin=fin)
    header = len(stream) - len(text)
    bad = header + len("κόσμε".encode()) + 2  # beyond U+10FFFF, which the second byte shows
    for at in range(bad):
        decoder.feed(stream[at : at + 1])
        event = decoder.next()
        assert (event is None) == (at < bad - 1), at
    assert isinstance(event, Failure)
    assert event.code == 1007


def test_decoder_keeps_nothing_after_a_failure() -> None:
    decoder = MessageDecoder(PLAIN)
    decoder.feed(frame(0x3, b"bad") + frame(TEXT, b"good"))
    assert isinstance(decoder.next(), Failure)
    decoder.feed(frame(TEXT, b"good") * 1000)
    assert (decoder.next(), decoder.waiting) == (None, 0)

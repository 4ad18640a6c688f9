"""Finding the client's close frame in discarded data."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zcli_core.testing.websocket.frames import BINARY, CONTINUATION, PING, PONG, TEXT, close, frame
from zcli_core.websocket.parts.close_frame_scanner import CloseFrameScanner

#: Payloads of every form of length, and one that looks like close frames.
PAYLOADS = [b"", b"x", bytes(125), bytes(126), bytes(65535), bytes(65536), close() * 20]
OPCODES = st.sampled_from([TEXT, BINARY, CONTINUATION, PING, PONG])
FRAMES = st.lists(st.tuples(OPCODES, st.integers(0, len(PAYLOADS) - 1)), max_size=4)


@settings(deadline=None)
@given(FRAMES, st.sampled_from([None, 1000, 4999]), st.integers(1, 70_000), st.integers(0, 300))
def test_close_frame_scanner_finds_the_close_frame(
    frames: list[tuple[int, int]], code: int | None, step: int, missing: int
) -> None:
    """It finds it in any pieces, after any frames and the rest of one, with its last byte and not before."""
    data = bytes(missing) + b"".join(frame(opcode, PAYLOADS[at]) for opcode, at in frames) + close(code)
    skipper = CloseFrameScanner(missing)
    step = max(step, len(data) // 100)
    pieces = [data[at : min(at + step, len(data) - 1)] for at in range(0, len(data) - 1, step)]
    assert not any(skipper.feed(memoryview(piece)) for piece in pieces)
    assert skipper.feed(data[-1:])


@pytest.mark.parametrize(
    "bad",
    [frame(3, b"abc"), frame(TEXT, b"x", rsv=7), frame(11), b"\x81\x01x"],
    ids=["opcode", "rsv", "control", "bare"],
)
def test_close_frame_scanner_allows_one_invalid_frame(bad: bytes) -> None:
    """Only the first frame may be invalid; after another one the start of later frames is unknown."""
    assert CloseFrameScanner().feed(bad + close())
    if bad != frame(TEXT, b"x", rsv=7):
        assert not CloseFrameScanner().feed(bad + bad + close())

"""The frames of the hub's protocol."""

import pytest
from zcli_core.backplane.parts.stream import Incomplete
from zcli_skeleton.protocol import PUBLISH, Frame, frame, read_frame


def test_frame_is_read_back() -> None:
    """Also if another one follows."""
    data = frame(PUBLISH, "r:ä", b"\0x")
    assert read_frame(data + b"next", 0) == (Frame(PUBLISH, "r:ä", b"\0x"), len(data))


def test_cut_off_frame_is_incomplete() -> None:
    """At every byte."""
    data = frame(PUBLISH, "all", b"hello")
    for length in range(len(data)):
        with pytest.raises(Incomplete):
            read_frame(data[:length], 0)


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad Request\r\n", b"\xff" * 20, bytes(20)])
def test_other_protocol_is_not_a_frame(data: bytes) -> None:
    """Another server listens at the port."""
    with pytest.raises(ValueError, match="not a frame"):
        read_frame(data, 0)

"""The head of a request, parsed as the package h11 does."""

from __future__ import annotations

import re

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zcli_core.websocket.parts.request_head import MalformedRequest, parse_request_head

_START = b"GET / HTTP/1.1\r\nHost: b\r\n"
_PIECES = [
    b"GET", b" ", b"/", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"\r\n", b"\n", b"\r", b"\0", b"\t", b"\x0b", b"\x0c",
    b"\x01", b"\x1c", b"\x7f", b"\x85", b"\xff", b":", b",", b"a", b" x", b"Host", b"Host: a", b"X: ", b"X-A: b ",
    b"Content-Length: 5", b"Content-Length: 5, 5", b"Content-Length: 5,6", b"Content-Length: +5",
    b"Transfer-Encoding: chunked", b"Transfer-Encoding: Chunked", b"Transfer-Encoding: gzip",
]  # fmt: skip

Read = tuple[bytes, bytes, bytes, list[tuple[bytes, bytes]]]


def _plain(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    """A field without what the two may write differently.

    How much white space a folded line becomes is left to the reader (RFC 9112, section 5.2). h11 writes the framing's
    fields in its own way.
    """
    value = re.sub(rb"[ \t]+", b" ", value)
    if name == b"Content-Length":
        value = value.partition(b",")[0]
    return name, value.lower() if name == b"Transfer-Encoding" else value


def _by_h11(head: bytes) -> Read | None:
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=len(head) + 1)
    try:
        parser.receive_data(head)
        event = parser.next_event()
    except h11.RemoteProtocolError:
        return None
    if not isinstance(event, h11.Request):
        return None
    fields = [_plain(name, value) for name, value in event.headers.raw_items()]
    return event.method, event.target, event.http_version, fields


def _by_us(head: bytes) -> Read | None:
    try:
        read = parse_request_head(head)
    except MalformedRequest:
        return None
    latin = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in read.headers.items()]
    fields = [_plain(name, value) for name, value in latin]
    return read.method.encode(), read.target.encode(), read.version.encode(), fields


@given(start=st.sampled_from([_START, b""]), pieces=st.lists(st.sampled_from(_PIECES), max_size=9))
def test_request_head_any_bytes_read_as_h11(start: bytes, pieces: list[bytes]) -> None:
    """Every head is accepted or refused as by h11, with the same result."""
    data = start + b"".join(pieces) + b"\r\n\r\n"
    end = re.search(rb"\n\r?\n", data)
    assert end is not None
    head = data[: end.end()]
    assert _by_us(head) == _by_h11(head)


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (b"Transfer-Encoding: gzip\r\n", 501),
        (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", 501),
        (b"Content-Length: 1\r\nContent-Length: 2\r\n", 400),
        (b"Content-Length: 99999999999999999999\r\n", 400),
        (b"Host: c\r\n", 400),
        (b"X : a\r\n", 400),
        (b"X: a\rY: b\r\n", 400),
    ],
)
def test_request_head_ambiguous_is_refused(lines: bytes, status: int) -> None:
    """The status distinguishes a malformed request from an unknown Transfer-Encoding."""
    with pytest.raises(MalformedRequest) as raised:
        parse_request_head(_START + lines + b"\r\n")
    assert raised.value.status == status


def test_request_head_long_space_takes_linear_time() -> None:
    """Quadratic time would block the event loop for minutes here."""
    spaces = b" " * 200_000
    read = parse_request_head(_START + b"X: a\r\n b" + spaces + b"c\r\n\r\n")
    assert read.headers["x"] == f"a b{spaces.decode()}c"

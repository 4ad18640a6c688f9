"""Reading responses with urllib3: what the contract suite leaves to each transport."""

from __future__ import annotations

import gzip
import socket
import time
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zcli_urllib3.decoding import undo

from zcli_core.comm.http import HttpClient
from zcli_core.contracts.http import TransportFailure
from zcli_core.testing.http.answers import packed
from zcli_core.testing.http.peer import ScriptedServer, answering


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
        (b"HTTP/1.1 abc OK\r\n\r\n", "abc"),
        (b"HTTP/1.1 200 OK\r\nno header\r\nContent-Length: 2\r\n\r\nok", "no header"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n" + b"a" * 10, "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "Transfer-Encoding"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nless", "before the end"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "before the end"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 8\r\n\r\nnot gzip", "Content-Encoding"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_protocol_failure_names_the_cause(http: HttpClient, answer: bytes, why: str) -> None:
    """That each of these is a failure is tested by the suite."""
    with ScriptedServer(answering(answer, keep_open=False)) as server:
        assert http.get(server.url) is None
    assert http.last_failure is not None
    assert http.last_failure.kind == "protocol"
    assert why in http.last_failure.message


def test_chunk_extension_too_long_is_not_read_on(http: HttpClient) -> None:
    """The call ends as soon as the line is too long."""
    sent, most = 0, 100_000_000

    def handle(server: ScriptedServer, connection: socket.socket) -> None:
        nonlocal sent
        server.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n;" + b"x" * 100_000 + b"\r\n")
        while sent < most:  # of which the client takes what the system's buffers hold
            sent += connection.send(bytes(65536))

    with ScriptedServer(handle) as server:
        assert http.get(server.url) is None
    assert http.last_failure is not None
    assert http.last_failure.kind == "protocol"
    assert "chunk" in http.last_failure.message
    assert sent < most


# --- content codings ---


def cut(body: bytes, size: int) -> Iterator[bytes]:
    return (body[start : start + size] for start in range(0, len(body), size))


@settings(deadline=None)
@given(
    body=st.binary(max_size=300_000),
    size=st.integers(1, 70_000),
    names=st.lists(st.sampled_from(["gzip", "deflate"]), max_size=3),
)
def test_what_was_packed_comes_out_wherever_the_blocks_end(body: bytes, size: int, names: list[str]) -> None:
    whole, codings = body, ", ".join(names)
    for name in names:
        whole = packed(name, whole)
    assert b"".join(undo(codings, cut(whole, size))) == body
    for end in {1, len(whole) // 2, len(whole) - 1} if names else ():
        with pytest.raises(TransportFailure, match=f"ends before its Content-Encoding, {names[-1]}"):
            b"".join(undo(codings, cut(whole[:end], size)))


@settings(deadline=None)
@given(st.binary(max_size=2000))
def test_any_bytes_are_a_body_or_a_failure(body: bytes) -> None:
    for coding in ("gzip", "deflate", "gzip, deflate"):
        try:
            b"".join(undo(coding, iter([body])))
        except TransportFailure as failure:
            assert failure.kind == "protocol"  # noqa: PT017 - or none at all


@pytest.mark.parametrize("size", [1, 7, 65536])
def test_several_members_are_one_body_and_padding_is_none(size: int) -> None:
    members = gzip.compress(b"one ") + gzip.compress(b"") + gzip.compress(bytes(200_000)) + gzip.compress(b" two")
    expected = b"one " + bytes(200_000) + b" two"
    for padding in (b"", bytes(1000), b"\n", b"rubbish"):
        assert b"".join(undo("gzip", cut(members + padding, size))) == expected
    with pytest.raises(TransportFailure, match="ends before"):
        b"".join(undo("gzip", cut(members[:-1], size)))


@pytest.mark.parametrize("size", [1, 65536])
def test_deflate_with_and_without_the_zlib_format(size: int) -> None:
    body = bytes(range(256)) * (1000 if size > 1 else 20)
    for level in range(10):
        raw = zlib.compressobj(level, wbits=-zlib.MAX_WBITS)
        for whole in (zlib.compress(body, level), raw.compress(body) + raw.flush()):
            assert b"".join(undo("deflate", cut(whole, size))) == body


def test_no_block_is_larger_than_it_need_be() -> None:
    blocks = list(undo("gzip", iter([gzip.compress(bytes(10_000_000))])))
    assert max(map(len, blocks)) <= 64 * 1024
    assert sum(map(len, blocks)) == 10_000_000


def test_a_body_is_left_alone_if_one_of_its_codings_is_not_known() -> None:
    for codings in ("br", "gzip, br", "br, gzip", "none", "utf-8", "gzip;q=1"):
        assert list(undo(codings, iter([b"as", b"is"]))) == [b"as", b"is"]
    for codings in ("", "identity", " ,", "Identity, identity"):
        assert list(undo(codings, iter([b"as", b"is"]))) == [b"as", b"is"]
    assert b"".join(undo(" GZip ,, identity", iter([gzip.compress(b"text")]))) == b"text"


def test_a_body_is_not_unpacked_any_number_of_times() -> None:
    with pytest.raises(TransportFailure, match="packed 6 times over"):
        undo(", ".join(["gzip"] * 6), iter([b""]))


def test_undoing_codings_ends_at_the_deadline_though_nothing_comes_of_it() -> None:
    """What is packed several times over may unpack to gigabytes that the next coding takes for padding."""
    packed = gzip.compress(gzip.compress(b"") + bytes(1_000_000))
    assert b"".join(undo("gzip, gzip", iter([packed]), time.monotonic() + 60)) == b""
    with pytest.raises(TimeoutError):
        b"".join(undo("gzip, gzip", iter([packed]), time.monotonic() - 1))

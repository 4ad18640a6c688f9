"""The parts that HTTP transports share, except what the contract suite tests."""

from __future__ import annotations

import errno
import math
import os
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zcli_core.http.contract import TransportFailure, Url
from zcli_core.http.parts import failures
from zcli_core.http.parts.bodies import BodyReceiver
from zcli_core.http.parts.heads import Framing, Head, framing_of, parse_head
from zcli_core.http.parts.transport import ConnectionPool, PoolKey
from zcli_core.net.headers import Headers
from zcli_core.system.forks import call_after_fork


@given(st.lists(st.sampled_from([b"HTTP/1.1 200 OK", b"X: 1", b" fold", b"\r", b"\n", b"\r\n", b"\0", b":", b"\xff"])))
def test_parse_head_any_bytes_are_a_head_or_a_failure(pieces: list[bytes]) -> None:
    """No other exception comes out, and no name or value has a line break."""
    try:
        head = parse_head(b"".join(pieces), 10)
    except TransportFailure as failure:
        assert failure.kind in ("protocol", "too_large") and failure.message.isprintable()  # noqa: PT017, PT018
    else:
        assert all(c not in text for field in head.fields for text in field for c in "\r\n\0")


@pytest.mark.parametrize(
    ("version", "fields", "reused"),
    [
        ("HTTP/1.1", [("Content-Length", "2")], True),
        ("HTTP/1.1", [("Content-Length", "2"), ("content-length", "2")], True),
        ("HTTP/1.1", [("Content-Length", "2, 2")], True),
        ("HTTP/1.1", [("Content-Length", "2"), ("Connection", "x, Close")], False),
        ("HTTP/1.0", [("Content-Length", "2")], False),
        ("HTTP/1.0", [("Content-Length", "2"), ("Connection", "Keep-Alive")], True),
        ("HTTP/1.0", [("Transfer-Encoding", "chunked"), ("Connection", "keep-alive")], False),
        ("HTTP/1.1", [("Transfer-Encoding", "Chunked")], True),
        ("HTTP/1.1", [("Transfer-Encoding", "chunked"), ("Content-Length", "2")], False),
        ("HTTP/1.1", [], False),
        ("HTTP/2", [], True),
    ],
)
def test_framing_says_whether_the_connection_is_kept(version: str, fields: list[tuple[str, str]], reused: bool) -> None:
    """RFC 9112, sections 6.1, 6.3 and 9.3."""
    framing = framing_of(Head(version, 200, "OK", fields), "GET")
    assert framing.may_be_reused is reused
    assert framing.length == (2 if "2" in dict(fields).values() and not framing.is_chunked else framing.length)


@pytest.mark.parametrize(
    ("doing", "kind"),
    [("connecting to host:80", "unreachable"), ("sending the request", "reset"), ("reading the body", "reset")],
)
def test_network_failed_etimedout_is_not_the_deadline(doing: str, kind: str) -> None:
    """The system gives up sending again (RFC 9293, section 3.8.3), maybe long before the deadline of the call."""
    error = OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
    found = failures.network_failed(error, "host:80", doing)
    assert (found.kind, "deadline" in found.message) == (kind, False)
    assert "timed out" in found.message
    for own in (TimeoutError("timed out"), TimeoutError()):
        assert failures.network_failed(own, "host:80", doing).kind == "timeout"


def test_headers_single_field_is_not_joined() -> None:
    """The last value of a field that has one counts; lists are joined, and get_all() gives every value."""
    headers = Headers([("Location", "/a"), ("location", "/a"), ("Content-Type", "a/b"), ("content-type", "c/d")])
    assert (headers["LOCATION"], headers["content-type"]) == ("/a", "c/d")
    assert headers.get_all("content-type") == ["a/b", "c/d"]
    assert Headers([("Accept", "a"), ("accept", "b")])["accept"] == "a, b"
    assert Headers([("Origin", "a"), ("origin", "b")])["origin"] == "a, b", "a second one must be seen"
    with pytest.raises(KeyError):
        headers["accept"]
    assert len(headers) == 2


def test_one_line_keeps_text_and_escapes_control_characters() -> None:
    """Text from a peer is shown in messages."""
    assert failures.one_line("Größe \x1b[31m\x07\r\n") == "Größe \\x1b[31m\\x07"


def test_pool_key_of_ipv6_has_brackets_and_no_zone() -> None:
    """As CONNECT and messages have it (RFC 3986, section 3.2.2)."""
    key = PoolKey.of(Url("https", "fe80::1%eth0", 443, "/"), False)
    assert (key.authority, key.peer) == ("[fe80::1]:443", "[fe80::1]:443")


class FakeConnection:
    may_be_reused = True
    was_stale = False
    state = "idle"

    def send(self, *_: Any) -> Any:
        raise NotImplementedError

    def is_usable(self, request: Any) -> bool:
        return self.state == "idle"

    def close(self) -> None:
        self.state = "closed"

    def abandon(self) -> None:
        self.state = "abandoned"


def test_pool_after_fork_abandons_the_parents_connections() -> None:
    """And works again, with a lock of its own."""
    pool: ConnectionPool[FakeConnection] = ConnectionPool(16)
    key, connection = PoolKey("http", "a", 80, None), FakeConnection()
    pool.give_back(key, connection)
    pool._lock.acquire()
    pool._after_fork()
    assert connection.state == "abandoned"
    assert pool.take(key, None) is None  # type: ignore[arg-type]


def test_pool_forgets_sites_without_connections() -> None:
    """A crawler visits any number of them."""
    pool: ConnectionPool[FakeConnection] = ConnectionPool(16)
    for number in range(300):
        key = PoolKey("http", f"site{number}", 80, None)
        pool.give_back(key, FakeConnection())
        assert pool.take(key, None) is not None  # type: ignore[arg-type]
    assert not pool._idle


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_after_fork_is_called_in_the_child_only() -> None:
    """For as long as the object lives."""

    class Aware:
        forked = False

        def _after_fork(self) -> None:
            self.forked = True

    kept, gone = Aware(), Aware()
    call_after_fork(kept)
    call_after_fork(gone)
    del gone
    child = os.fork()
    if child == 0:
        os._exit(7 if kept.forked else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert not kept.forked


def test_body_in_tiny_blocks_takes_the_memory_of_its_bytes() -> None:
    """Chunks of two bytes are an object each when they come."""
    receiver = BodyReceiver(Framing(None, True, "", True), 1_000_000, math.inf)
    tracemalloc.start()
    try:
        for _ in range(50_000):
            receiver.add(bytes(bytearray(b"ab")))
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    receiver.add(b"c" * 5000)
    receiver.add(b"d")
    assert receiver.finish() == b"ab" * 50_000 + b"c" * 5000 + b"d"
    assert held < 500_000

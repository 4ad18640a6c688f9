"""What an answer may not do: be larger than allowed, however it is packed, or lie about its size."""

from __future__ import annotations

import gzip
import socket
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from http_servers import RawServer, answering, response

from zcli_core.comm.http import HttpClient

LIMIT = 100_000


@pytest.fixture
def limited(make_http: Callable[..., HttpClient]) -> HttpClient:
    return make_http(max_bytes=LIMIT)


def chunked(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


@pytest.mark.parametrize(
    "pack",
    [
        response,
        chunked,
        lambda body: b"HTTP/1.0 200 OK\r\n\r\n" + body,
        lambda body: response(gzip.compress(body), "200 OK", "Content-Encoding: gzip"),
        lambda body: response(zlib.compress(body), "200 OK", "Content-Encoding: deflate"),
        lambda body: response(gzip.compress(gzip.compress(body)), "200 OK", "Content-Encoding: gzip, gzip"),
    ],
    ids=["Content-Length", "chunked", "until closed", "gzip", "deflate", "gzip twice"],
)
def test_a_body_may_be_as_large_as_max_bytes_and_no_larger(limited: HttpClient, pack: Callable[[bytes], bytes]) -> None:
    with RawServer(answering(pack(bytes(LIMIT)), keep_open=False)) as server:
        found = limited.get(server.url)
        assert found is not None, limited.last_failure
        assert found.content == bytes(LIMIT)
    with RawServer(answering(pack(bytes(LIMIT + 1)), keep_open=False)) as server:
        assert limited.get(server.url) is None
    assert limited.last_failure is not None
    assert limited.last_failure.kind == "too_large"
    assert str(LIMIT) in limited.last_failure.message


@pytest.mark.parametrize("layers", [1, 2])
def test_a_bomb_is_not_inflated(limited: HttpClient, layers: int) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    bomb = b"".join(packer.compress(bytes(1024 * 1024)) for _ in range(256)) + packer.flush()
    for _ in range(layers - 1):
        bomb = gzip.compress(bomb)
    encoding = ", ".join(["gzip"] * layers)
    with RawServer(answering(response(bomb, "200 OK", f"Content-Encoding: {encoding}"))) as server:
        assert limited.get(f"{server.url}/first") is None  # imports what it needs
        tracemalloc.start()
        try:
            assert limited.get(server.url) is None
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert limited.last_failure is not None
    assert limited.last_failure.kind == "too_large"
    assert peak < 8 * 1024 * 1024


@pytest.mark.parametrize("size", [b"-1", b"-5", b"0x10", b"1_0", b"1" * 17, b"", b";" + b"x" * LIMIT])
def test_a_chunk_whose_size_is_none_is_not_read(limited: HttpClient, size: bytes) -> None:
    sent = 0

    def handle(server: RawServer, connection: socket.socket) -> None:
        nonlocal sent
        server.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + size + b"\r\n")
        while sent < 1000 * LIMIT:  # of which the client takes what the system's buffers hold
            sent += connection.send(bytes(65536))

    with RawServer(handle) as server:
        assert limited.get(server.url) is None
    assert limited.last_failure is not None
    assert limited.last_failure.kind == "protocol"
    assert "chunk" in limited.last_failure.message
    assert sent < 1000 * LIMIT


def test_a_length_that_could_not_be_allowed_is_refused_unread(limited: HttpClient) -> None:
    def handle(server: RawServer, connection: socket.socket) -> None:
        server.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n")
        server.hold(connection)

    with RawServer(handle) as server:
        assert limited.get(server.url) is None
    assert limited.last_failure is not None
    assert limited.last_failure.kind == "too_large"
    assert limited.last_failure.elapsed < 5


def test_a_body_that_never_ends_is_cut_off(limited: HttpClient) -> None:
    def handle(server: RawServer, connection: socket.socket) -> None:
        server.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(bytes(65536))

    with RawServer(handle) as server:
        assert limited.get(server.url) is None
    assert limited.last_failure is not None
    assert limited.last_failure.kind == "too_large"

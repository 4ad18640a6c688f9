"""The part of the HTTP suite about ``max_bytes``."""

from __future__ import annotations

import functools
import socket
import struct
import sys
import tracemalloc
import zlib
from collections.abc import Callable

import pytest

from zcli_core.testing.http.base import Caller, HttpContract
from zcli_core.testing.http.peer import ScriptedServer, after_request, chunked, responding, response
from zcli_core.testing.http.responses import packed

LIMIT = 100_000

#: The memory above its limit that a failing call may use, in bytes. Decoding everything would take half a gigabyte.
SLACK = 48 * 1024 * 1024

FRAMINGS: dict[str, Callable[[bytes], bytes]] = {
    "Content-Length": response,
    "chunked": chunked,
    "to the end": lambda body: b"HTTP/1.0 200 OK\r\n\r\n" + body,
    "gzip": lambda body: response(packed("gzip", body), "200 OK", "Content-Encoding: gzip"),
    "deflate": lambda body: response(packed("deflate", body), "200 OK", "Content-Encoding: deflate"),
    "gzip twice": lambda body: response(packed("gzip", packed("gzip", body)), "200 OK", "Content-Encoding: gzip, gzip"),
}


@functools.cache
def bomb(layers: int) -> bytes:
    """Return half a gigabyte of zeros, compressed with gzip once or twice."""
    block, count = bytes(1024 * 1024), 512
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    first = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    # After a full flush every block is compressed to the same bytes.
    others = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = functools.reduce(lambda checksum, _: zlib.crc32(block, checksum), range(count), 0)
    head, end = b"\x1f\x8b\x08\0\0\0\0\0\2\xff", struct.pack("<II", checksum, len(block) * count)
    data = head + first + others * (count - 1) + packer.flush() + end
    return packed("gzip", data) if layers == 2 else data


def highest_memory() -> int:
    """Return the most memory that this process ever had, in bytes; 0 if the system does not report it."""
    if sys.platform == "win32":
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class LimitsContract(HttpContract):
    """No body is larger than allowed, and no larger body is held in memory to find out."""

    @pytest.mark.parametrize("framing", FRAMINGS)
    def test_body_above_max_bytes_is_too_large(self, caller: Caller, framing: str) -> None:
        """The decoded size counts, and the limit is in the message."""
        frame = FRAMINGS[framing]
        with ScriptedServer(responding(frame(bytes(LIMIT)), keep_open=False)) as server:
            assert caller.send(server.url, max_bytes=LIMIT).body == bytes(LIMIT)
        with ScriptedServer(responding(frame(bytes(LIMIT + 1)), keep_open=False)) as server:
            failure = caller.fails("too_large", server.url, max_bytes=LIMIT)
        assert str(LIMIT) in failure.message

    def test_body_with_limit_0_must_be_empty(self, caller: Caller) -> None:
        """One byte is too large."""
        with ScriptedServer(responding(response(b""), response(b"a"))) as server:
            assert caller.send(server.url, max_bytes=0).body == b""
            caller.fails("too_large", server.url, max_bytes=0)

    @pytest.mark.parametrize("status", ["200 OK", "302 Found", "404 Not Found", "500 Oops"])
    def test_limit_holds_for_every_status(self, caller: Caller, status: str) -> None:
        """Redirects and errors have the same limit."""
        with ScriptedServer(responding(response(bytes(LIMIT + 1), status, "Location: /"))) as server:
            caller.fails("too_large", server.url, max_bytes=LIMIT)

    @pytest.mark.parametrize("size", [LIMIT + 1, 2**31, 2**63 + 1, 10**30])
    def test_length_above_max_bytes_is_refused_unread(self, caller: Caller, size: int) -> None:
        """The transport does not wait for the body. A huge number may also be an invalid one."""

        def script(server: ScriptedServer, connection: socket.socket) -> None:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
            server.hold(connection)

        with ScriptedServer(after_request(script)) as server:
            kinds = caller.fails({"too_large", "protocol"}, server.url, max_bytes=LIMIT).kind
        assert kinds == "too_large" or size > 2**63

    @pytest.mark.parametrize("framing", ["end", "chunks"])
    def test_endless_body_is_too_large(self, caller: Caller, framing: str) -> None:
        """The call fails as soon as the limit is passed."""
        sent = 0

        def script(server: ScriptedServer, connection: socket.socket) -> None:
            nonlocal sent
            head, block = b"HTTP/1.1 200 OK\r\n\r\n", bytes(65536)
            if framing == "chunks":
                head, block = (
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
                    b"1000\r\n%s\r\n" % bytes(0x1000),
                )
            connection.sendall(head)
            while sent < 256 * 1024 * 1024:
                connection.sendall(block)
                sent += len(block)

        with ScriptedServer(after_request(script)) as server:
            caller.fails("too_large", server.url, max_bytes=LIMIT)
        assert sent < 32 * 1024 * 1024

    @pytest.mark.parametrize("layers", [1, 2])
    def test_compression_bomb_is_not_inflated(self, caller: Caller, layers: int) -> None:
        """Half a gigabyte is compressed to half a megabyte, or to a few hundred bytes."""
        codings = ", ".join(["gzip"] * layers)
        with ScriptedServer(responding(response(bomb(layers), "200 OK", f"Content-Encoding: {codings}"))) as server:
            before = highest_memory()
            tracemalloc.start()
            try:
                caller.fails("too_large", server.url, max_bytes=LIMIT)
                _, peak = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert peak < SLACK, "memory that Python counts"
        assert highest_memory() - before < SLACK, "memory that the system counts"

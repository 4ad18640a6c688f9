"""A WebSocket client for tests. It sends any bytes, valid or not, and reads the server's frames."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import time
import zlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

from zcli_core.testing.websocket.frames import CLOSE, frame

#: Seconds after which a test fails; far more than any step takes on a busy machine.
PATIENCE = 10.0

#: The Sec-WebSocket-Key of RFC 6455, 1.3, and the required response.
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

#: The offer of permessage-deflate that browsers send.
DEFLATE_OFFER = "permessage-deflate; client_max_window_bits"

T = TypeVar("T")


def until(condition: Callable[[], T], what: str = "the condition did not come true", seconds: float = PATIENCE) -> T:
    """Return the result of the condition as soon as it is true; raise AssertionError with ``what`` at the deadline."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} within {seconds:g} s")
        time.sleep(0.002)
    return found


def upgrade_request(*headers: str, target: str = "/chat", drop: Sequence[str] = (), version: str = "1.1") -> bytes:
    """Return a valid upgrade (RFC 6455, 4.1), with headers added or, by name, removed, in ISO-8859-1."""
    lines = [
        "Host: 127.0.0.1", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
    ]  # fmt: skip
    kept = [line for line in lines if line.partition(":")[0] not in drop]
    return "\r\n".join([f"GET {target} HTTP/{version}", *kept, *headers, "", ""]).encode("latin-1")


# Bare sockets ---------------------------------------------------------------------------------------------------


def read_all(sock: socket.socket) -> bytes:
    """Read until the server closes or resets the connection. Raises AssertionError if it does neither."""
    data = b""
    try:
        while piece := sock.recv(65536):
            data += piece
    except ConnectionResetError:
        pass
    except TimeoutError:
        raise AssertionError(
            f"the server neither closed nor sent more within {sock.gettimeout():g} s: {data[-200:]!r}"
        ) from None
    return data


def reset(sock: socket.socket) -> None:
    """Close with a TCP reset, as a client that crashes does."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def send_until_stalled(sock: socket.socket, data: bytes, quiet: float = 0.3) -> int:
    """Send until the server has accepted nothing for ``quiet`` seconds; return the number of bytes that were sent."""
    sent = 0
    view = memoryview(data)
    before = sock.gettimeout()
    sock.settimeout(quiet)
    with contextlib.suppress(TimeoutError):
        while sent < len(data):
            sent += sock.send(view[sent : sent + 65536])
    sock.settimeout(before)
    return sent


class ParsedResponse(NamedTuple):
    """A parsed HTTP response; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes


def parse_response(received: bytes) -> ParsedResponse:
    """Parse the bytes of a response, up to the end of the connection. Raises AssertionError if they are not valid."""
    head, end, body = received.partition(b"\r\n\r\n")
    if not end or not head.startswith(b"HTTP/1.1 "):
        raise AssertionError(f"no complete HTTP/1.1 response: {received[:200]!r}")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return ParsedResponse(int(first.split(" ")[1]), headers, body)


# An open connection ---------------------------------------------------------------------------------------------


class Frame(NamedTuple):
    """A frame that the server sent."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0


class Ending(NamedTuple):
    """The last frames of a server: those before its close frame, and its close code (None: empty) and reason."""

    before: list[Frame]
    code: int | None
    reason: str


class Client:
    """A connected client, which sends bytes, valid or not, and reads frames.

    ``with`` closes its socket. ``headers`` are those of the 101, with names in lower case.
    """

    def __init__(self, sock: socket.socket, request: bytes | None = None) -> None:
        """Upgrade over a connected socket with the request, or with one that was sent before."""
        self.sock = sock
        self._buffer = b""
        self._inflater: Any = None
        try:
            if request is not None:
                sock.sendall(request)
            self.headers = self._read_upgrade()
        except BaseException:
            sock.close()
            raise
        #: The Sec-WebSocket-Extensions of the response; empty if nothing was agreed on.
        self.extensions = self.headers.get("sec-websocket-extensions", "")

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def _read_upgrade(self) -> dict[str, str]:
        with contextlib.suppress(EOFError):
            while b"\r\n\r\n" not in self._buffer:
                self._receive()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        response = parse_response(head + b"\r\n\r\n")
        if response.status != 101:
            raise AssertionError(f"not admitted: {head!r}")
        return response.headers

    # Sending ------------------------------------------------------------------------------------------------------

    def send(self, *frames: bytes) -> None:
        """Send bytes in one call."""
        self.sock.sendall(b"".join(frames))

    def try_to_send(self, data: bytes) -> bool:
        """Send to a server that may have closed; return whether that succeeded."""
        try:
            self.sock.sendall(data)
        except OSError:
            return False
        return True

    @property
    def window_bits(self) -> int:
        """The window that this client may compress with, as a power of two."""
        _, found, rest = self.extensions.partition("client_max_window_bits=")
        return int(rest.partition(";")[0].strip('" ')) if found else 15

    # Reading ------------------------------------------------------------------------------------------------------

    def _receive(self) -> None:
        try:
            piece = self.sock.recv(1 << 18)
        except TimeoutError:
            waited = f"within {self.sock.gettimeout():g} s"
            raise AssertionError(f"nothing came from the server {waited}, after {self._buffer[:200]!r}") from None
        if not piece:
            raise EOFError("the server has closed the connection")
        self._buffer += piece

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._receive()
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def read(self) -> Frame:
        """Return the next frame. Raises EOFError at the end, AssertionError for a masked frame (RFC 6455, 5.1)."""
        first, length = self._take(2)
        if length >= 0x80:
            raise AssertionError("a server must not mask its frames (RFC 6455, 5.1)")
        if length == 126:
            (length,) = struct.unpack("!H", self._take(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self._take(8))
        return Frame(first & 0x0F, self._take(length), bool(first & 0x80), first >> 4 & 7)

    def read_message(self) -> tuple[int, bytes]:
        """Return opcode and payload of the next message, which may be fragmented or compressed."""
        opcode, payload, fin, rsv = self.read()
        while not fin:
            _, more, fin, _ = self.read()
            payload += more
        return opcode, self._inflate(payload) if rsv == 4 else payload

    def inflated(self, received: Frame) -> tuple[int, bytes]:
        """Return opcode and payload of a message in one frame, compressed or not. Call it for each frame in order."""
        return received.opcode, self._inflate(received.payload) if received.rsv == 4 else received.payload

    def _inflate(self, payload: bytes) -> bytes:
        if not self.extensions:
            raise AssertionError("a compressed message, and compression was not agreed on")
        if self._inflater is None:  # kept, because the server may refer to earlier messages (RFC 7692, 7.2.2)
            self._inflater = zlib.decompressobj(-15)
        data: bytes = self._inflater.decompress(payload + b"\x00\x00\xff\xff")
        return data

    def read_to_end(self) -> list[Frame]:
        """Read every frame until the server closes TCP. After a close frame, the client ends its data."""
        frames = []
        with contextlib.suppress(EOFError):
            while True:
                frames.append(self.read())
                if frames[-1].opcode == CLOSE:
                    self.send_end()
        return frames

    def send_end(self) -> None:
        """End the client's data: with TCP's FIN, over TLS with a close frame."""
        if isinstance(self.sock, ssl.SSLSocket):
            self.try_to_send(frame(CLOSE, b"\x03\xe8"))
        else:
            with contextlib.suppress(OSError):
                self.sock.shutdown(socket.SHUT_WR)

    def ending(self) -> Ending:
        """Read until the server closes TCP; the last frame must be a close frame."""
        frames = self.read_to_end()
        if not frames or frames[-1].opcode != CLOSE:
            raise AssertionError(f"the server left without a close frame, after {frames[-3:]}")
        *before, last = frames
        if not last.payload:
            return Ending(before, None, "")
        return Ending(before, int.from_bytes(last.payload[:2], "big"), last.payload[2:].decode())

    def close_code(self) -> int | None:
        """Return the code of the server's close frame, which must be the only frame that it sends."""
        before, code, _ = self.ending()
        if before:
            raise AssertionError(f"frames before the close frame: {before[:3]}")
        return code

    def echo(self, payload: bytes = b"are you there?", opcode: int = 0x1) -> bytes:
        """Send a message and return the payload of the response."""
        self.send(frame(opcode, payload))
        return self.read_message()[1]

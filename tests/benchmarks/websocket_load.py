"""The load generator of the WebSocket benchmark: raw sockets and epoll, so that it costs less than any server.

A server's cost is read from its process clock, so a slow generator does not make a server look better. It only has to
keep several messages in flight. Like a real client it writes each message separately.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import select
import socket
import struct
import time
import zlib
from collections.abc import Iterator, Sequence

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"\x37\xfa\x21\x3d"


def process_cpu(pid: int) -> float:
    """Return the CPU seconds of a process, user and system, all threads (Linux: its CPU clock)."""
    return time.clock_gettime(((~pid) << 3) | 2)


def process_rss(pid: int) -> int:
    """Return the resident memory of a process, in bytes."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def header(first: int, length: int, masked: bool) -> bytes:
    """Return the header of a frame, without its mask."""
    bit = 0x80 if masked else 0
    if length < 126:
        return struct.pack("!BB", first, bit | length)
    if length < 65536:
        return struct.pack("!BBH", first, bit | 126, length)
    return struct.pack("!BBQ", first, bit | 127, length)


def client_frame(payload: bytes, text: bool, first: int | None = None) -> bytes:
    """Return a masked message frame; ``first`` overrides its first byte (FIN, RSV, opcode)."""
    repeated = (MASK * (len(payload) // 4 + 1))[: len(payload)]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    if first is None:
        first = 0x81 if text else 0x82
    return header(first, len(payload), True) + MASK + masked.to_bytes(len(payload), "big")


#: Requests one window, 2**12 bytes, in both directions, so that every server does the same work.
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=12; client_max_window_bits=12\r\n"


def json_messages(count: int, size: int) -> list[bytes]:
    """Return different JSON texts of about ``size`` bytes each, the same ones in every run."""
    chance = random.Random(7)

    def item() -> dict[str, object]:
        name = chance.choice(["lamp", "table", "chair", "shelf", "carpet"])
        return {"sku": chance.randrange(10**8), "name": name, "price": round(chance.random() * 100, 2)}

    messages = []
    for number in range(count):
        items = [item()]
        while len(text := json.dumps({"id": number, "user": chance.randrange(10**6), "items": items})) < size:
            items.append(item())
        messages.append(text.encode())
    return messages


def compressed_frame(payload: bytes) -> bytes:
    """Return a compressed text message that does not refer to an earlier one (RFC 7692, 7.2.1)."""
    compressor = zlib.compressobj(6, zlib.DEFLATED, -12, 5)
    data = (compressor.compress(payload) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]
    return client_frame(data, True, 0xC1)


def fragmented_frames(payload: bytes, size: int) -> bytes:
    """Return a text message in fragments of that size."""
    pieces = [payload[at : at + size] for at in range(0, len(payload), size)]
    last = len(pieces) - 1
    return b"".join(
        client_frame(piece, True, (0x80 if at == last else 0) | (0x00 if at else 0x01))
        for at, piece in enumerate(pieces)
    )


def upgrade_request(port: int, headers: str = "") -> bytes:
    """Return the request of `websockets` and browsers, in its usual length; ``headers`` are whole lines."""
    return (
        f"GET /chat HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\nUser-Agent: zcli-benchmark/1.0\r\n{headers}\r\n"
    ).encode()


def connect(port: int, headers: str = "") -> socket.socket:
    """Open a WebSocket connection; return it as a blocking socket right after the server's response."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=20)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(upgrade_request(port, headers))
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        piece = sock.recv(1)
        if not piece:
            raise ConnectionError(f"the server closed during the upgrade: {answer[:200]!r}")
        answer += piece
    if not answer.startswith(b"HTTP/1.1 101"):
        raise ConnectionError(f"not upgraded: {answer[:200]!r}")
    if headers and b"permessage-deflate" not in answer:
        raise ConnectionError(f"compression was not agreed on: {answer[:400]!r}")
    return sock


@contextlib.contextmanager
def clients(port: int, count: int, headers: str = "") -> Iterator[list[socket.socket]]:
    """Open so many connections; they are reset at the end, so that no port stays in TIME_WAIT."""
    opened: list[socket.socket] = []
    try:
        for _ in range(count):
            opened.append(connect(port, headers))  # noqa: PERF401 - those that opened must be closed
        yield opened
    finally:
        for sock in opened:
            reset(sock)


def reset(sock: socket.socket) -> None:
    """Close with RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def echo(sockets: list[socket.socket], payload: bytes, text: bool, in_flight: int, seconds: float) -> int:
    """Keep ``in_flight`` messages in flight on every connection for that time; return the number of echoes."""
    frame = client_frame(payload, text)
    answer_length = len(header(0x81, len(payload), False)) + len(payload)
    poll = select.epoll()
    by_fd = {sock.fileno(): sock for sock in sockets}
    received = dict.fromkeys(by_fd, 0)
    queued: dict[int, bytearray] = {}
    for fd, sock in by_fd.items():
        sock.settimeout(0)
        poll.register(fd, select.EPOLLIN)
    done = 0

    def push(fd: int, data: bytes) -> None:
        if fd in queued:
            queued[fd] += data
            return
        try:
            sent = by_fd[fd].send(data)
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            queued[fd] = bytearray(data[sent:])
            poll.modify(fd, select.EPOLLIN | select.EPOLLOUT)

    for fd in by_fd:
        for _ in range(in_flight):
            push(fd, frame)
    end = time.monotonic() + seconds
    outstanding = in_flight * len(sockets)
    while outstanding:
        running = time.monotonic() < end
        events = poll.poll(10)
        if not events:
            raise TimeoutError(f"the server stopped answering with {outstanding} messages under way")
        for fd, event in events:
            if event & select.EPOLLOUT:
                data = queued.pop(fd)
                poll.modify(fd, select.EPOLLIN)
                push(fd, bytes(data))
            if not event & ~select.EPOLLOUT:
                continue
            piece = by_fd[fd].recv(1 << 18)
            if not piece:
                raise ConnectionError("the server closed a connection")
            total = received[fd] + len(piece)
            whole, received[fd] = divmod(total, answer_length)
            done += whole
            outstanding -= whole
            if running:
                outstanding += whole
                for _ in range(whole):
                    push(fd, frame)
    poll.close()
    return done


def count_frames(data: bytes) -> tuple[int, bytes]:
    """Return how many whole server frames these bytes contain, and the remaining bytes."""
    at = count = 0
    while len(data) - at >= 2:
        length, size = data[at + 1], 2
        if length == 126:
            length, size = int.from_bytes(data[at + 2 : at + 4], "big"), 4
        elif length == 127:
            length, size = int.from_bytes(data[at + 2 : at + 10], "big"), 10
        if len(data) - at < size + length:
            break
        at += size + length
        count += 1
    return count, data[at:]


def echo_frames(sockets: list[socket.socket], frames: Sequence[bytes], in_flight: int, seconds: float) -> int:
    """Like :func:`echo`, with ready-made messages in turn and answers of any length, each in one frame.

    The messages must be small: they are written to blocking sockets.
    """
    poll = select.epoll()
    by_fd = {sock.fileno(): sock for sock in sockets}
    rest = dict.fromkeys(by_fd, b"")
    sent = 0
    for fd, sock in by_fd.items():
        sock.settimeout(20)
        poll.register(fd, select.EPOLLIN)
        for _ in range(in_flight):
            sock.sendall(frames[sent % len(frames)])
            sent += 1
    done, end = 0, time.monotonic() + seconds
    while done < sent:
        running = time.monotonic() < end
        events = poll.poll(10)
        if not events:
            raise TimeoutError(f"the server stopped answering with {sent - done} messages under way")
        for fd, _event in events:
            piece = by_fd[fd].recv(1 << 18)
            if not piece:
                raise ConnectionError("the server closed a connection")
            whole, rest[fd] = count_frames(rest[fd] + piece)
            done += whole
            for _ in range(whole if running else 0):
                by_fd[fd].sendall(frames[sent % len(frames)])
                sent += 1
    poll.close()
    return done


def broadcast(trigger: socket.socket, listeners: list[socket.socket], payload: bytes, rounds: int) -> int:
    """Let the server broadcast ``payload`` so often, each after the last has arrived; return the deliveries."""
    frame = client_frame(payload, True)
    answer_length = len(header(0x81, len(payload), False)) + len(payload)
    poll = select.epoll()
    by_fd = {sock.fileno(): sock for sock in listeners}
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    for _ in range(rounds):
        trigger.sendall(frame)
        missing = answer_length * len(listeners)
        while missing:
            events = poll.poll(20)
            if not events:
                raise TimeoutError(f"a broadcast did not arrive: {missing} bytes missing")
            for fd, _event in events:
                piece = by_fd[fd].recv(1 << 16)
                if not piece:
                    raise ConnectionError("the server closed a connection")
                missing -= len(piece)
    poll.close()
    return rounds * len(listeners)

"""The load generator of the WebSocket benchmark: raw sockets and epoll, so that it costs less than any server.

A server's cost is read from its process clock, so a slow generator does not make a server look better; it only
has to keep several messages waiting. Like a real client it answers each message with a write of its own.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import time
from collections.abc import Iterator

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
MASK = b"\x37\xfa\x21\x3d"


def process_cpu(pid: int) -> float:
    """CPU seconds a process has used so far, user and system, all threads (Linux: its CPU clock)."""
    return time.clock_gettime(((~pid) << 3) | 2)


def process_rss(pid: int) -> int:
    """Resident memory of a process, in bytes."""
    with open(f"/proc/{pid}/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def header(first: int, length: int, masked: bool) -> bytes:
    """The header of a frame, without its mask."""
    bit = 0x80 if masked else 0
    if length < 126:
        return struct.pack("!BB", first, bit | length)
    if length < 65536:
        return struct.pack("!BBH", first, bit | 126, length)
    return struct.pack("!BBQ", first, bit | 127, length)


def client_frame(payload: bytes, text: bool) -> bytes:
    """A masked message frame, as a client sends it."""
    repeated = (MASK * (len(payload) // 4 + 1))[: len(payload)]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return header(0x81 if text else 0x82, len(payload), True) + MASK + masked.to_bytes(len(payload), "big")


def upgrade_request(port: int) -> bytes:
    """The request that `websockets` and browsers send, in its usual length."""
    return (
        f"GET /chat HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\nUser-Agent: zcli-benchmark/1.0\r\n\r\n"
    ).encode()


def connect(port: int) -> socket.socket:
    """An open WebSocket connection, as a blocking socket right behind the server's answer."""
    sock = socket.create_connection(("127.0.0.1", port), timeout=20)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(upgrade_request(port))
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        piece = sock.recv(1)
        if not piece:
            raise ConnectionError(f"the server closed during the upgrade: {answer[:200]!r}")
        answer += piece
    if not answer.startswith(b"HTTP/1.1 101"):
        raise ConnectionError(f"not upgraded: {answer[:200]!r}")
    return sock


@contextlib.contextmanager
def clients(port: int, count: int) -> Iterator[list[socket.socket]]:
    """So many open connections; reset at the end, so that no port lingers in TIME_WAIT."""
    opened: list[socket.socket] = []
    try:
        for _ in range(count):
            opened.append(connect(port))  # noqa: PERF401 - those that opened must be closed
        yield opened
    finally:
        for sock in opened:
            reset(sock)


def reset(sock: socket.socket) -> None:
    """Close with RST, leaving nothing behind in the kernel."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def echo(sockets: list[socket.socket], payload: bytes, text: bool, in_flight: int, seconds: float) -> int:
    """Keep ``in_flight`` messages under way on every connection for that long; the number that came back."""
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


def broadcast(trigger: socket.socket, listeners: list[socket.socket], payload: bytes, rounds: int) -> int:
    """Have the server broadcast ``payload`` so often, each after the last has arrived; deliveries counted."""
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

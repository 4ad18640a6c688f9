"""WebSocket clients that connect again whenever they are disconnected, in one thread, and what they see.

They use raw sockets and epoll, so that thousands of them cost less than the server (Linux). A server under test sends
``worker <pid>`` as the first message of each connection, so that the clients know which process serves them.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import heapq
import itertools
import os
import random
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

_KEY = "dGhlIHNhbXBsZSBub25jZQ=="


class Connected(NamedTuple):
    """A client was connected, and has received the first message."""

    at: float
    client: int
    worker: int
    #: Seconds from the first attempt to connect after the last disconnection until the first message.
    seconds: float


class Disconnected(NamedTuple):
    """A connection, or an attempt to connect, has ended."""

    at: float
    client: int
    worker: int
    #: A close code such as ``1012``, an HTTP status such as ``503``, ``refused``, ``queue full``, ``reset``,
    #: ``no close frame``, or ``timeout`` of a handshake.
    how: str


class _Client:
    """One client: its connection, and the bytes that it has not read yet."""

    __slots__ = ("began", "buffer", "code", "number", "sock", "state", "tried", "worker")

    def __init__(self, number: int) -> None:
        self.number = number
        self.sock: socket.socket | None = None
        self.state = "idle"
        self.buffer = b""
        self.code: str | None = None
        self.worker = 0
        #: When it first tried to connect after its last disconnection, and when it tried last.
        self.began = self.tried = 0.0


class Crowd:
    """Clients that run in a thread from ``start()`` to ``stop()``.

    Args:
        address: Host and port of the server, or the path of its Unix socket.
        count: How many clients.
        greeting: The text that a client sends when it is connected, made from its number; none if not given.
        pause: The longest pause before a client connects again, in seconds; a random part of it is used.
        at_once: How many clients may be in the handshake at the same time.
        stay: Seconds after which a client closes its connection itself, at most; it stays if not given.
        delay: Seconds between connecting and sending the request, at most, as on a slow network.
        timeout: Seconds that a handshake may take until it counts as failed.
    """

    def __init__(
        self,
        address: tuple[str, int] | str,
        count: int,
        *,
        greeting: Callable[[int], str] | None = None,
        pause: float = 0.0,
        at_once: int = 100,
        stay: float | None = None,
        delay: float = 0.0,
        timeout: float = 30.0,
    ) -> None:
        self.connected: list[Connected] = []
        self.disconnected: list[Disconnected] = []
        #: Messages that the clients have received, without the first ones of their connections.
        self.messages = 0
        self._address = address
        self._count = count
        self._greeting = greeting
        self._pause = pause
        self._at_once = at_once
        self._stay = stay
        self._delay = delay
        self._timeout = timeout
        self._clients = [_Client(number) for number in range(count)]
        #: When clients connect, and when those that are connected send their request or close: with the time of their
        #: attempt, because a client may have connected again since.
        self._due = [(0.0, number) for number in range(count)]
        self._later: list[tuple[float, int, float]] = []
        self._handshakes: collections.OrderedDict[int, _Client] = collections.OrderedDict()
        self._by_fd: dict[int, _Client] = {}
        self._open = 0
        self._poll = select.epoll()
        self._ending = threading.Event()
        self._failure: BaseException | None = None
        self._chance = random.Random(7)
        host, port = ("localhost", 0) if isinstance(address, str) else address
        self._request = (
            f"GET / HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {_KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ).encode()
        self._thread = threading.Thread(target=self._work, name="crowd", daemon=True)

    # --- for the test ---

    def start(self) -> Crowd:
        """Begin to connect."""
        self._thread.start()
        return self

    def stop(self) -> None:
        """Reset all connections and end the thread.

        Raises:
            BaseException: What went wrong in the thread.
        """
        self._ending.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> Crowd:
        return self.start()

    def __exit__(self, *args: object) -> None:
        self.stop()

    @property
    def open(self) -> int:
        """How many clients are connected now."""
        return self._open

    @property
    def count(self) -> int:
        """How many clients there are."""
        return self._count

    def wait_for(self, condition: Callable[[], object], seconds: float = 60.0) -> None:
        """Wait until a condition holds.

        Raises:
            TimeoutError: It does not hold in that time.
        """
        end = time.monotonic() + seconds
        while not condition():
            if self._failure is not None:
                raise self._failure
            if time.monotonic() > end:
                raise TimeoutError(f"{self._open} of {self._count} clients are connected; {dict(self.endings())}")
            time.sleep(0.01)

    def wait_connected(self, seconds: float = 60.0) -> None:
        """Wait until all clients are connected."""
        self.wait_for(lambda: self._open == self._count, seconds)

    def endings(self, since: float = 0.0) -> collections.Counter[str]:
        """Return how connections have ended, and how often, from a time on."""
        return collections.Counter(each.how for each in list(self.disconnected) if each.at >= since)

    def per_client(self, since: float = 0.0) -> collections.Counter[int]:
        """Return how many clients were disconnected how often: ``{1: 2000}``."""
        each = collections.Counter(each.client for each in list(self.disconnected) if each.at >= since)
        return collections.Counter(each[number] for number in range(self._count))

    def workers(self) -> collections.Counter[int]:
        """Return how many clients each worker has now."""
        return collections.Counter(each.worker for each in self._clients if each.state == "open")

    # --- the thread ---

    def _work(self) -> None:
        try:
            while not self._ending.is_set():
                self._connect_due()
                self._act_later()
                for fd, event in self._poll.poll(0.01 if self._due or self._later else 0.05):
                    client = self._by_fd.get(fd)
                    if client is not None:
                        self._event(client, event)
                self._end_slow_handshakes()
        except BaseException as error:  # raised by stop()
            self._failure = error
        finally:
            for client in list(self._by_fd.values()):
                self._drop(client)
            self._poll.close()

    def _connect_due(self) -> None:
        now = time.monotonic()
        while self._due and self._due[0][0] <= now and len(self._handshakes) < self._at_once:
            client = self._clients[heapq.heappop(self._due)[1]]
            client.tried = time.monotonic()
            client.began = client.began or client.tried
            self._connect(client)

    def _connect(self, client: _Client) -> None:
        family = socket.AF_UNIX if isinstance(self._address, str) else socket.AF_INET
        sock = socket.socket(family)
        sock.setblocking(False)
        client.sock, client.state, client.buffer, client.code, client.worker = sock, "connecting", b"", None, 0
        self._by_fd[sock.fileno()] = client
        self._handshakes[client.number] = client
        self._poll.register(sock, select.EPOLLIN | select.EPOLLOUT)
        error = sock.connect_ex(self._address)
        if error and error != errno.EINPROGRESS:
            self._ended(client, _name(error))

    def _do_later(self, client: _Client, most: float) -> None:
        heapq.heappush(self._later, (time.monotonic() + self._chance.random() * most, client.number, client.tried))

    def _act_later(self) -> None:
        now = time.monotonic()
        while self._later and self._later[0][0] <= now:
            _, number, tried = heapq.heappop(self._later)
            client = self._clients[number]
            if client.tried == tried and client.state == "handshake":
                self._send(client, self._request)
            elif client.tried == tried and client.state == "open":
                self._send(client, _frame(0x88, struct.pack("!H", 1000)))

    def _event(self, client: _Client, event: int) -> None:
        sock = client.sock
        assert sock is not None
        if client.state == "connecting":
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self._ended(client, _name(error))
                return
            if not event & select.EPOLLOUT:
                return
            client.state = "handshake"
            self._poll.modify(sock, select.EPOLLIN)
            if self._delay:
                self._do_later(client, self._delay)
            else:
                self._send(client, self._request)
            return
        try:
            data = sock.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self._ended(client, client.code or _name(error.errno or 0))
            return
        if not data:
            self._ended(client, client.code or "no close frame")
            return
        client.buffer += data
        if client.state == "handshake":
            self._read_response(client)
        if client.state in ("upgraded", "open"):
            self._read_frames(client)

    def _read_response(self, client: _Client) -> None:
        head, end, rest = client.buffer.partition(b"\r\n\r\n")
        if not end:
            return
        status = head[9:12].decode("latin-1")
        if status != "101":
            self._ended(client, status)
            return
        client.state, client.buffer = "upgraded", rest
        if self._greeting is not None:
            self._send(client, _frame(0x81, self._greeting(client.number).encode()))

    def _read_frames(self, client: _Client) -> None:
        for opcode, payload in self._frames(client):
            if opcode == 0x8:
                code = struct.unpack("!H", payload[:2])[0] if len(payload) >= 2 else 1005
                client.code = str(code)
                self._send(client, _frame(0x88, payload))
            elif opcode == 0x9:
                self._send(client, _frame(0x8A, payload))
            elif opcode in (0x1, 0x2):
                if client.state == "upgraded" and payload.startswith(b"worker "):
                    self._opened(client, int(payload[7:]))
                else:
                    self.messages += 1

    def _frames(self, client: _Client) -> Iterator[tuple[int, bytes]]:
        data, at = client.buffer, 0
        while len(data) - at >= 2:
            length, size = data[at + 1], 2
            if length == 126:
                length, size = int.from_bytes(data[at + 2 : at + 4], "big"), 4
            elif length == 127:
                length, size = int.from_bytes(data[at + 2 : at + 10], "big"), 10
            if len(data) - at < size + length:
                break
            opcode, payload = data[at] & 0x0F, data[at + size : at + size + length]
            at += size + length
            yield opcode, payload
        client.buffer = data[at:]

    def _opened(self, client: _Client, worker: int) -> None:
        now = time.monotonic()
        client.state, client.worker = "open", worker
        self._open += 1
        del self._handshakes[client.number]
        self.connected.append(Connected(now, client.number, worker, now - client.began))
        client.began = 0.0
        if self._stay is not None:
            self._do_later(client, self._stay)

    def _ended(self, client: _Client, how: str) -> None:
        now = time.monotonic()
        self.disconnected.append(Disconnected(now, client.number, client.worker, how))
        self._drop(client)
        # A client that is refused waits a little, so that it does not keep the machine busy.
        pause = self._chance.random() * self._pause if how.isdecimal() else max(0.02, self._pause / 10)
        heapq.heappush(self._due, (now + pause, client.number))

    def _drop(self, client: _Client) -> None:
        sock = client.sock
        assert sock is not None
        if client.state == "open":
            self._open -= 1
        self._handshakes.pop(client.number, None)
        self._by_fd.pop(sock.fileno(), None)
        client.sock, client.state = None, "idle"
        # A reset leaves no port in TIME_WAIT. The server has closed already, or the test is over.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    def _end_slow_handshakes(self) -> None:
        limit = time.monotonic() - self._timeout
        for client in list(self._handshakes.values()):
            if client.tried > limit:
                break
            self._ended(client, "timeout")

    def _send(self, client: _Client, data: bytes) -> None:
        """Send a few bytes, which always fit into the socket's buffer. A broken connection is seen when it is read."""
        assert client.sock is not None
        with contextlib.suppress(OSError):
            client.sock.send(data)


def _frame(first: int, payload: bytes) -> bytes:
    """Return a short frame of a client; its mask of zeros changes no byte."""
    if len(payload) > 125:
        raise ValueError(f"at most 125 bytes, got {len(payload)}")
    return bytes([first, 0x80 | len(payload)]) + bytes(4) + payload


def _name(error: int) -> str:
    """Return what a connection's end is called."""
    if error in (errno.ECONNREFUSED, errno.ENOENT):
        return "refused"
    if error == errno.EAGAIN:  # of a Unix socket
        return "queue full"
    if error in (errno.ECONNRESET, errno.EPIPE):
        return "reset"
    if error == errno.ETIMEDOUT:
        return "timeout"
    raise OSError(error, os.strerror(error))


def most_in_a_second(times: Iterable[float]) -> int:
    """Return the highest number of these times within any second."""
    ordered = sorted(times)
    most = begin = 0
    for end, at in enumerate(ordered):
        while at - ordered[begin] > 1.0:
            begin += 1
        most = max(most, end - begin + 1)
    return most


def longest_gap(times: Iterable[float], begin: float, end: float) -> float:
    """Return the longest time between two of these times, from ``begin`` to ``end``."""
    ordered = [begin, *sorted(at for at in times if begin <= at <= end), end]
    return max(after - before for before, after in itertools.pairwise(ordered))

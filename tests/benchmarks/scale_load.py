"""Servers of scale as processes, and clients in rooms: raw sockets, so that the load costs little."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.benchmarks import websocket_load as load

HERE = Path(__file__).resolve().parent


class Dialect(NamedTuple):
    """How a server's clients talk: its path, and how a text is wrapped in a message."""

    path: str = "/chat"
    before: str = ""
    after: str = ""
    hello: str = ""

    def wrap(self, text: str) -> str:
        """Return the message that carries a text."""
        return f"{self.before}{text}{self.after}"


#: Socket.IO 5 over Engine.IO 4: ``40`` enters the default namespace, ``42`` is an event.
SOCKETIO = Dialect("/socket.io/?EIO=4&transport=websocket", '42["m","', '"]', "40")


def dialect_of(name: str) -> Dialect:
    """Return the dialect of a peer."""
    return SOCKETIO if name == "python-socketio" else Dialect()


class Server(NamedTuple):
    """A running server process."""

    name: str
    process: subprocess.Popen[bytes]
    port: int

    @property
    def cpu(self) -> float:
        """CPU seconds so far."""
        return load.process_cpu(self.process.pid)

    @property
    def rss(self) -> int:
        """Resident bytes."""
        return load.process_rss(self.process.pid)


def environment() -> dict[str, str]:
    """Return the environment of server processes: the code of this checkout, no settings of the user."""
    root = HERE.parent.parent
    path = os.pathsep.join([str(root), str(root / "plugins"), str(HERE)])
    kept = {name: value for name, value in os.environ.items() if not name.startswith("ZCLI_")}
    return {**kept, "PYTHONPATH": path}


def start_server(name: str, url: str, variables: Mapping[str, str] = {}, cpu: int | None = None) -> Server:
    """Start a server of :mod:`scale_peers` and return when it listens."""
    errors = None if os.environ.get("ZCLI_BENCH_DEBUG") else subprocess.DEVNULL
    process = subprocess.Popen(
        [sys.executable, str(HERE / "scale_peers.py"), name, url],
        stdout=subprocess.PIPE, stderr=errors, env={**environment(), **variables},
    )  # fmt: skip
    if cpu is not None:
        os.sched_setaffinity(process.pid, {cpu})
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.wait()
        raise RuntimeError(f"{name} did not start: is it installed? (the extra bench; ZCLI_BENCH_DEBUG=1 shows why)")
    return Server(name, process, int(line))


def end_server(server: Server) -> None:
    """End a server's process."""
    server.process.kill()
    server.process.wait()
    assert server.process.stdout is not None
    server.process.stdout.close()


@contextlib.contextmanager
def servers(name: str, urls: Sequence[str], cpu: int | None = None) -> Iterator[list[Server]]:
    """Run one server for each URL until the block ends."""
    running: list[Server] = []
    try:
        for url in urls:
            running.append(start_server(name, url, cpu=cpu))  # noqa: PERF401 - those that started must be ended
        yield running
    finally:
        for server in running:
            end_server(server)


class Client:
    """A client on a blocking socket."""

    def __init__(self, server: Server, room: str | None = None) -> None:
        """Connect, and join a room."""
        self.dialect = dialect_of(server.name)
        self.sock = socket.create_connection((LOOPBACK, server.port), timeout=30)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = load.upgrade_request(server.port).replace(b"GET /chat ", f"GET {self.dialect.path} ".encode())
        self.sock.sendall(request)
        self._rest = b""
        while b"\r\n\r\n" not in self._rest:
            self._receive()
        self._rest = self._rest.partition(b"\r\n\r\n")[2]
        if self.dialect.hello:
            self.next_text()
            self._send(self.dialect.hello)
            self.next_text()
        if room is not None:
            self.join(room)

    def join(self, room: str) -> None:
        """Join a room, and return when the server has done it."""
        self.send(f"J{room}")
        answer = self.next_text()
        if "joined" not in answer:
            raise ConnectionError(f"the server did not let a client join: {answer!r}")

    def send(self, text: str) -> None:
        """Send a text."""
        self._send(self.dialect.wrap(text))

    def frame(self, text: str) -> bytes:
        """Return the frame that :meth:`send` would send."""
        return load.client_frame(self.dialect.wrap(text).encode(), True)

    def next_text(self) -> str:
        """Wait for the next message."""
        while True:
            whole = _first_frame(self._rest)
            if whole:
                payload, self._rest = whole
                return payload.decode()
            self._receive()

    def close(self) -> None:
        """Reset the connection."""
        load.reset(self.sock)

    def _send(self, text: str) -> None:
        self.sock.sendall(load.client_frame(text.encode(), True))

    def _receive(self) -> None:
        piece = self.sock.recv(65536)
        if not piece:
            raise ConnectionError(f"the server closed a connection: {self._rest[:300]!r}")
        self._rest += piece


LOOPBACK = "127.0.0.1"


def _first_frame(data: bytes) -> tuple[bytes, bytes] | None:
    """Return the payload of the first frame of a server, and the bytes after it."""
    if len(data) < 2:
        return None
    length, at = data[1], 2
    if length == 126:
        length, at = int.from_bytes(data[2:4], "big"), 4
    elif length == 127:
        length, at = int.from_bytes(data[2:10], "big"), 10
    if len(data) < at + length:
        return None
    return data[at : at + length], data[at + length :]


@contextlib.contextmanager
def crowd(running: Sequence[Server], count: int, room: Callable[[int], str | None]) -> Iterator[list[Client]]:
    """Connect so many clients, to the servers in turn; ``room(number)`` is what each joins."""
    clients: list[Client] = []
    try:
        for number in range(count):
            clients.append(Client(running[number % len(running)], room(number)))  # noqa: PERF401 - must be closed
        yield clients
    finally:
        for client in clients:
            client.close()


def fan_out(trigger: Client, members: Sequence[Client], text: str, rounds: int) -> int:
    """Publish a text so often, each after the last has reached every member; return the deliveries."""
    frame = trigger.frame(text)
    length = len(trigger.dialect.wrap(text))
    answer_length = len(load.header(0x81, length, False)) + length
    poll = select.epoll()
    by_fd = {member.sock.fileno(): member.sock for member in members}
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    for _ in range(rounds):
        trigger.sock.sendall(frame)
        missing = answer_length * len(members)
        while missing:
            events = poll.poll(30)
            if not events:
                raise TimeoutError(
                    f"a message did not arrive: {missing} of {answer_length * len(members)} bytes missing"
                )
            for fd, _event in events:
                piece = by_fd[fd].recv(1 << 16)
                if not piece:
                    raise ConnectionError("the server closed a connection")
                missing -= len(piece)
    poll.close()
    return rounds * len(members)

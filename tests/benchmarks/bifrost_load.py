"""Clients of zBifrost for its benchmark: raw sockets, as in websocket_load."""

from __future__ import annotations

import json
import select
import socket
from typing import Any

from tests.benchmarks.websocket_load import client_frame, count_frames


def request(event: str, number: int = 0, **data: Any) -> bytes:
    """Return the frame of a request."""
    return client_frame(json.dumps({"event": event, "_requestId": number, **data}).encode(), True)


class Frames:
    """The frames that a client receives: those of the server, of less than 64 KiB."""

    def __init__(self, sock: socket.socket) -> None:
        self._file = sock.makefile("rb")

    def next(self) -> bytes:
        """Return the payload of the next frame."""
        length = self._file.read(2)[1]
        if length == 126:
            length = int.from_bytes(self._file.read(2), "big")
        return self._file.read(length)

    def answer(self) -> bytes:
        """Return the payload of the next answer, and skip events."""
        while b'"_requestId"' not in (payload := self.next())[:20]:
            pass
        return payload


def ask(sock: socket.socket, event: str, **data: Any) -> bytes:
    """Send a request, and return its answer. No other message may be on its way after it."""
    sock.sendall(request(event, **data))
    return Frames(sock).answer()


def updates(writer: socket.socket, subscribers: list[socket.socket], frame: bytes, rounds: int) -> None:
    """Send an update so often, each after the last has arrived at all subscribers as one event."""
    poll = select.epoll()
    by_fd = {sock.fileno(): sock for sock in subscribers}
    rest = dict.fromkeys(by_fd, b"")
    for fd in by_fd:
        poll.register(fd, select.EPOLLIN)
    answers = Frames(writer)
    for _ in range(rounds):
        writer.sendall(frame)
        missing = len(subscribers)
        while missing:
            events = poll.poll(20)
            if not events:
                raise TimeoutError(f"{missing} subscribers did not get an update")
            for fd, _event in events:
                piece = by_fd[fd].recv(1 << 16)
                if not piece:
                    raise ConnectionError("the server closed a connection")
                whole, rest[fd] = count_frames(rest[fd] + piece)
                missing -= whole
        answers.answer()
    poll.close()

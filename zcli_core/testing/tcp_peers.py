"""Peers of a TCP connection on loopback: a server of another protocol, and a relay that damages responses."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
from typing import Any, Literal, TypeVar

#: Seconds between two checks whether a peer should end.
_TICK = 0.05
#: Seconds between two pieces of a response, so that they arrive one by one.
_BETWEEN_PIECES = 0.001
_CHUNK = 64 * 1024
_LONGEST = 10.0
#: SO_LINGER on and 0 seconds: closing sends RST.
_AT_ONCE = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)

_P = TypeVar("_P", bound="TcpPeer")

#: The end of a relay's connection after its limit.
Ending = Literal["close", "reset", "stall"]


class TcpPeer:
    """A TCP server on a free port of 127.0.0.1, ``port``. Use it as a context manager.

    Derive from it and write :meth:`talk`, which is called for every connection in its own thread.
    """

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._accept, name="tcp-peer", daemon=True)]

    def __enter__(self: _P) -> _P:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join(_LONGEST)
        self._listener.close()

    def talk(self, connection: socket.socket) -> None:
        """Serve one connection."""
        raise NotImplementedError

    def _accept(self) -> None:
        while not self._ending.is_set():
            if _readable(self._listener):
                with contextlib.suppress(OSError):  # it is gone again
                    self._take(self._listener.accept()[0])

    def _take(self, connection: socket.socket) -> None:
        thread = threading.Thread(target=self._serve, args=(connection,), name="tcp-peer", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.talk(connection)

    def send(self, connection: socket.socket, data: bytes | memoryview) -> None:
        """Send all data, unless the peer ends first, because the other side may never read.

        Raises:
            OSError: The other side is gone.
        """
        connection.settimeout(_TICK)
        rest = memoryview(data)
        while rest and not self._ending.is_set():
            with contextlib.suppress(TimeoutError):
                rest = rest[connection.send(rest) :]

    def wait_for_end(self, connection: socket.socket) -> None:
        """Read and drop data until the other side closes."""
        while not self._ending.is_set():
            if _readable(connection) and not connection.recv(_CHUNK):
                return


class Stranger(TcpPeer):
    """A server of another protocol: it sends these bytes to every client, and then nothing more.

    >>> with Stranger(b"220 mail.example.com ESMTP\\r\\n") as stranger:
    ...     ask_whatever_is_at(stranger.port)
    """

    def __init__(self, greeting: bytes) -> None:
        super().__init__()
        self._greeting = greeting

    def talk(self, connection: socket.socket) -> None:
        """Serve one connection."""
        self.send(connection, self._greeting)
        self.wait_for_end(connection)


class Relay(TcpPeer):
    """Passes all data to a server on 127.0.0.1 and its responses back, and damages the responses.

    ``piece`` sends a response back in pieces of so many bytes, which arrive one by one.
    ``limit`` passes back only so many bytes on each connection. Once there is more, or for 0 once there is a request,
    ``extra`` is sent, and then ``then`` happens: ``"close"``, ``"reset"`` (RST, RFC 9293 section 3.5.2) or ``"stall"``,
    which sends nothing. ``answered`` counts the bytes that went back on the connection that got most.
    """

    def __init__(
        self,
        server: int,
        *,
        piece: int | None = None,
        limit: int | None = None,
        then: Ending = "close",
        extra: bytes = b"",
    ) -> None:
        super().__init__()
        self.answered = 0
        self._server = server
        self._piece = piece
        self._limit = limit
        self._then = then
        self._extra = extra

    def talk(self, connection: socket.socket) -> None:
        """Serve one connection."""
        with socket.create_connection(("127.0.0.1", self._server), _LONGEST) as server:
            self._carry(connection, server)

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        passed = 0
        while not self._ending.is_set():
            readable = select.select([client, server], [], [], _TICK)[0]
            if client in readable:
                asked = client.recv(_CHUNK)
                if not asked:
                    return
                if self._limit == 0:
                    break
                self.send(server, asked)
            if server in readable:
                answer = server.recv(_CHUNK)
                if not answer:
                    return
                allowed = answer if self._limit is None else answer[: self._limit - passed]
                self._pass_back(client, allowed)
                passed += len(allowed)
                self.answered = max(self.answered, passed)
                if len(allowed) < len(answer):
                    break
        self._spoil(client)

    def _pass_back(self, client: socket.socket, answer: bytes) -> None:
        if self._piece is None:
            self.send(client, answer)
            return
        for start in range(0, len(answer), self._piece):
            self.send(client, answer[start : start + self._piece])
            self._ending.wait(_BETWEEN_PIECES)

    def _spoil(self, client: socket.socket) -> None:
        self.send(client, self._extra)
        if self._then == "stall":
            self.wait_for_end(client)
        elif self._then == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        else:
            # Closing with unread data would reset the connection and drop what was sent.
            client.shutdown(socket.SHUT_WR)
            self.wait_for_end(client)


def _readable(sock: Any) -> bool:
    return bool(select.select([sock], [], [], _TICK)[0])

"""TCP servers on loopback for tests: a server that sends a banner, and a relay that changes the replies of a server."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import threading
from typing import Any, Literal, TypeVar

#: Seconds between two checks of whether the server must end.
_TICK = 0.05
#: Seconds between two pieces of a reply, so that they arrive one by one.
_BETWEEN_PIECES = 0.001
_CHUNK = 64 * 1024
_LONGEST = 10.0
#: SO_LINGER on and 0 seconds: closing sends RST.
_AT_ONCE = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)

_P = TypeVar("_P", bound="TcpPeer")

#: What a relay does after it has forwarded as many bytes as it may.
Ending = Literal["close", "reset", "stall"]


class TcpPeer:
    """A TCP server on a free port of 127.0.0.1, ``port``. Use it as a context manager.

    Derive from it and write :meth:`talk`, which is called for each connection in a new thread.
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
        """Serve one connection, which is then closed. An OSError ends it, too."""
        raise NotImplementedError

    def _accept(self) -> None:
        while not self._ending.is_set():
            if _readable(self._listener):
                with contextlib.suppress(OSError):  # the client has already closed
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
        """Send all bytes, unless the server must end first, because the client may never read.

        Raises:
            OSError: the client has closed the connection.
        """
        connection.settimeout(_TICK)
        rest = memoryview(data)
        while rest and not self._ending.is_set():
            with contextlib.suppress(TimeoutError):
                rest = rest[connection.send(rest) :]

    def reset(self, connection: socket.socket) -> None:
        """Reset the connection (RST, RFC 9293 section 3.5.2) when it is closed."""
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)

    def wait_for_end(self, connection: socket.socket) -> None:
        """Read and discard bytes until the client closes the connection."""
        while not self._ending.is_set():
            if _readable(connection) and not connection.recv(_CHUNK):
                return


class BannerServer(TcpPeer):
    """A server of another protocol: it sends a banner to each client and then nothing more.

    >>> with BannerServer(b"220 mail.example.com ESMTP\\r\\n") as server:
    ...     probe_port(server.port)
    """

    def __init__(self, banner: bytes) -> None:
        super().__init__()
        self._banner = banner

    def talk(self, connection: socket.socket) -> None:
        """Send the banner and wait for the client to close."""
        self.send(connection, self._banner)
        self.wait_for_end(connection)


class Relay(TcpPeer):
    """Forwards connections to a server on 127.0.0.1 and changes the replies.

    Attributes:
        forwarded: the number of reply bytes on the connection that got the most.
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
        """Store how replies are changed.

        Args:
            server: the port of the server.
            piece: the size of the pieces in which replies are forwarded; by default they are not split.
            limit: the number of reply bytes to forward on one connection; by default all.
            then: what happens when the server sends more than ``limit``, or with a limit of 0, when the client sends
                something: ``"close"``, ``"reset"`` (RST, RFC 9293 section 3.5.2) or ``"stall"``: nothing more is sent.
            extra: bytes to send before that.
        """
        super().__init__()
        self.forwarded = 0
        self._server = server
        self._piece = piece
        self._limit = limit
        self._then = then
        self._extra = extra

    def talk(self, connection: socket.socket) -> None:
        """Forward one connection."""
        with socket.create_connection(("127.0.0.1", self._server), _LONGEST) as server:
            self._carry(connection, server)

    def _carry(self, client: socket.socket, server: socket.socket) -> None:
        passed = 0
        while not self._ending.is_set():
            readable = select.select([client, server], [], [], _TICK)[0]
            if client in readable:
                sent = client.recv(_CHUNK)
                if not sent:
                    return
                if self._limit == 0:
                    break
                self.send(server, sent)
            if server in readable:
                reply = server.recv(_CHUNK)
                if not reply:
                    return
                allowed = reply if self._limit is None else reply[: self._limit - passed]
                self._pass_back(client, allowed)
                passed += len(allowed)
                self.forwarded = max(self.forwarded, passed)
                if len(allowed) < len(reply):
                    break
        self._end(client)

    def _pass_back(self, client: socket.socket, reply: bytes) -> None:
        if self._piece is None:
            self.send(client, reply)
            return
        for start in range(0, len(reply), self._piece):
            self.send(client, reply[start : start + self._piece])
            self._ending.wait(_BETWEEN_PIECES)

    def _end(self, client: socket.socket) -> None:
        self.send(client, self._extra)
        if self._then == "stall":
            self.wait_for_end(client)
        elif self._then == "reset":
            self.reset(client)
        else:
            # Closing with unread bytes would reset the connection and discard what was sent.
            client.shutdown(socket.SHUT_WR)
            self.wait_for_end(client)


def _readable(sock: Any) -> bool:
    return bool(select.select([sock], [], [], _TICK)[0])

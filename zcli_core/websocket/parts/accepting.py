"""Accepting connections: what the event loops of asyncio and uvloop leave to be done by those who use them."""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import socket
import ssl
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Address
    from zcli_core.websocket.parts.handshake import Opening

#: Connections that are accepted in a row before others get their turn.
_IN_A_ROW = 32
#: Seconds to wait before accepting again where the system has no descriptor or memory for another connection.
_PAUSE = 1.0
#: Seconds between two log lines that say so.
SAY_AGAIN = 60.0
#: Descriptors below the limit from which the limit counts as reached: the process itself needs some. To start a program
#: takes 8 of them, and a connection that is dropped gives its own back a few steps of the loop later.
_MARGIN = 16
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Exhaustion:
    """Says once in a while that the system has no resources for another connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop, log: logging.Logger) -> None:
        self._loop = loop
        self._log = log
        self._said_at: float | None = None

    def say(self, why: str) -> None:
        """Log it, unless that was done a short while ago."""
        now = self._loop.time()
        if self._said_at is None or now - self._said_at >= SAY_AGAIN:
            self._said_at = now
            limit = _limit_of_descriptors()
            shown = "" if limit is None else f"; the limit of open files is {limit}"
            self._log.error("new clients cannot be accepted at the moment: %s%s", why, shown)


def _limit_of_descriptors() -> int | None:
    """The highest descriptor that this process may have, and one more; None if there is no limit."""
    if resource is None:
        return None
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


class Accepting:
    """Accepts the connections of listening sockets.

    asyncio's servers log a traceback for every connection that cannot be accepted for want of descriptors, up to
    thousands a second, and neither loop tells of a TLS handshake that fails. So this accepts by itself, except for
    TCP without TLS on uvloop, where uvloop's own way costs less.
    """

    def __init__(
        self,
        sockets: list[socket.socket],
        open_one: Callable[..., Opening],
        tls: dict[str, Any],
        tls_failed: Callable[[Any, Exception], None],
        make_room: Callable[[], bool],
        few_left: Callable[[], None],
        log: logging.Logger,
    ) -> None:
        """Take what is called for each connection.

        Args:
            sockets: Sockets that listen.
            open_one: Makes the protocol of a new connection; it is given the client's address where that is known.
            tls: What the loop is told of TLS.
            tls_failed: Called with an address and the error of a TLS handshake.
            make_room: Called while no descriptor is left; drops a connection, and returns whether there was one.
            few_left: Called for each new connection that has one of the last descriptors.
            log: Where it says that no client can be accepted.
        """
        self.loop = asyncio.get_running_loop()
        self._exhaustion = Exhaustion(self.loop, log)
        self._make_room = make_room
        self._few_left = few_left
        self._sockets = sockets
        self._open_one = open_one
        self._tls = tls
        self._tls_failed = tls_failed
        self._log = log
        #: Connections whose transport is being made; with TLS, for as long as the handshake takes.
        self._opening: dict[socket.socket, asyncio.Task[None]] = {}
        #: Those of them whose task has not begun.
        self._accepted: set[socket.socket] = set()
        self._paused: dict[socket.socket, asyncio.TimerHandle] = {}
        self._servers: list[asyncio.AbstractServer] = []
        #: Sockets on which this accepts, and the loop does not.
        self._read: list[socket.socket] = []
        #: Whether the loop accepts, so that :meth:`watch` has to be called for each new connection.
        self.loop_accepts = False

    async def start(self, backlog: int) -> None:
        """Begin to accept."""
        uvloop = type(self.loop).__module__.partition(".")[0] == "uvloop"
        for sock in self._sockets:
            # Some loops remove the file of a Unix socket that they accept on, even if it was passed to us.
            unix = sock.family == getattr(socket, "AF_UNIX", None)
            if not uvloop or self._tls or unix:
                try:
                    self.loop.add_reader(sock, self._accept, sock)
                except NotImplementedError:  # Windows
                    pass
                else:
                    self._read.append(sock)
                    continue
            self.loop_accepts = True
            server = await self.loop.create_server(self._open_one, sock=sock, backlog=backlog, **self._tls)
            self._servers.append(server)

    def watch(self, sock: socket.socket | None) -> bool:
        """Whether a new connection has one of the last descriptors; the log says so, and ``few_left`` is called.

        Else strangers could take the descriptors that the process needs to open files and other connections. uvloop
        also drops the clients that come once there is no descriptor left, and tells nobody.
        """
        limit = _limit_of_descriptors()
        if limit is None or sock is None or sock.fileno() < limit - _MARGIN:
            return False
        self._exhaustion.say("nearly all descriptors are in use")
        self._few_left()
        return True

    def _accept(self, sock: socket.socket) -> None:
        for _ in range(_IN_A_ROW):
            try:
                accepted, address = sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                pause = _PAUSE
                if error.errno not in _EXHAUSTED:
                    self._log.exception("accepting a connection failed")
                else:
                    self._exhaustion.say(error.strerror or str(error))
                    if self._make_room():
                        pause = 0.0  # the loop closes that connection first
                # The clients wait in the queue of the socket meanwhile.
                self.loop.remove_reader(sock)
                self._paused[sock] = self.loop.call_later(pause, self._go_on, sock)
                return
            known = cast("Address", address) if isinstance(address, tuple) else None  # a Unix socket has none
            opening = self._open_one(known, functools.partial(self._abandon, accepted))
            self._accepted.add(accepted)
            task = self.loop.create_task(self._open(accepted, opening, known))
            if not task.done():  # an eager task may be
                self._opening[accepted] = task
            if self.watch(accepted):
                return  # first the loop closes the connection that is dropped for it

    def _go_on(self, sock: socket.socket) -> None:
        del self._paused[sock]
        self.loop.add_reader(sock, self._accept, sock)

    async def _open(self, sock: socket.socket, opening: Opening, address: Address) -> None:
        self._accepted.discard(sock)
        try:
            await self.loop.connect_accepted_socket(lambda: opening, sock, **self._tls)
        except (OSError, asyncio.TimeoutError) as error:
            # The client has left during the TLS handshake, or it has failed.
            opening.give_up()
            self._tls_failed(address, error)
            _let_go(error)
        except BaseException:
            opening.give_up()
            raise
        finally:
            self._opening.pop(sock, None)

    def _abandon(self, sock: socket.socket) -> None:
        """Drop a connection whose transport is not made yet."""
        task = self._opening.pop(sock, None)
        if task is not None:
            task.cancel()
        if sock in self._accepted:  # a task that is cancelled before it begins never gets to close it
            self._accepted.discard(sock)
            sock.close()

    def stop(self) -> None:
        """Release the sockets, and drop the clients whose transport is not made yet."""
        for timer in self._paused.values():
            timer.cancel()
        for server in self._servers:
            server.close()
        for sock in self._read:
            if sock not in self._paused:
                self.loop.remove_reader(sock)
            sock.close()
        self._paused = {}
        self._servers = []
        self._read = []
        for sock in list(self._opening):
            self._abandon(sock)


def _let_go(error: BaseException | None) -> None:
    """Break the cycle of a failed TLS handshake: the error, its traceback, and a frame that has the error.

    asyncio's buffers for the connection, 300 KB, would else wait for the garbage collector, which counts objects and
    not their size. So strangers could fill the memory with handshakes that fail.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


def certificate_trouble(error: Exception) -> str | None:
    """What is wrong if a TLS handshake failed over a certificate; None if it failed for another reason.

    Port scanners and clients that speak no TLS are not worth a line.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate was not accepted: {error.verify_message}"
    reason = (getattr(error, "reason", None) or "").upper() if isinstance(error, ssl.SSLError) else ""
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "it showed no certificate, and one is required"
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        alert = reason.partition("ALERT_")[2].replace("_", " ").lower()
        return f"it did not accept the server's certificate ({alert})"
    return None

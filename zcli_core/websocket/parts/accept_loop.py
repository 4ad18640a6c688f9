"""Accepting connections, where the event loops of asyncio and uvloop leave errors to their users."""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import socket
import ssl
import time
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Address
    from zcli_core.websocket.parts.handshake import HandshakeProtocol

#: Connections that are accepted in a row before other work gets its turn.
_IN_A_ROW = 32
#: Seconds to wait before accepting again if the system has no descriptor or memory for another connection.
_PAUSE = 1.0
#: Seconds between two log lines about the same shortage.
LOG_INTERVAL = 60.0
#: Descriptors below the limit from which the limit counts as reached, because the process itself needs some. Starting a
#: program takes 8, and a dropped connection returns its own a few steps of the loop later.
_MARGIN = 16
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Interval:
    """Limits how often something is done, such as a repeated log line."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._last = -seconds

    def is_over(self) -> bool:
        """Return whether the last True is at least so many seconds ago."""
        now = time.monotonic()
        if now - self._last < self._seconds:
            return False
        self._last = now
        return True


def _descriptor_limit() -> int | None:
    """Return how many descriptors this process may have; None if there is no limit."""
    if resource is None:
        return None
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return None if limit == resource.RLIM_INFINITY else limit


class AcceptLoop:
    """Accepts the connections of listening sockets.

    asyncio's servers log a traceback for every connection that cannot be accepted for lack of descriptors, up to
    thousands a second, and neither event loop reports a TLS handshake that fails. So this accepts by itself. The
    exception is TCP without TLS on uvloop, where uvloop's own way costs less.
    """

    def __init__(
        self,
        sockets: list[socket.socket],
        make_protocol: Callable[..., HandshakeProtocol],
        tls: dict[str, Any],
        tls_failed: Callable[[Any, Exception], None],
        evict: Callable[[], bool],
        few_left: Callable[[], None],
        log: logging.Logger,
    ) -> None:
        """Keep the callbacks; :meth:`start` begins to accept.

        Args:
            sockets: Sockets that listen.
            make_protocol: Makes the protocol of a new connection; takes the client's address if it is known.
            tls: The TLS arguments of the loop's methods.
            tls_failed: Called with the address and the error of a failed TLS handshake.
            evict: Called while no descriptor is left; drops a connection, and returns whether there was one.
            few_left: Called for each new connection that has one of the last descriptors.
            log: The log for errors of accepting.
        """
        self.loop = asyncio.get_running_loop()
        self._log_interval = Interval(LOG_INTERVAL)
        self._evict = evict
        self._few_left = few_left
        self._sockets = sockets
        self._make_protocol = make_protocol
        self._tls = tls
        self._tls_failed = tls_failed
        self._log = log
        #: Connections whose transport is being made; with TLS, for as long as the handshake takes.
        self._opening: dict[socket.socket, asyncio.Task[None]] = {}
        #: Those of them whose task has not begun.
        self._accepted: set[socket.socket] = set()
        self._paused: dict[socket.socket, asyncio.TimerHandle] = {}
        self._servers: list[asyncio.AbstractServer] = []
        #: Sockets on which this accepts, and not the loop.
        self._read: list[socket.socket] = []
        #: Whether the loop accepts, so that :meth:`check_descriptor` must be called for each new connection.
        self.loop_accepts = False

    async def start(self, backlog: int) -> None:
        """Begin to accept."""
        uvloop = type(self.loop).__module__.partition(".")[0] == "uvloop"
        for sock in self._sockets:
            # Some loops remove the file of a Unix socket that they accept on, even if the socket was passed in.
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
            server = await self.loop.create_server(self._make_protocol, sock=sock, backlog=backlog, **self._tls)
            self._servers.append(server)

    def check_descriptor(self, sock: socket.socket | None) -> bool:
        """Return whether a new connection has one of the last descriptors; if so, log it and call ``few_left``.

        Otherwise clients could use up the descriptors that the process needs to open files and other connections.
        uvloop also drops, without a report, the clients that come once there is no descriptor left.
        """
        limit = _descriptor_limit()
        if limit is None or sock is None or sock.fileno() < limit - _MARGIN:
            return False
        self._log_shortage("nearly all descriptors are in use")
        self._few_left()
        return True

    def _log_shortage(self, reason: str) -> None:
        if self._log_interval.is_over():
            limit = _descriptor_limit()
            shown = "" if limit is None else f"; the limit of open files is {limit}"
            self._log.error("new clients cannot be accepted at the moment: %s%s", reason, shown)

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
                    self._log_shortage(error.strerror or str(error))
                    if self._evict():
                        pause = 0.0  # the loop closes that connection first
                # The clients wait in the queue of the socket meanwhile.
                self.loop.remove_reader(sock)
                self._paused[sock] = self.loop.call_later(pause, self._go_on, sock)
                return
            known = cast("Address", address) if isinstance(address, tuple) else None  # a Unix socket has none
            protocol = self._make_protocol(known, functools.partial(self._abandon, accepted))
            self._accepted.add(accepted)
            task = self.loop.create_task(self._open(accepted, protocol, known))
            if not task.done():  # an eager task may be
                self._opening[accepted] = task
            if self.check_descriptor(accepted):
                return  # the loop first closes the connection that is dropped for it

    def _go_on(self, sock: socket.socket) -> None:
        del self._paused[sock]
        self.loop.add_reader(sock, self._accept, sock)

    async def _open(self, sock: socket.socket, protocol: HandshakeProtocol, address: Address) -> None:
        self._accepted.discard(sock)
        try:
            await self.loop.connect_accepted_socket(lambda: protocol, sock, **self._tls)
        except (OSError, asyncio.TimeoutError) as error:
            # The client has left during the TLS handshake, or the handshake has failed.
            protocol.give_up()
            self._tls_failed(address, error)
            _break_cycle(error)
        except BaseException:
            protocol.give_up()
            raise
        finally:
            self._opening.pop(sock, None)

    def _abandon(self, sock: socket.socket) -> None:
        """Drop a connection whose transport is not made yet."""
        task = self._opening.pop(sock, None)
        if task is not None:
            task.cancel()
        if sock in self._accepted:  # a task that is cancelled before it begins does not close it
            self._accepted.discard(sock)
            sock.close()

    @property
    def is_opening(self) -> bool:
        """Whether there is a client whose transport is not made yet."""
        return bool(self._opening)

    def close_sockets(self) -> None:
        """Release the sockets. A second call does nothing."""
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

    def stop(self) -> None:
        """Release the sockets, and drop the clients whose transport is not made yet."""
        self.close_sockets()
        for sock in list(self._opening):
            self._abandon(sock)


def _break_cycle(error: BaseException | None) -> None:
    """Break the reference cycle of a failed TLS handshake: the error, its traceback, and a frame that has the error.

    Otherwise asyncio's buffers for the connection, 300 KB, wait for the garbage collector, which counts objects and not
    their size. Clients could then fill the memory with failing handshakes.
    """
    while error is not None:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


def certificate_problem(error: Exception) -> str | None:
    """Return why a certificate made a TLS handshake fail; None if it failed for another reason.

    Port scanners and clients that do not use TLS are not worth a log line.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate was not accepted: {error.verify_message}"
    reason = (getattr(error, "reason", None) or "").upper() if isinstance(error, ssl.SSLError) else ""
    if reason == "PEER_DID_NOT_RETURN_A_CERTIFICATE":
        return "it sent no certificate, and one is required"
    if "ALERT" in reason and ("CERTIFICATE" in reason or "UNKNOWN_CA" in reason):
        alert = reason.partition("ALERT_")[2].replace("_", " ").lower()
        return f"it did not accept the server's certificate ({alert})"
    return None

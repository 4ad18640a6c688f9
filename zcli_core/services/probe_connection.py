"""The connection of a probe: TCP or a Unix socket, plain or TLS, within one deadline."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from zcli_core.errors import raised_by_signal
from zcli_core.net import connecting
from zcli_core.net.hosts import ascii_host
from zcli_core.services import owners
from zcli_core.services.contract import Exchange, Reply

if TYPE_CHECKING:
    import ssl

    from zcli_core.net.connecting import Address
    from zcli_core.net.port_holder import PortHolder
    from zcli_core.services.parts.settings import ServiceSettings

#: Bytes that are read of one reply. The reply to a handshake is shorter.
MAX_REPLY = 64 * 1024
_CHUNK = 16 * 1024
#: Up to this many bytes, every piece of a reply is parsed as soon as it is received.
_SHORT = 1024
#: Seconds without another piece after which a longer reply is parsed.
_PAUSE = 0.005


class NoConnectionError(Exception):
    """No connection could be made. The message is the cause, as one clause.

    ``refused`` tells whether nothing listens there.
    """

    def __init__(self, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.refused = refused


class UntrustedCertificateError(Exception):
    """The server's certificate is not from an authority in the service's ``ca_file``. The message is the cause."""


class ProbeConnection:
    """The connection of one probe. Use it as a context manager, which closes it."""

    def __init__(
        self,
        host: str,
        port: int,
        timeout: float,
        socket_path: str | None = None,
        *,
        settings: ServiceSettings | None = None,
    ) -> None:
        """Store where to connect; :meth:`exchange` connects.

        Args:
            host: a name or an address.
            port: the TCP port.
            timeout: seconds that all exchanges together may take.
            socket_path: the path of a Unix socket to connect to instead.
            settings: the section of the service, which may name the files for TLS.
        """
        self._host = host
        if not host.isascii() and socket_path is None:
            with contextlib.suppress(ValueError):  # an invalid host is refused when it is resolved
                self._host = ascii_host(host)
        self._port = port
        self._socket_path = socket_path
        self._deadline = self._step_deadline = time.monotonic() + timeout
        self._settings = settings
        self._socket: socket.socket | None = None
        #: The addresses of the host; empty until it is resolved.
        self._addresses: list[Address] = []
        #: Whether the last exchange was encrypted.
        self.is_tls = False
        #: Why TLS failed in the last exchange with a server that speaks TLS; else empty.
        self.tls_error = ""
        #: Whether the server closed the connection in the last exchange.
        self.closed = False
        self._peer_uid: int | None = None
        #: Everything that was received in the last exchange.
        self.received = b""

    def __enter__(self) -> ProbeConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def exchange(self, step: Exchange) -> Reply:
        """Carry out one step. A connection that the server aborts counts as closed, not as an error.

        Raises:
            NoConnectionError: no connection can be made.
            UntrustedCertificateError: the server's certificate is not from an authority in ``ca_file``.
        """
        now = time.monotonic()
        self._step_deadline = now + (self._deadline - now) * step.share
        if step.reconnect:
            self.close()
        if self._socket is None:
            self._socket = self._connect()
            self.is_tls = False
        try:
            if step.tls and not self.is_tls:
                self._encrypt()
            self._socket.settimeout(self._remaining())
            self._socket.sendall(step.send)
        except OSError as error:  # ssl.SSLError is one
            if raised_by_signal(error):
                raise
            if isinstance(error, TimeoutError):
                return self._reply(b"")
            left, later = self._leftovers()
            return self._reply(left, later if _tls_error(later) else error)
        if step.complete is None:
            return self._reply(b"")
        return self._reply(*self._read(step.complete))

    def _read(self, complete: Callable[[bytes], bool]) -> tuple[bytes, Exception | None]:
        """Read until the reply is complete, the server closes the connection, or the deadline has passed.

        A long reply is passed to ``complete`` again only when it has grown by an eighth, or pauses. Otherwise a server
        that sends single bytes would cause the whole reply to be parsed for every byte.
        """
        assert self._socket is not None
        data = bytearray()
        parsed = 0
        while len(data) < MAX_REPLY and time.monotonic() < self._step_deadline:
            behind = len(data) > parsed
            try:
                self._socket.settimeout(min(self._remaining(), _PAUSE) if behind else self._remaining())
                chunk = self._socket.recv(min(_CHUNK, MAX_REPLY - len(data)))
            except OSError as error:
                if raised_by_signal(error):
                    raise
                if not isinstance(error, TimeoutError):
                    return bytes(data), error
                if not behind:
                    break
            else:
                if not chunk:
                    return bytes(data), EOFError()
                data += chunk
                if _SHORT < len(data) < parsed + parsed // 8:
                    continue
            parsed = len(data)
            if complete(bytes(data)):
                break
        return bytes(data), None

    def owner(self) -> int | None:
        """Return the user id of the server; None if the system does not report it."""
        if self._socket_path is not None:
            return self._peer_uid
        return owners.listener_uid([address.host for address in self._addresses], self._port)

    def find_owner(self) -> int | None:
        """Return the user id as :meth:`owner` does, without an exchange; None if there is no server."""
        with contextlib.suppress(NoConnectionError):
            if self._socket_path is not None:
                self._socket = self._connect_unix(self._socket_path)
            else:
                self._resolve()
        return self.owner()

    def holder(self) -> PortHolder | None:
        """Return the process that holds the server's port or socket; None if the system does not report it."""
        from zcli_core.net.port_holder import holder_of, holder_of_socket

        if self._socket_path is not None:
            return holder_of_socket(self._socket_path)
        own = [address.host for address in self._addresses if owners.is_own_address(address.host)]
        return holder_of(self._port, own) if own else None

    def _reply(self, data: bytes, end: Exception | None = None) -> Reply:
        """Build the reply. ``end`` is the error that ended the connection; None if it is still open."""
        self.received = data
        reply = Reply(data)
        reply.closed = self.closed = end is not None
        reply.tls_error = self.tls_error = _tls_error(end)
        reply.not_tls = not reply.tls_error and _is_ssl_error(end)
        return reply

    def _remaining(self) -> float:
        # 0 would make the socket non-blocking. After the deadline, the next wait ends at once.
        return max(self._step_deadline - time.monotonic(), 0.001)

    # --- connecting ---

    def _connect(self) -> socket.socket:
        if self._socket_path is not None:
            return self._connect_unix(self._socket_path)
        self._resolve()
        try:
            return connecting.connect(self._addresses, self._deadline)
        except connecting.NoConnectionError as error:
            raise _no_connection(error.errors) from error

    def _resolve(self) -> None:
        if self._addresses:
            return
        try:
            self._addresses = connecting.resolve(self._host, self._port, self._deadline)
        except socket.gaierror as error:
            raise NoConnectionError(f"cannot resolve {self._host!r} ({error.strerror})") from error
        except TimeoutError as error:
            if raised_by_signal(error):
                raise
            raise NoConnectionError(f"cannot resolve {self._host!r} in time") from error

    def _connect_unix(self, path: str) -> socket.socket:
        if not hasattr(socket, "AF_UNIX"):
            raise NoConnectionError("this system has no Unix sockets")
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.settimeout(self._remaining())
            sock.connect(path)
        except OSError as error:
            sock.close()
            if raised_by_signal(error):
                raise
            raise NoConnectionError(
                f"{path}: {error.strerror or error}", refused=isinstance(error, (FileNotFoundError, ConnectionError))
            ) from error
        self._peer_uid = owners.peer_uid(sock)
        return sock

    def _encrypt(self) -> None:
        """Start TLS. Without ``ca_file``, every certificate is accepted, because no secret is sent."""
        import ssl

        assert self._socket is not None
        self._socket.settimeout(self._remaining())
        self._socket.getpeername()  # raises after a reset by the server: wrap_socket would leave the socket open
        try:
            self._socket = _tls_context(self._settings).wrap_socket(self._socket, server_hostname=self._host)
        except ssl.SSLCertVerificationError as error:
            raise UntrustedCertificateError(error.verify_message) from error
        self.is_tls = True

    def _leftovers(self) -> tuple[bytes, Exception | None]:
        """Return what the server sent before it closed, after sending failed, and the error of reading it."""
        try:
            if self._socket is not None:
                self._socket.settimeout(0.05)
                return self._socket.recv(_CHUNK), None
        except OSError as error:
            if raised_by_signal(error):
                raise
            return b"", error
        return b"", None

    def close(self) -> None:
        """Close the connection: TLS, then our side of TCP, then the socket."""
        sock, self._socket = self._socket, None
        if sock is None:
            return
        with contextlib.suppress(OSError, ValueError):
            sock.settimeout(0.05)
            if self.is_tls:
                sock = sock.unwrap()  # type: ignore[attr-defined]
            sock.shutdown(socket.SHUT_WR)
        sock.close()


def _no_connection(errors: Sequence[OSError]) -> NoConnectionError:
    if all(isinstance(error, ConnectionError) for error in errors):
        return NoConnectionError("nothing listens there", refused=True)
    if any(isinstance(error, TimeoutError) for error in errors):
        return NoConnectionError("no connection in time")
    error = next(error for error in errors if not isinstance(error, ConnectionError))
    return NoConnectionError((error.strerror or str(error)).lower())


def _tls_context(settings: ServiceSettings | None) -> ssl.SSLContext:
    """Return the context for one probe. The files were checked when the service was first used."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    ca_file, certificate, key = (getattr(settings, name, None) for name in ("ca_file", "client_cert", "client_key"))
    if ca_file is None:
        context.verify_mode = ssl.CERT_NONE
    else:
        context.load_verify_locations(cafile=ca_file)
    if certificate is not None:
        context.load_cert_chain(certificate, key, password="")
    return context


#: OpenSSL's reasons, in addition to alerts, for which TLS fails with a server that speaks TLS.
_INCOMPATIBLE = ("UNSUPPORTED_PROTOCOL", "DH_KEY_TOO_SMALL", "UNSAFE_LEGACY_RENEGOTIATION_DISABLED")


def _is_ssl_error(error: Exception | None) -> bool:
    """Return whether TLS failed, and not because the connection ended."""
    if error is None:
        return False
    import ssl

    from zcli_core.net.client_tls import is_end

    return isinstance(error, ssl.SSLError) and not is_end(error)


def _tls_error(error: Exception | None) -> str:
    """Return the reason of TLS, such as ``"certificate required"``; empty if the error is not from TLS."""
    if not _is_ssl_error(error):
        return ""
    reason = str(getattr(error, "reason", None) or "")
    _, alert, name = reason.partition("_ALERT_")
    if not alert and reason not in _INCOMPATIBLE:
        return ""
    return (name or reason).replace("_", " ").lower()

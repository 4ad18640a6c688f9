"""Where the server listens: the endpoint from the settings, its URL, and what a failure to listen means."""

from __future__ import annotations

import errno
import socket
import stat
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zcli_core.errors import ListenError
from zcli_core.websocket.addresses import format_address, is_loopback_host
from zcli_core.websocket.contract import Compression, Endpoint, Limits
from zcli_core.websocket.parts.addresses import parse_ip
from zcli_core.websocket.systemd import passed_sockets

if TYPE_CHECKING:
    import ssl

    from zcli_core.config import Config
    from zcli_core.config.sections import WebSocket
    from zcli_core.websocket.contract import Address

#: Lower limit of ``Limits.max_pending_connections``, for a server with a small ``max_connections``.
_MIN_PENDING_CONNECTIONS = 100


def make_limits(settings: WebSocket) -> Limits:
    """Return the limits that the transport enforces."""
    compression = None
    if settings.compression:
        compression = Compression(
            settings.compression_window_bits, settings.compression_memory_level, settings.compression_threshold
        )
    names = (
        "max_size", "max_fragments", "max_send_buffer", "open_timeout", "close_timeout", "ping_interval",
        "ping_timeout", "max_headers", "max_header_bytes",
    )  # fmt: skip
    return Limits(
        compression=compression,
        max_pending_connections=max(settings.max_connections, _MIN_PENDING_CONNECTIONS),
        **{name: getattr(settings, name) for name in names},
    )


def make_endpoint(
    settings: WebSocket, host: Any, port: Any, tls: ssl.SSLContext | None, unix_owner: tuple[int, int]
) -> Endpoint:
    """Return where to listen.

    Args:
        settings: The settings, which the arguments ``host`` and ``port`` override.
        host: A host name or address, or None.
        port: A port from 0 to 65535, or None. 0 picks a free one.
        tls: The context for wss://, or None.
        unix_owner: User id and group id of the Unix socket's file; -1 keeps the default.

    Raises:
        ValueError: ``host`` or ``port`` is invalid.
    """
    if host is None and port is None and settings.unix_path is not None:
        mode = None if settings.unix_mode is None else int(settings.unix_mode, 8)
        return Endpoint(host=None, port=0, unix_path=settings.unix_path, unix_mode=mode, unix_owner=unix_owner, tls=tls)
    from zcli_core.net.validation import valid_host, valid_port

    if port is None:
        port = settings.port
    elif type(port) is not int or port != 0:
        port = valid_port(port)
    host = valid_host(settings.host if host is None else host)
    return Endpoint(host=host, port=port, reuse_port=settings.reuse_port, tls=tls)


def is_local(endpoint: Endpoint) -> bool:
    """Whether the server listens only on loopback addresses or Unix sockets, which only this machine can reach."""
    return all(host is None or is_loopback_host(host) for host in _hosts(endpoint))


def is_loopback(endpoint: Endpoint) -> bool:
    """Whether the server listens only on loopback addresses."""
    return all(host is not None and is_loopback_host(host) for host in _hosts(endpoint))


def _hosts(endpoint: Endpoint) -> list[str | None]:
    """Return the hosts that an endpoint listens on; None for a Unix socket."""
    if endpoint.sockets:
        return [None if sock.family == socket.AF_UNIX else sock.getsockname()[0] for sock in endpoint.sockets]
    return [endpoint.host]


def use_systemd_sockets(endpoint: Endpoint) -> Endpoint:
    """Return the endpoint of the sockets that systemd passes to this process; without any, the given one.

    Raises:
        ListenError: One of them is not a listening stream socket.
    """
    sockets = passed_sockets()
    if not sockets:
        return endpoint
    return replace(endpoint, host=None, port=0, unix_path=None, sockets=sockets)


def pick_shared_port(endpoint: Endpoint) -> Endpoint:
    """Replace port 0 by a free port if the host is a name, whose addresses must all get the same port."""
    if (
        endpoint.sockets
        or endpoint.unix_path
        or endpoint.port
        or endpoint.host is None
        or parse_ip(endpoint.host) is not None
    ):
        return endpoint
    from zcli_core.net.ports import find_free_port

    return replace(endpoint, port=find_free_port(endpoint.host))


def remove_stale_socket(path: Path, config: Config) -> None:
    """Remove the file of a Unix socket if no server listens on it.

    Args:
        path: The file.
        config: The configuration, which knows where ``websocket.unix_path`` was set.

    Raises:
        ListenError: Another server listens on it, it is another kind of file, or its folder is missing.
    """
    setting = f"websocket.unix_path ({config.explain('websocket.unix_path').origin})"
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        if not path.parent.is_dir():
            missing = f"the folder {path.parent} does not exist; create it, or set another path"
            raise ListenError(f"{setting}: {missing}") from None
        return
    except OSError as error:
        raise ListenError(f"{setting}: {path}: {error.strerror}") from error
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"{setting}: {path} exists and is not a socket; remove it or choose another path")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ListenError(f"{setting}: {path} cannot be used: {error.strerror or error}") from error
        else:
            raise ListenError(f"{setting}: another server listens on {path}; stop it, or set another path")


def explain_listen_error(error: OSError, endpoint: Endpoint) -> ListenError:
    """Convert the system's error to one that says what is wrong and what to do."""
    if endpoint.sockets:
        given = ", ".join(str(sock.getsockname()) for sock in endpoint.sockets if sock.fileno() >= 0)
        return ListenError(
            f"cannot listen on the sockets that were given to this process ({given}): {error.strerror or error}"
        )
    if endpoint.unix_path is not None:
        if error.errno == errno.EPERM and endpoint.unix_owner != (-1, -1):
            return ListenError(
                f"websocket.unix_owner: this user may not change the owner of {endpoint.unix_path} to another user or "
                "to a group that the user is not a member of"
            )
        return ListenError(f"cannot listen on {endpoint.unix_path}: {error.strerror or error}")
    host, port = endpoint.host or "", endpoint.port
    if error.errno == errno.EADDRINUSE:
        from zcli_core.net.ports import held_by

        holder = held_by(port, host)
        return ListenError(f"port {port} of {host} is in use{holder}; stop it, or choose another one (websocket.port)")
    if error.errno in (errno.EACCES, errno.EPERM) and 0 < port < 1024:
        return ListenError(
            f"port {port} is privileged: this user may not listen below 1024; use a higher one (websocket.port), or "
            "a proxy in front"
        )
    if error.errno == errno.EADDRNOTAVAIL or "could not bind on any address" in str(error):  # asyncio from 3.12 on
        return ListenError(f"{host} is not an address of this machine; set websocket.host to 0.0.0.0 for all addresses")
    if isinstance(error, socket.gaierror):
        return ListenError(f"the host {host!r} (websocket.host) cannot be resolved: {error.strerror}")
    return ListenError(f"cannot listen on port {port} of {host}: {error.strerror or error}")


def endpoint_url(endpoint: Endpoint, addresses: list[Address]) -> str:
    """Return the URL for clients: ``ws://127.0.0.1:8765``.

    Args:
        endpoint: Where the server was asked to listen.
        addresses: Where it listens, with the port that was picked for port 0.
    """
    scheme = "wss" if endpoint.tls else "ws"
    if endpoint.unix_path is not None:
        return f"{scheme}+unix://{endpoint.unix_path}"
    if endpoint.sockets and endpoint.host is None:
        name = endpoint.sockets[0].getsockname()
        return f"{scheme}://{format_address(name)}" if isinstance(name, tuple) else f"{scheme}+unix://{name}"
    port = addresses[0][1] if addresses and addresses[0] else endpoint.port
    return f"{scheme}://{format_address((endpoint.host or '', port))}"

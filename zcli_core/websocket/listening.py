"""From the settings to a port that is open, or to a sentence that says why it is not."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zcli_core.errors import ListenError
from zcli_core.websocket.addresses import is_loopback_host
from zcli_core.websocket.connection import shown_address
from zcli_core.websocket.contract import Compression, Endpoint, Limits
from zcli_core.websocket.systemd import passed_sockets

if TYPE_CHECKING:
    import ssl

    from zcli_core.config.sections import WebSocket
    from zcli_core.websocket.contract import Address

#: Connections in the handshake or being refused that even a server for a few clients may have.
_MIN_PENDING_CONNECTIONS = 100


def make_limits(settings: WebSocket) -> Limits:
    """The settings as the transport takes them."""
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
    """Where to listen: the arguments where they are given, else the settings.

    :raises ValueError: a port outside 0-65535, or a malformed host.
    """
    if host is None and port is None and settings.unix_path is not None:
        mode = None if settings.unix_mode is None else int(settings.unix_mode, 8)
        return Endpoint(host=None, port=0, unix_path=settings.unix_path, unix_mode=mode, unix_owner=unix_owner, tls=tls)
    from zcli_core.net.ports import valid_host, valid_port

    name = valid_host(settings.host if host is None else host)
    number = settings.port if port is None else port
    if type(number) is not int or number != 0:
        number = valid_port(number)
    return Endpoint(host=name, port=number, reuse_port=settings.reuse_port, tls=tls)


def is_local(endpoint: Endpoint) -> bool:
    """Whether only this machine can reach it: it listens on loopback addresses or Unix sockets."""
    return all(host is None or is_loopback_host(host) for host in _hosts(endpoint))


def is_loopback(endpoint: Endpoint) -> bool:
    """Whether it listens on loopback addresses only."""
    return all(host is not None and is_loopback_host(host) for host in _hosts(endpoint))


def _hosts(endpoint: Endpoint) -> list[str | None]:
    """Where it listens; None for a Unix socket."""
    if endpoint.sockets:
        return [None if sock.family == socket.AF_UNIX else sock.getsockname()[0] for sock in endpoint.sockets]
    return [endpoint.host]


def with_passed_sockets(endpoint: Endpoint) -> Endpoint:
    """The endpoint with the sockets that systemd passes on, if it does.

    :raises ListenError: one of them cannot be listened on.
    """
    sockets = passed_sockets()
    if not sockets:
        return endpoint
    from dataclasses import replace

    return replace(endpoint, host=None, port=0, unix_path=None, sockets=sockets)


def one_port_for_all(endpoint: Endpoint) -> Endpoint:
    """For port 0 of a name with several addresses, as localhost may be: one free port, the same for each."""
    if endpoint.unix_path is not None or endpoint.port or endpoint.host is None or _is_address(endpoint.host):
        return endpoint
    from dataclasses import replace

    from zcli_core.net.ports import find_free_port

    return replace(endpoint, port=find_free_port(endpoint.host))


def _is_address(host: str) -> bool:
    import ipaddress

    try:
        ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return True


def make_way(path: Path) -> None:
    """Remove a socket file that nobody listens on any more.

    :raises ListenError: somebody listens on it, it is another kind of file, or its folder is missing.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise ListenError(f"websocket.unix_path: the folder {path.parent} does not exist") from None
        return
    except OSError as error:
        raise ListenError(f"websocket.unix_path: {path}: {error.strerror}") from error
    if not stat.S_ISSOCK(mode):
        raise ListenError(f"websocket.unix_path: {path} is there already and is no socket; it is left alone")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise ListenError(f"websocket.unix_path: {path} cannot be used: {error.strerror or error}") from error
        else:
            raise ListenError(f"websocket.unix_path: another server listens on {path}")


def explain(error: OSError, endpoint: Endpoint) -> ListenError:
    """What the system's refusal means and what to do about it."""
    if endpoint.sockets:
        return ListenError(f"cannot listen on the sockets that systemd passed on: {error.strerror or error}")
    if endpoint.unix_path is not None:
        if error.errno == errno.EPERM and endpoint.unix_owner != (-1, -1):
            return ListenError(
                f"websocket.unix_owner: this user may not give {endpoint.unix_path} to another user or to a group "
                "that it does not belong to"
            )
        return ListenError(f"cannot listen on {endpoint.unix_path}: {error.strerror or error}")
    host, port = endpoint.host or "", endpoint.port
    if error.errno == errno.EADDRINUSE:
        return ListenError(f"port {port} of {host} is in use{_held_by(port, host)}; stop it, or listen on another port")
    if error.errno in (errno.EACCES, errno.EPERM) and 0 < port < 1024:
        return ListenError(
            f"port {port} is privileged: this user may not listen below 1024; take a higher port, or put a proxy before"
        )
    if error.errno == errno.EADDRNOTAVAIL or "could not bind on any address" in str(error):  # asyncio from 3.12 on
        return ListenError(f"{host} is no address of this machine; 0.0.0.0 means all of them")
    if isinstance(error, socket.gaierror):
        return ListenError(f"the host {host!r} cannot be resolved: {error.strerror}")
    return ListenError(f"cannot listen on port {port} of {host}: {error.strerror or error}")


def _held_by(port: int, host: str) -> str:
    from zcli_core.net.ports import port_holder

    try:
        holder = port_holder(port, host)
    except (OSError, ValueError):
        return ""
    if holder is None:
        return ""
    return " by this very process" if holder.pid == os.getpid() else f" by {holder}"


def shown_endpoint(endpoint: Endpoint, addresses: list[Address]) -> str:
    """Where it listens, as a client would write it: ``ws://127.0.0.1:8765``."""
    scheme = "wss" if endpoint.tls else "ws"
    if endpoint.unix_path is not None:
        return f"{scheme}+unix://{endpoint.unix_path}"
    if endpoint.sockets:
        name = endpoint.sockets[0].getsockname()
        return f"{scheme}://{shown_address(name)}" if isinstance(name, tuple) else f"{scheme}+unix://{name}"
    port = addresses[0][1] if addresses and addresses[0] else endpoint.port
    return f"{scheme}://{shown_address((endpoint.host or '', port))}"

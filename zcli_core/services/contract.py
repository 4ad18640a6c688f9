"""The contract of a service backend: how a plugin detects a service, and how zCLI starts one.

A backend is a class derived from :class:`ServiceBackend`. It states the name of the service, the probe that detects it
(:meth:`ServiceBackend.probe`) and the launchers that may start it. The core connects, waits, starts, stops and builds
the status. A plugin provides backends with the hook ``zcli_service_backends``, which returns
:class:`~zcli_core.plugins.contract.Provider` objects of :class:`ServiceBackend`.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from zcli_core.services.parts.launch import (
    DataFolder,
    DebianCluster,
    HomebrewFormula,
    LaunchError,
    LaunchMethod,
    LocalProcess,
    ServerPaths,
    SystemdUnit,
    WindowsService,
)

if TYPE_CHECKING:
    from zcli_core.plugins.contract import Context
    from zcli_core.services.parts.settings import ServiceSettings

__all__ = [
    "DataFolder",
    "DebianCluster",
    "Exchange",
    "HomebrewFormula",
    "Install",
    "LaunchError",
    "LaunchMethod",
    "LocalProcess",
    "NotThisService",
    "Probe",
    "ProbeResult",
    "Reply",
    "ServerPaths",
    "ServiceBackend",
    "SystemdUnit",
    "Target",
    "WindowsService",
    "first_exchange",
    "lines",
]


class Target(NamedTuple):
    """The address of a service and how to reach it: its settings, with the arguments of the caller in their place.

    Attributes:
        host: a name, an address, or the path of a Unix socket.
        port: the TCP port.
        user: the user to connect as, if the service has users.
        database: the database to connect to, if the service has databases.
        data_dir: the data folder; None for a folder of zCLI.
        launcher: the name of the launcher that starts it, or ``"auto"``.
        settings: the section of the service, if it declares one.
        tls: whether the connection uses TLS: the setting ``tls``. In :meth:`ServiceBackend.connection_info` it is what
            the probe found.
    """

    host: str
    port: int
    user: str | None = None
    database: str | None = None
    data_dir: Path | None = None
    launcher: str = "auto"
    settings: ServiceSettings | None = None
    tls: bool = False

    @property
    def is_socket_path(self) -> bool:
        """Whether ``host`` is the path of a Unix socket."""
        return self.host.startswith("/")

    @property
    def address(self) -> str:
        """Host and port as text, such as ``127.0.0.1:5432``, or the path of the Unix socket."""
        if self.is_socket_path:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Reply(bytes):
    """The bytes that were received in one exchange.

    Attributes:
        closed: whether the server closed the connection.
        tls_error: why TLS failed with a server that speaks TLS, such as ``"certificate required"``; else empty.
        not_tls: whether the server answered the TLS handshake with something else.
    """

    closed: bool = False
    tls_error: str = ""
    not_tls: bool = False


class Exchange(NamedTuple):
    """One step of a probe: send bytes, then read until the reply is complete.

    Reading also ends when the server closes the connection, the time is up, or 64 KiB were received. The probe then
    gets what was received.

    Attributes:
        send: the bytes to send.
        complete: takes everything that was received in this step and tells whether the reply is complete. If None,
            nothing is read. Beyond 1 KiB, it is called only when the reply has grown by an eighth, or pauses.
        tls: encrypts the connection from this step on.
        reconnect: opens a new connection first.
        share: the part of the remaining time that this step may take after the connection is open, 0 to 1.
    """

    send: bytes
    complete: Callable[[bytes], bool] | None = None
    tls: bool = False
    reconnect: bool = False
    share: float = 1.0


class ProbeResult(NamedTuple):
    """What a service that answered its own protocol reports.

    Attributes:
        ready: whether it would serve a client now.
        version: its version; None if the service does not report it.
        needs_auth: whether it requires a login; None if the service does not report it.
        detail: why it is not ready, or other information for the user, as one clause.
    """

    ready: bool = True
    version: str | None = None
    needs_auth: bool | None = None
    detail: str = ""


#: A probe yields :class:`Exchange` objects, receives a :class:`Reply` for each, and returns the :class:`ProbeResult`.
Probe = Generator[Exchange, Reply, ProbeResult]


class NotThisService(Exception):  # noqa: N818 - a result of the probe, not an error
    """Raised by a probe that received bytes which this service never sends."""

    def __init__(self, received: bytes = b"") -> None:
        super().__init__(f"{len(received)} bytes of another protocol")
        self.received = received


def first_exchange(
    target: Target, send: bytes, complete: Callable[[bytes], bool] | None
) -> Generator[Exchange, Reply, Reply]:
    """Send the first message of a probe over TLS if ``target.tls``, else unencrypted; try the other way if it fails.

    For protocols in which one port accepts either TLS or plain text: ``reply = yield from first_exchange(target,
    b"PING\\r\\n", lines())``. If TLS is configured and the server does not use it, the core reports the service as not
    ready, with the reason.

    Args:
        target: the service to probe.
        send: the bytes of the first message.
        complete: tells whether the reply is complete; see :class:`Exchange`.

    Returns:
        The reply of the way that worked, else of the way that is configured.
    """
    # A server without TLS may wait for the rest of a message of its own protocol.
    reply = yield Exchange(send, complete, tls=target.tls, share=0.5 if target.tls else 1.0)
    # A TLS port closes the connection or sends a TLS alert (RFC 8446 section 6) if it receives plain text.
    plain_refused = (not reply and reply.closed) or reply.startswith(b"\x15\x03")
    refused = not reply and not reply.tls_error if target.tls else plain_refused
    if not refused:
        return reply
    other = yield Exchange(send, complete, tls=not target.tls, reconnect=True)
    return other if other or other.tls_error else reply


def lines(count: int = 1) -> Callable[[bytes], bool]:
    """Return a function that tells whether at least ``count`` lines were received, for ``Exchange.complete``."""
    return lambda data: data.count(b"\n") >= count


class Install(NamedTuple):
    """The package of a service for each package manager. ``pip`` is a wheel that contains the server, if there is one.

    >>> Install(apt="memcached", brew="memcached")
    """

    apt: str | None = None
    dnf: str | None = None
    yum: str | None = None
    zypper: str | None = None
    pacman: str | None = None
    apk: str | None = None
    brew: str | None = None
    winget: str | None = None
    pip: str | None = None


class ServiceBackend:
    """One kind of service. Derive from it, set the attributes and write :meth:`probe`.

    ``ZCLI_CONTRACT`` of the plugin covers this class: what it calls and what calls it.

    Attributes:
        name: the name of the provider.
        title: the name of the service in texts for users.
        default_port: its usual TCP port.
        settings: the section with its settings. If None, the service is on ``default_port`` of this machine.
        launchers: what may start it, the preferred launcher first.
        install: the packages to suggest if the service is not installed.
        speaks: the protocols of the contract suite (``"SSH"``, ``"MySQL"``, ``"SMTP"``, ``"NATS"``, ``"HTTP"``) that
            this service itself speaks.
    """

    name: str
    title: str
    default_port: int
    settings: type[ServiceSettings] | None = None
    launchers: Sequence[LaunchMethod] = ()
    install: Install = Install()
    speaks: Sequence[str] = ()

    def __init__(self, context: Context) -> None:
        """Store the configuration and the logger. The factory of a provider may be the class itself."""
        self.context = context

    def target(self) -> Target:
        """Return where the service is according to its settings."""
        if self.settings is None:
            return Target("127.0.0.1", self.default_port)
        section = self.context.config.section(self.settings)
        return Target(
            section.host,
            section.port,
            getattr(section, "user", None),
            getattr(section, "database", None),
            section.data_dir,
            section.launcher,
            section,
            bool(getattr(section, "tls", False)) and not section.host.startswith("/"),
        )

    def probe(self, target: Target) -> Probe:
        """Detect the service with a handshake of its protocol. Never send a credential.

        The core connects and closes. The whole probe may take ``services.probe_timeout`` seconds.

        Raises:
            NotThisService: the reply is not from this service, or nothing was received in time.
        """
        raise NotImplementedError

    def socket_path(self, target: Target) -> str:
        """Return the path of the Unix socket if ``target.host`` is a path. The default is that path itself."""
        return target.host

    def connection_info(self, target: Target) -> dict[str, Any]:
        """Return what a driver needs to connect, in addition to what the core adds. Never a password.

        The core adds ``host``, ``port``, ``user``, ``tls``, and those of ``ca_file``, ``client_cert`` and
        ``client_key`` that are set. ``target.tls`` tells whether the probe used TLS.
        """
        return {}

    # --- for a server that zCLI starts as a process ---

    def choose_program(self, programs: Sequence[Path], data: DataFolder) -> Path:
        """Return the program to start for a data folder. The default is the first one that was found.

        Raises:
            LaunchError: no program can use the data folder.
        """
        return programs[0]

    def prepare(self, paths: ServerPaths) -> None:
        """Prepare the data folder for :meth:`command`. The folder exists and may be empty.

        A folder that zCLI made is private. Any other folder is made private after this call.

        If zCLI runs as root, the data folder belongs to another account, which may change its content at any time. Use
        only ``paths.files`` and commands with ``paths.run()``; do not open, move or remove files there otherwise.

        Raises:
            LaunchError: the folder cannot be used. Existing files are not deleted.
        """

    def command(self, paths: ServerPaths) -> Sequence[str]:
        """Return the command line of the server: in the foreground, on ``paths.host`` and ``paths.port`` only."""
        return [str(paths.program)]

    def local_connection_info(self, paths: ServerPaths, target: Target) -> dict[str, Any]:
        """Return what replaces or completes :meth:`connection_info` for a server that zCLI started."""
        return {}

    def local_version(self, paths: ServerPaths) -> str | None:
        """Return the version of a server that zCLI started, for protocols that report it only after a login."""
        return None

"""Services: how a plugin tells that one runs, and what it takes to start one.

A backend is a class derived from :class:`ServiceBackend`. It says what the service is called, how its protocol
greets (:meth:`ServiceBackend.probe`) and which launchers may start it; the core connects, waits, starts, stops and
puts the answers together. A plugin offers backends with the hook ``zcli_service_backends``, which returns
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
    Place,
    SystemdUnit,
    WindowsService,
)

if TYPE_CHECKING:
    from zcli_core.plugins.contract import Context
    from zcli_core.services.parts.settings import ServiceSettings

__all__ = [
    "Answer",
    "DataFolder",
    "DebianCluster",
    "Exchange",
    "HomebrewFormula",
    "Install",
    "LaunchError",
    "LaunchMethod",
    "LocalProcess",
    "NotThisService",
    "Place",
    "Probe",
    "Reply",
    "ServiceBackend",
    "SystemdUnit",
    "Target",
    "WindowsService",
    "greet",
    "lines",
]


class Target(NamedTuple):
    """Where a service is looked for: its settings, with what a caller said instead.

    ``host`` is a name, an address, or the path of a Unix socket; ``data_dir`` None means a folder of zCLI's own.
    ``settings`` is the service's whole section, if it declares one. ``tls``: it is reached with TLS, by its setting
    ``tls`` or, where the connection info is made, because the probe needed it.
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
        """Whether ``host`` names a Unix socket rather than a machine."""
        return self.host.startswith("/")

    @property
    def address(self) -> str:
        """The place as people write it: ``127.0.0.1:5432``."""
        if self.is_socket_path:
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Reply(bytes):
    """What came back in one exchange; ``closed`` tells that the other side ended the connection.

    ``tls_error`` says why TLS failed with a server that speaks it, such as ``"certificate required"``. ``not_tls``
    tells that the server answered the TLS handshake with something else.
    """

    closed: bool = False
    tls_error: str = ""
    not_tls: bool = False


class Exchange(NamedTuple):
    """One step of a probe: send these bytes, then read until ``complete`` says that nothing more is needed.

    ``complete`` takes everything read in this step; None reads nothing. Reading also ends when the other side closes
    the connection, the time is up, or 64 KiB have come; the probe is then given what there is. More than 1 KiB is not
    given to ``complete`` after every piece, only when it has grown by an eighth or pauses.
    ``tls`` has the connection encrypted from here on; ``reconnect`` begins a new connection first. ``share`` is the
    part of the remaining time that this step may take once there is a connection.
    """

    send: bytes
    complete: Callable[[bytes], bool] | None = None
    tls: bool = False
    reconnect: bool = False
    share: float = 1.0


class Answer(NamedTuple):
    """What the service said of itself.

    ``ready``: it would serve a client now. ``version`` and ``needs_auth`` are None where it does not tell.
    ``detail`` is one clause for people: why it is not ready, or what else is worth knowing.
    """

    ready: bool = True
    version: str | None = None
    needs_auth: bool | None = None
    detail: str = ""


#: A probe yields exchanges, is sent a :class:`Reply` for each, and returns the :class:`Answer`.
Probe = Generator[Exchange, Reply, Answer]


class NotThisService(Exception):  # noqa: N818 - it is an answer to the probe's question, not a fault
    """Raised by a probe for bytes that this service would never send."""

    def __init__(self, received: bytes = b"") -> None:
        super().__init__(f"{len(received)} bytes of another protocol")
        self.received = received


def greet(target: Target, send: bytes, complete: Callable[[bytes], bool] | None) -> Generator[Exchange, Reply, Reply]:
    """Send the first message of a probe, with or without TLS as ``target`` says, and the other way if that fails.

    For protocols in which a port takes either TLS or plain text: ``reply = yield from greet(target, b"PING\\r\\n",
    lines())``. Where TLS is set and the server has none, the core reports the service as not ready, and says why.
    """
    # A server without TLS may wait for the rest of what it takes for its own protocol.
    reply = yield Exchange(send, complete, tls=target.tls, share=0.5 if target.tls else 1.0)
    # A TLS port closes the connection or sends a TLS alert (RFC 8446 section 6) if it is sent plain text.
    plain_refused = (not reply and reply.closed) or reply.startswith(b"\x15\x03")
    refused = not reply and not reply.tls_error if target.tls else plain_refused
    if not refused:
        return reply
    other = yield Exchange(send, complete, tls=not target.tls, reconnect=True)
    return other if other or other.tls_error else reply


def lines(count: int = 1) -> Callable[[bytes], bool]:
    """Complete once that many lines have come."""
    return lambda data: data.count(b"\n") >= count


class Install(NamedTuple):
    """What to install, by package manager; ``pip`` is what brings a server as a wheel, if anything does."""

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
    """One kind of service. Derive from it, set what is below and write :meth:`probe`.

    ``name`` is the provider's name, ``title`` what people call the service. ``settings`` is the section that holds
    its settings, None for ``default_port`` on this machine. ``launchers`` lists what may start it, the preferred one
    first. ``install`` tells what to install where it is missing: ``Install(apt="memcached", brew="memcached")``.
    ``speaks`` names the protocols among the strangers of the contract suite (``"SSH"``, ``"MySQL"``, ``"SMTP"``,
    ``"NATS"``, ``"HTTP"``) that are this service's own.

    ``ZCLI_CONTRACT`` of the plugin covers this class: what it calls and what calls it.
    """

    name: str
    title: str
    default_port: int
    settings: type[ServiceSettings] | None = None
    launchers: Sequence[LaunchMethod] = ()
    install: Install = Install()
    speaks: Sequence[str] = ()

    def __init__(self, context: Context) -> None:
        """Take the configuration and a logger; a provider's factory may be the class itself."""
        self.context = context

    def target(self) -> Target:
        """Where the service is by its settings."""
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
        """Speak the service's protocol as far as a greeting; no credential is ever sent.

        The core connects and closes. It allows at most ``services.timeout`` seconds for the whole probe.

        :raises NotThisService: the reply is no reply of this service; an empty one, where nothing was said in time.
        """
        raise NotImplementedError

    def socket_path(self, target: Target) -> str:
        """The Unix socket where ``target.host`` is a path; that path, unless the service has a rule of its own."""
        return target.host

    def connection_info(self, target: Target) -> dict[str, Any]:
        """What a driver needs to connect, beside what the core adds. Never a password.

        The core gives ``host``, ``port``, ``user``, ``tls``, and those of ``ca_file``, ``client_cert`` and
        ``client_key`` that are set. ``target.tls`` tells whether the probe needed TLS.
        """
        return {}

    # --- for a server that zCLI starts as a process of its own ---

    def choose_program(self, programs: Sequence[Path], data: DataFolder) -> Path:
        """Which of the programs that were found fits the data folder; the first, unless that decides it.

        :raises LaunchError: none of them does.
        """
        return programs[0]

    def prepare(self, place: Place) -> None:
        """Make the data folder ready for :meth:`command`, or refuse it. It exists and may be empty.

        One that zCLI has made is private. Any other becomes private after this call.

        Where zCLI runs as root, the data folder belongs to another account, which may put anything there at any time.
        So use ``place.files`` and commands with ``place.run()``, and open, move and remove nothing there by yourself.

        :raises LaunchError: it cannot be done; nothing that was there is deleted.
        """

    def command(self, place: Place) -> Sequence[str]:
        """The server's command line: in the foreground, on ``place.host`` and ``place.port`` only."""
        return [str(place.program)]

    def local_connection_info(self, place: Place, target: Target) -> dict[str, Any]:
        """What to add to or replace in :meth:`connection_info` of ``target`` for a server that runs at ``place``."""
        return {}

    def local_version(self, place: Place) -> str | None:
        """The version of a server that runs at ``place``, for protocols that tell it only after a login."""
        return None

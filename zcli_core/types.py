"""The types of dictionaries that scripts get: service status, connection info, WebSocket clients and counters."""

from __future__ import annotations

import datetime
from typing import Literal, TypedDict

__all__ = [
    "BackplaneMetrics", "ClientInfo", "ConnectionInfo", "Histogram", "HttpMetrics", "ServerMetrics", "ServerStatus",
    "ServiceState", "ServiceStatus", "WebSocketMetrics", "WorkerStatus",
]  # fmt: skip

#: ``"ready"``: the service answers its protocol and accepts clients. ``"not ready"``: it answers, but accepts no
#: clients now. ``"stopped"``: no process listens on the port. ``"unreachable"``: no connection could be made.
#: ``"silent"``: a process accepts connections and does not answer. ``"foreign"``: a server of another protocol answers.
#: ``"unusable"``: the service's plugin failed, or its settings cannot be used.
ServiceState = Literal["ready", "not ready", "stopped", "unreachable", "silent", "foreign", "unusable"]


class _Address(TypedDict):
    host: str
    port: int
    user: str | None
    tls: bool


class ConnectionInfo(_Address, total=False):
    """What a driver needs to connect to a service. A password is never included.

    ``host`` is a name, an address or the path of a Unix socket. ``user`` is None if none is configured. ``tls`` is True
    if the connection is encrypted. The other keys are present if they apply. A plugin may add more keys.
    """

    database: str | int | None
    """The name of the database, or its number for Redis; None if it is not configured."""
    url: str
    """The URL that drivers accept instead of the other values."""
    ca_file: str
    """The path of a PEM file, as configured."""
    client_cert: str
    """The path of a PEM file, as configured."""
    client_key: str
    """The path of a PEM file, as configured."""
    socket: str
    """For a PostgreSQL that zCLI started: the folder of its Unix socket, which ``url`` names too."""
    passfile: str
    """For a PostgreSQL that zCLI started: the file with its password, for PostgreSQL's clients."""
    password_file: str
    """For a Redis that zCLI started: the file with its password, if it has one."""


class _Status(TypedDict):
    service: str
    running: bool
    ready: bool
    state: ServiceState
    port: int | None
    os: str
    version: str | None
    needs_auth: bool | None
    owner: str | None
    owner_trusted: bool


class ServiceStatus(_Status, total=False):
    """The status of a service.

    ``running``: the service answers its own protocol. ``ready``: it accepts clients. ``port`` is None if the service is
    unusable. ``os`` is the value of ``platform.system()``. ``version`` and ``needs_auth`` are None if the service does
    not report them. ``owner`` is the user that runs the server, or None if the system does not report it.
    ``owner_trusted`` is False if that user is another person.
    """

    connection_info: ConnectionInfo
    """Present if the service is running."""
    error: str
    """Why the service is not ready, in one sentence. Present if it is not ready."""


class ClientInfo(TypedDict):
    """What is known about a WebSocket client. Its credential is never included.

    ``identity`` (such as the name of a token's holder) and ``strategy`` are None if ``websocket.require_auth`` is off.
    If ``websocket.auth`` names several strategies, an identity begins with the name of its strategy, such as
    ``"token:alice"``, so that two strategies never give the same identity. ``claims`` holds further values from the
    strategy. ``origin`` is the origin of the client's page, or None if the client sent no Origin. ``address`` is (host,
    port), or None on a Unix socket. ``connected_at`` and ``expires_at``, the expiry of the credential, are in UTC.
    ``certificate_subject`` is the subject of the client certificate (RFC 4514: ``"CN=alice,O=Example"``), or None.
    """

    identity: str | None
    strategy: str | None
    claims: dict[str, object]
    origin: str | None
    address: tuple[str, int] | None
    connected_at: datetime.datetime
    expires_at: datetime.datetime | None
    certificate_subject: str | None


class Histogram(TypedDict):
    """How long something took. All numbers are integers and only grow, so that those of several processes add up."""

    count: int
    """How often it was measured."""
    microseconds: int
    """The sum of all measurements, in microseconds."""
    buckets: dict[str, int]
    """How many measurements were at most so long, by the limit in seconds, as in ``{"0.5": 12, "1": 14}``."""


class HttpMetrics(TypedDict):
    """What the HTTP client of a ``zCLI`` object counts: ``z.comm.http.metrics()``.

    A call counts once, when it has ended, with all its redirects and retries. All numbers only grow. No name comes from
    a server or from a URL.
    """

    responses: dict[str, int]
    """Calls that got a response, by the class of its status: ``1xx`` to ``5xx``, or ``other``."""
    failures: dict[str, int]
    """Calls that got no response, by the kind of the failure (:attr:`HttpFailure.kind`)."""
    seconds: Histogram
    """How long the calls took, with and without a response."""


class BackplaneMetrics(TypedDict):
    """What the links of a ``zCLI`` object to a backplane's engine count.

    The numbers only grow, except ``probe_seconds`` and ``queued_bytes``. The kinds of failures are those of
    :attr:`~zcli_core.errors.BackplaneFailure.kind`.
    """

    up: bool
    """Whether every link is connected and has got its last probe back."""
    probe_seconds: float | None
    """How long the last probe took, the longest of all links; None before the first."""
    published: int
    """Messages that the engine took."""
    failed: dict[str, int]
    """Messages that the engine did not take, or may not have taken, by kind of failure."""
    received: int
    """Messages of other processes."""
    invalid: int
    """Messages on the same channels that zCLI cannot read. Another program uses the same namespace."""
    lost: dict[str, int]
    """Connections to the engine that have ended, and attempts to connect that have failed, by kind of failure."""
    reconnects: int
    """How often a link was up again after an outage."""
    queued_bytes: int
    """Bytes that wait to be published."""


class WebSocketMetrics(TypedDict):
    """What a WebSocket server counts: :meth:`~zCLI.WebSocketServer.metrics`.

    Every value is a number that only grows, except ``clients``, ``rooms`` and ``loop_lag``. No name comes from a
    client.
    """

    clients: int
    """Clients that are connected now."""
    rooms: int
    """Rooms that have a client of this process now."""
    connections: dict[str, int]
    """Connections that asked for a WebSocket, by result: ``accepted``; ``refused_auth`` (no credential, a wrong one, or
    too many wrong ones), ``refused_full`` (also a full address), ``refused_origin``, ``refused_path``; ``failed`` (TLS,
    the head of the request, or an auth strategy)."""
    closed: dict[str, int]
    """Connections that have ended, by close code from ``"1000"`` to ``"1014"``, else ``"other"``."""
    messages_received: int
    """Messages of clients."""
    messages_sent: int
    """Messages to clients, each counted for each client that it was sent to."""
    bytes_received: int
    """Bytes of the content of ``messages_received``, uncompressed; a text counts as UTF-8."""
    bytes_sent: int
    """Bytes of the content of ``messages_sent``, uncompressed; a text counts as UTF-8."""
    slow_clients: int
    """Clients that were closed (1013) because they read too slowly."""
    handler_errors: int
    """Errors that a handler, ``on_connect`` or ``on_disconnect`` raised."""
    open_seconds: Histogram
    """How long it took from accepting a connection to admitting its client, for each admitted client. With an ASGI
    server, from its request on."""
    loop_lag: float
    """Seconds by which the event loop was late, the most in the last minute: for so long something has blocked it, and
    all clients had to wait. Reading it changes nothing, so several programs may do so. 0.0 if no server runs."""
    backplane: BackplaneMetrics | None
    """The links to other processes; None as long as there is no link."""
    http: HttpMetrics
    """The HTTP calls of the same ``zCLI`` object, such as those of handlers."""


class WorkerStatus(TypedDict):
    """The state of one worker: a process of a server with ``websocket.workers``, or the only one."""

    number: int
    """The worker's place, from 1 to ``websocket.workers``. Its successor after a crash or a reload has the same one."""
    pid: int
    state: Literal["starting", "ready", "draining"]
    uptime: float
    """Seconds since its start."""
    clients: int
    """Clients that are connected now."""
    rooms: int
    """Rooms that have a client of this worker now."""
    not_ready: list[str]
    """Why ``/ready`` says 503; empty if the worker is ready."""


class ServerStatus(TypedDict):
    """The state of a running server: ``zcli ws status``."""

    title: str
    pid: int
    """The supervisor, or the only process."""
    url: str
    uptime: float
    """Seconds since the server's start; a reload does not change it."""
    clients: int
    """Clients of all workers."""
    backplane: str
    """The name of the backplane."""
    workers: list[WorkerStatus]
    restarts: dict[str, int]
    """Workers that were replaced since the start, by reason: ``crash``, ``exit`` (it ended by
    itself without an error), ``hang``, ``reload``."""


class ServerMetrics(TypedDict):
    """What a running server counts, in all its workers."""

    total: WebSocketMetrics
    """The sum of all workers. Its counters include those of workers that have ended, so they only grow."""
    workers: dict[int, WebSocketMetrics]
    """The workers that run now, by number; one worker with the number 1 if the server has no workers."""
    restarts: dict[str, int]
    """As in :class:`ServerStatus`."""

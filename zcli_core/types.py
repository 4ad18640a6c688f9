"""The dictionaries that scripts get: the status of a service, how to connect to it, and a WebSocket client."""

from __future__ import annotations

import datetime
from typing import Literal, TypedDict

__all__ = ["ClientInfo", "ConnectionInfo", "ServiceState", "ServiceStatus"]

#: ``"ready"``: it answers its own protocol and serves clients. ``"not ready"``: it answers, but serves nobody now.
#: ``"stopped"``: nothing listens there. ``"unreachable"``: no connection could be made. ``"silent"``: something accepts
#: connections and does not answer. ``"foreign"``: something answers another protocol. ``"unusable"``: the service's
#: plugin fails, or its settings cannot be used.
ServiceState = Literal["ready", "not ready", "stopped", "unreachable", "silent", "foreign", "unusable"]


class _Address(TypedDict):
    host: str
    port: int
    user: str | None
    tls: bool


class ConnectionInfo(_Address, total=False):
    """What a driver needs to connect to a service; never a password.

    ``host`` is a name, an address or the path of a Unix socket. ``user`` is None where there is none. ``tls`` tells
    whether the connection is encrypted. The other keys are there if they apply. A plugin may add keys of its own.
    """

    #: A name; a number for Redis; None if it is not configured.
    database: str | int | None
    #: What drivers take as a whole.
    url: str
    #: Paths of PEM files, as they are configured.
    ca_file: str
    client_cert: str
    client_key: str
    #: Of a PostgreSQL that zCLI started: the folder of its Unix socket, to which ``url`` leads.
    socket: str
    #: Of a PostgreSQL that zCLI started: the file with its password, for PostgreSQL's clients.
    passfile: str
    #: Of a Redis that zCLI started: the file with its password, if it has one.
    password_file: str


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
    """How a service is.

    ``running``: it answers its own protocol. ``ready``: it serves clients. ``port`` is None for an unusable one. ``os``
    is what ``platform.system()`` says. ``version`` and ``needs_auth`` are None where the service does not tell.
    ``owner`` is the user whose server answered, None if the system does not tell; ``owner_trusted`` is False if that is
    another person's account.
    """

    #: Only of a service that runs.
    connection_info: ConnectionInfo
    #: Why it is not ready, in one sentence. Only of a service that is not.
    error: str


class ClientInfo(TypedDict):
    """What is known of a WebSocket client; never the credential that it showed.

    ``identity`` (such as the name of a token's holder) and ``strategy`` are None if ``websocket.require_auth`` is off.
    If ``websocket.auth`` names several strategies, an identity begins with the one that gave it, as in
    ``"token:alice"``, so that clients of two strategies never have the same one. ``claims`` holds what else the
    strategy knows. ``origin`` is the origin of its page, None for a program. ``address`` is (host, port), None on a
    Unix socket. ``connected_at`` and ``expires_at`` (of its credential) are in UTC. ``certificate_subject`` is the
    subject of its certificate (RFC 4514: ``"CN=alice,O=Example"``), None if it showed none.
    """

    identity: str | None
    strategy: str | None
    claims: dict[str, object]
    origin: str | None
    address: tuple[str, int] | None
    connected_at: datetime.datetime
    expires_at: datetime.datetime | None
    certificate_subject: str | None

"""What the gate knows about a client that it has accepted, and ``get_client_info()``, which shows it to handlers."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from zcli_core.types import ClientInfo
    from zcli_core.websocket.blocking import BlockingConnection
    from zcli_core.websocket.connection import ServerConnection
    from zcli_core.websocket.contract import Request

#: The largest time that datetime can represent, in seconds since the epoch: the end of the year 9999.
_LATEST = 253_402_300_799.0

#: Short names of attributes (RFC 4514, 3).
_SHORT_NAMES = {
    "commonName": "CN", "localityName": "L", "stateOrProvinceName": "ST", "organizationName": "O",
    "organizationalUnitName": "OU", "countryName": "C", "streetAddress": "STREET", "domainComponent": "DC",
    "userId": "UID",
}  # fmt: skip


class Admission(NamedTuple):
    """Identity and origin of an accepted client. It never holds a credential."""

    identity: str | None = None
    strategy: str | None = None
    claims: Mapping[str, Any] | None = None
    origin: str | None = None
    #: The request as the client sent it. Behind a trusted proxy it has the client's address.
    request: Request | None = None
    #: Expiry of the credential, in seconds since the epoch.
    expires_at: float | None = None


class ClientAuth:
    """``z.comm.websocket.auth``: shows how a client was authenticated."""

    def get_client_info(self, websocket: ServerConnection | BlockingConnection) -> ClientInfo:
        """Return what is known about a client, even after it has disconnected. The credential is never included.

        Args:
            websocket: The connection that a handler gets.

        Returns:
            A dict whose keys :class:`~zcli_core.types.ClientInfo` explains.

        Raises:
            TypeError: ``websocket`` is not a client.
        """
        from zcli_core.websocket.connection import as_server_connection

        connection = as_server_connection(websocket, "websocket")
        admission = connection._admission
        certificate = connection.request.client_certificate
        expires_at = admission.expires_at
        address = connection.remote_address
        return {
            "identity": admission.identity,
            "strategy": admission.strategy,
            "claims": dict(admission.claims or {}),
            "origin": admission.origin,
            "address": address[:2] if address else None,
            "connected_at": _utc(connection._connected_at),
            "expires_at": None if expires_at is None else _utc(min(expires_at, _LATEST)),
            "certificate_subject": _distinguished_name(certificate.get("subject", ())) if certificate else None,
        }


def _utc(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)


def _distinguished_name(subject: Sequence[Sequence[tuple[str, str]]]) -> str:
    """Format the subject of a certificate as RFC 4514 does, the last part first."""
    return ",".join(
        "+".join(f"{_SHORT_NAMES.get(name, name)}={_escaped(value)}" for name, value in part)
        for part in reversed(subject)
    )


def _escaped(value: str) -> str:
    """Escape a value so that it cannot look like another part of the name (RFC 4514, 2.4)."""
    text = "".join(f"\\{char}" if char in '"+,;<>\\=' else char for char in value).replace("\0", "\\00")
    if text[:1] in (" ", "#"):
        text = f"\\{text}"
    return f"{text[:-1]}\\ " if text.endswith(" ") and len(text) > 1 and text[-2] != "\\" else text

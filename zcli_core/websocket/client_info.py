"""``z.comm.websocket.auth``: what the gate found out about a client."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import TYPE_CHECKING

from zcli_core.websocket.blocking import unwrapped
from zcli_core.websocket.connection import ServerConnection

if TYPE_CHECKING:
    from zcli_core.types import ClientInfo
    from zcli_core.websocket.blocking import BlockingConnection


class ClientAuth:
    """Tells as whom a client was let in."""

    def get_client_info(self, websocket: ServerConnection | BlockingConnection) -> ClientInfo:
        """What is known of a client, connected or not any more; never the credential that it showed.

        :class:`~zcli_core.types.ClientInfo` explains its keys.

        Raises TypeError if ``websocket`` is not a client.
        """
        connection = unwrapped(websocket)
        if not isinstance(connection, ServerConnection):
            raise TypeError(
                f"websocket must be a client (the connection that a handler gets), got {type(websocket).__name__}"
            )
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


#: A time that datetime can still represent: the year 9999.
_LATEST = 253_402_300_799.0

#: RFC 4514, 3.
_SHORT = {
    "commonName": "CN", "localityName": "L", "stateOrProvinceName": "ST", "organizationName": "O",
    "organizationalUnitName": "OU", "countryName": "C", "streetAddress": "STREET", "domainComponent": "DC",
    "userId": "UID",
}  # fmt: skip


def _utc(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc)


def _distinguished_name(subject: Sequence[Sequence[tuple[str, str]]]) -> str:
    """A subject as the ssl module gives it, in the text form of RFC 4514: the last part first."""
    return ",".join(
        "+".join(f"{_SHORT.get(name, name)}={_escaped(value)}" for name, value in part) for part in reversed(subject)
    )


def _escaped(value: str) -> str:
    """RFC 4514, 2.4, so that no value can look like another part of the name."""
    text = "".join(f"\\{char}" if char in '"+,;<>\\=' else char for char in value).replace("\0", "\\00")
    if text[:1] in (" ", "#"):
        text = f"\\{text}"
    return f"{text[:-1]}\\ " if text.endswith(" ") and len(text) > 1 and text[-2] != "\\" else text

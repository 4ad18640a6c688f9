"""Who makes a request."""

from __future__ import annotations

from typing import NamedTuple


class Actor(NamedTuple):
    """The client on whose behalf data is read or changed.

    Attributes:
        identity: Name of the client, or None. Rows belong to it: a model with ``owner`` stores it in each row. So two
            clients that must not see each other's rows must never have the same identity, whatever their tier and app.
        role: Role of the client, or None. Models name the roles that may do something.
        tier: How the client was admitted: ``"none"``, ``"zSession"`` or ``"application"``. Access rules do not use it.
        app: Name of the application of the client, or None. Access rules do not use it.
    """

    identity: str | None = None
    role: str | None = None
    tier: str = "none"
    app: str | None = None

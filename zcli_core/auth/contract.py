"""The auth strategy contract: who is asking to open a WebSocket connection, and may they?

The core asks the strategies that ``websocket.auth`` names, in that order, once for every upgrade that has passed the
connection limit and the origin check. The first that identifies the client admits it, the first that rejects it
refuses it, and a client that nobody identifies is refused: whatever goes wrong, the door stays shut.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Request


@dataclass(frozen=True, slots=True)
class Identified:
    """The client is who it says, and may enter.

    ``identity`` is its name, for logs and for ``get_client_info``; if ``websocket.auth`` names several strategies, both
    show it as ``<strategy>:<identity>``. ``claims`` is whatever else is known of the client. Neither may hold the
    credential. ``subprotocol`` is the one of the client's offers that carried the credential, if one
    did: it is agreed on unless the application has a better one, for a browser insists on an answer.

    ``expires_at`` is when the credential stops being valid, in seconds since the epoch (UTC): the server closes the
    connection then (1008). None keeps it open. A time that has passed refuses the client.
    """

    identity: str
    claims: Mapping[str, Any] = field(default_factory=dict)
    subprotocol: str | None = None
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The client showed a credential of this strategy's kind, and it will not do.

    ``cause`` goes into the log and may not hold the credential; the client only learns that it was refused.
    Rejections of one address are counted, and after too many the address is throttled
    (``websocket.max_auth_failures``), unless ``counts`` is False: for a credential that may be good and cannot be
    judged now.
    """

    cause: str
    counts: bool = True


#: None: the client showed nothing that this strategy knows about; the next one is asked.
Verdict = Identified | Rejected | None


class AuthStrategy(Protocol):
    """What the provider's factory makes: at ``start()``, and only where ``websocket.require_auth`` is on.

    It lives as long as the ``zCLI`` object, while each start of the server runs another event loop.

    The factory raises :class:`~zcli_core.errors.ConfigError` where the strategy could never identify anybody, for
    want of a secret to compare with, say: a server that nobody can enter is a mistake, not a protection.

    ``authenticate`` may be a coroutine function, which runs in the server's event loop, or a plain one, which runs
    in a thread of its own and may block. A plain one that never blocks says so with the class attribute
    ``never_blocks = True`` and is then called in the event loop's thread, which is quicker.

    A strategy may also have a method ``authenticate_throttled(request) -> Identified | None``. It is called while the
    client's address is throttled, or has to wait until other credentials from it have been judged, in the event loop's
    thread, and may not block. It identifies a client by a credential that is too long to be guessed, so that other
    people's wrong guesses from the same address do not keep that client out. It returns None for every other client. A
    strategy without this method is not asked then.

    :func:`~zcli_core.auth.parts.find_bearer_token` finds a bearer token wherever a client may show one.
    """

    def authenticate(self, request: Request) -> Verdict | Awaitable[Verdict]:
        """Judge one upgrade request.

        An ``Origin`` header, if there is one, has been admitted already. An exception, an answer that is no verdict,
        and an answer that has not come within ``websocket.open_timeout`` refuse the client (1011) and are logged
        with the plugin's name.
        """

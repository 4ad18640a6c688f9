"""The contract of auth strategies, which identify the clients that open a WebSocket connection.

For every upgrade that has passed the connection limit and the origin check, the core calls the strategies of
``websocket.auth`` in that order. The client is accepted by the first strategy that identifies it, and refused by the
first that rejects it. A client that no strategy identifies is refused, and so is every client if a strategy fails.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Request


@dataclass(frozen=True, slots=True)
class Identified:
    """The client is authenticated and may connect.

    Args:
        identity: Name of the client, for logs and ``get_client_info``. If ``websocket.auth`` names several strategies,
            both show it as ``<strategy>:<identity>``. It must not contain the credential.
        claims: What else is known of the client. It must not contain the credential.
        subprotocol: The offered subprotocol that carried the credential, if any. It is negotiated unless
            ``websocket.subprotocols`` has another one, because a browser requires a response.
        expires_at: Expiry of the credential, in seconds since the epoch (UTC). The server then closes the connection
            (1008). None keeps it open. A client whose credential has expired already is refused.
    """

    identity: str
    claims: Mapping[str, Any] = field(default_factory=dict)
    subprotocol: str | None = None
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class Rejected:
    """The client sent a credential of this strategy's kind that is not valid.

    Args:
        cause: What is wrong, for the log. It must not contain the credential. The client does not receive it.
        counts: Whether this counts as a failed attempt of the client's address, which is throttled after too many
            (``websocket.max_auth_failures``). False is for a credential that cannot be checked now and may be valid.
    """

    cause: str
    counts: bool = True


#: None: the client sent no credential of this strategy's kind. The next strategy is called.
Verdict = Identified | Rejected | None


class IdentifiedClients(Protocol):
    """The connected clients of one server that one strategy has identified. For the event loop's thread only."""

    def claims(self) -> list[Mapping[str, Any]]:
        """Return the claims of each client."""

    def close(self, chosen: Callable[[Mapping[str, Any]], bool], reason: str) -> int:
        """Begin to close clients (1008). Messages that they have sent and that are not handled yet are dropped.

        Args:
            chosen: Returns for the claims of a client whether it is closed.
            reason: The reason that the clients get; at most 123 bytes.

        Returns:
            The number of these clients.
        """


class AuthStrategy(Protocol):
    """The object that the provider's factory makes, if ``websocket.require_auth`` is on.

    The factory is called once for a ``zCLI`` object, at the first start of the server. Each start runs another event
    loop. The factory raises :class:`~zcli_core.errors.ConfigError` if the strategy could not identify any client, for
    example because no secret is configured.

    ``authenticate`` may be a coroutine function, which runs in the server's event loop, or a plain one, which runs in a
    thread of its own and may block. A plain one that never blocks sets the class attribute ``never_blocks = True`` and
    is then called in the event loop's thread, which is faster.

    A strategy may also have a method ``authenticate_throttled(request) -> Identified | None``. It is called while the
    client's address is throttled, or has to wait until other credentials from it have been checked. The call is made in
    the event loop's thread and must not block. The method identifies a client by a credential that is too
    long to be guessed, so that wrong guesses of other clients at the same address do not lock it out. It returns None
    for every other client. A strategy without this method is not called for throttled addresses.

    A strategy whose credentials can be revoked may have a coroutine method ``watch(clients)``, which gets
    :class:`IdentifiedClients`. It runs in the event loop of each server, as long as clients are served, and closes the
    clients whose credentials are no longer valid. A client may have been identified before a revocation and be
    connected after it. If ``watch`` raises, the error is logged, and it is called again after a second.

    :func:`~zcli_core.auth.parts.find_bearer_token` finds a bearer token in every place where a client may send one.
    """

    def authenticate(self, request: Request) -> Verdict | Awaitable[Verdict]:
        """Check the credential of one upgrade request.

        An ``Origin`` header, if there is one, has been checked already. If this raises, returns something other than a
        verdict, or takes longer than ``websocket.open_timeout``, the client is refused (1011), and the error is logged
        with the plugin's name.
        """

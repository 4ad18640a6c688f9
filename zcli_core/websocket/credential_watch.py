"""Lets auth strategies close the clients whose credentials were revoked while they are connected."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zcli_core.websocket.connection import ServerConnection
    from zcli_core.websocket.sessions import Sessions
    from zcli_core.websocket.strategy_runner import StrategyRunner

_REVOKED = 1008


class ClientsOfStrategy:
    """The clients of one server that one strategy has identified.

    Implements :class:`zcli_core.auth.contract.IdentifiedClients`.
    """

    def __init__(self, strategy: str, sessions: Sessions) -> None:
        self._strategy = strategy
        self._sessions = sessions

    def claims(self) -> list[Mapping[str, Any]]:
        """Return the claims of each client."""
        return [client._admission.claims or {} for client in self._clients()]

    def close(self, chosen: Callable[[Mapping[str, Any]], bool], reason: str) -> int:
        """Begin to close the clients whose claims are chosen."""
        found = [client for client in self._clients() if chosen(client._admission.claims or {})]
        for client in found:
            client._begin_close(_REVOKED, reason)
        return len(found)

    def _clients(self) -> list[ServerConnection]:
        return [client for client in self._sessions.clients if client._admission.strategy == self._strategy]


class CredentialWatch:
    """The running ``watch`` of every strategy of one server."""

    def __init__(self, strategies: Sequence[StrategyRunner], sessions: Sessions) -> None:
        """Begin to watch, in the event loop of the server."""
        self._tasks = [
            asyncio.ensure_future(each.watch(ClientsOfStrategy(each.name, sessions)))
            for each in strategies
            if each.watches
        ]

    def stop(self) -> None:
        """Stop to watch."""
        for task in self._tasks:
            task.cancel()

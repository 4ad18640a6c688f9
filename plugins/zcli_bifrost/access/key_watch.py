"""Finds the open connections whose keys are no longer valid."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from zcli_bifrost.access.key_table import KeyTable
    from zcli_core.auth.contract import IdentifiedClients

_T = TypeVar("_T")

#: Seconds between two looks at the database.
INTERVAL = 0.5
_REASON = "the key is no longer valid"


class KeyWatch:
    """Follows the keys of the clients of one server."""

    def __init__(self, keys: KeyTable, clients: IdentifiedClients) -> None:
        self._keys = keys
        self._clients = clients
        self._version = -1
        #: Keys that were valid at ``_version``. A key that was used for another connection since then is among them,
        #: if the table has not changed.
        self._confirmed: set[str] = set()
        #: Not the threads of the event loop, which handlers of the script may keep busy.
        self._thread = ThreadPoolExecutor(1, "zcli-bifrost-keys")

    async def run(self) -> None:
        """Check the keys again and again, until this is cancelled."""
        try:
            while True:
                await self.check()
                await asyncio.sleep(INTERVAL)
        finally:
            self._thread.shutdown(wait=False)

    async def check(self) -> None:
        """Close the clients whose keys are no longer valid.

        All keys are looked up after a change, and otherwise those of new clients only: a key may be revoked between the
        identification of its client and the opening of the connection.
        """
        version = await self._in_thread(self._keys.version)
        connected = {claims["key"] for claims in self._clients.claims() if "key" in claims}
        unknown = connected if version != self._version else connected - self._confirmed
        valid = await self._in_thread(lambda: self._keys.valid_among(unknown)) if unknown else {}

        def is_revoked(claims: Mapping[str, Any]) -> bool:
            if claims.get("key") not in unknown:
                return False
            record = valid.get(claims["key"])
            if record is None:
                return True
            return (record.app, record.name, record.role) != (claims["app"], claims["user"], claims["role"])

        if len(valid) < len(unknown) or any(map(is_revoked, self._clients.claims())):
            self._clients.close(is_revoked, _REASON)
        self._version = version
        self._confirmed = (connected - unknown) | valid.keys()

    def _in_thread(self, function: Callable[[], _T]) -> asyncio.Future[_T]:
        return asyncio.get_running_loop().run_in_executor(self._thread, function)

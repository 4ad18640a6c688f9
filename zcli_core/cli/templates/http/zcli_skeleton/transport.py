"""The transport: a circuit breaker around zCLI's own."""

from __future__ import annotations

import time
from typing import NamedTuple

from zcli_core.http.contract import HttpRequest, HttpTransport, RawResponse, TransportFailure
from zcli_core.plugins.contract import Context
from zcli_urllib3 import zcli_http_transports

from zcli_skeleton.settings import Skeleton

#: What is the server's trouble, or its network's; other failures say nothing of the next call.
_ITS_TROUBLE = frozenset({"timeout", "dns", "refused", "unreachable", "reset"})
#: Servers that are remembered at most: redirects could name any number of them.
MAX_SERVERS = 1000


class _Trouble(NamedTuple):
    failures: int = 0
    rests_until: float = 0.0  # a reading of time.monotonic()


class SkeletonTransport:
    """Implements :class:`zcli_core.http.contract.HttpTransport`.

    One object serves all threads, and the child process after a fork: what it keeps is only ever replaced whole.
    """

    def __init__(self, context: Context) -> None:
        self._settings = context.config.section(Skeleton)
        self._log = context.log
        self._engine = make_engine(context)
        self.content_codings = self._engine.content_codings
        self._troubles: dict[tuple[str, str, int], _Trouble] = {}

    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        """Send one request and read its whole answer, unless its server is being left alone."""
        server = request.url.origin
        trouble = self._troubles.get(server, _Trouble())
        rest = trouble.rests_until - time.monotonic()
        if rest > 0:
            raise TransportFailure(
                "unreachable",
                f"{request.url.authority} failed {trouble.failures} times in a row and is left alone for {rest:.1f} s",
            )
        try:
            response = self._engine.send(request, deadline, max_bytes)
        except TransportFailure as failure:
            if failure.kind in _ITS_TROUBLE:
                self._note(server, trouble.failures + 1)
            raise
        self._troubles.pop(server, None)
        return response

    def close(self) -> None:
        """Close every connection. May be called more than once."""
        self._engine.close()

    def _note(self, server: tuple[str, str, int], failures: int) -> None:
        rests = 0 < self._settings.failures <= failures
        if server not in self._troubles and len(self._troubles) >= MAX_SERVERS:
            self._troubles = dict([*self._troubles.items()][1:])
        self._troubles[server] = _Trouble(failures, time.monotonic() + self._settings.rest if rests else 0.0)
        if rests:
            self._log.warning("%s:%d is left alone for %g s", server[1], server[2], self._settings.rest)


def make_engine(context: Context) -> HttpTransport:
    """What does the work: the transport that comes with zCLI, made as zCLI makes it."""
    (offer,) = zcli_http_transports()
    return offer.factory(context)

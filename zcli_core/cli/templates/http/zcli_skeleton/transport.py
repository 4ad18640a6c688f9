"""The transport: a circuit breaker around zCLI's own."""

from __future__ import annotations

import time
from typing import NamedTuple

from zcli_core.http.contract import HttpRequest, HttpTransport, RawResponse, TransportFailure
from zcli_core.plugins.contract import Context
from zcli_urllib3 import zcli_http_transports

from zcli_skeleton.settings import Skeleton

#: Failures of the server or its network. Other failures do not predict the next call.
_SERVER_FAILURES = frozenset({"timeout", "dns", "refused", "unreachable", "reset"})
#: How many servers are remembered, because redirects may lead to any number of them.
MAX_SERVERS = 1000


class _Record(NamedTuple):
    failures: int = 0
    rests_until: float = 0.0  # on the clock time.monotonic()


class SkeletonTransport:
    """Implements :class:`zcli_core.http.contract.HttpTransport`.

    One object serves all threads, and the child process after a fork, because records are replaced and not changed.
    """

    def __init__(self, context: Context) -> None:
        self._settings = context.config.section(Skeleton)
        self._log = context.log
        self._engine = make_engine(context)
        self.content_codings = self._engine.content_codings
        self._records: dict[tuple[str, str, int], _Record] = {}

    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        """Send a request and read its response, unless its server has failed too often."""
        server = request.url.origin
        record = self._records.get(server, _Record())
        rest = record.rests_until - time.monotonic()
        if rest > 0:
            raise TransportFailure(
                "unreachable",
                f"{request.url.authority} failed {record.failures} times in a row and gets no request for {rest:.1f} s",
            )
        try:
            response = self._engine.send(request, deadline, max_bytes)
        except TransportFailure as failure:
            if failure.kind in _SERVER_FAILURES:
                self._count_failure(server, record.failures + 1)
            raise
        self._records.pop(server, None)
        return response

    def close(self) -> None:
        """Close every connection. May be called more than once."""
        self._engine.close()

    def _count_failure(self, server: tuple[str, str, int], failures: int) -> None:
        rests = 0 < self._settings.failures <= failures
        if server not in self._records and len(self._records) >= MAX_SERVERS:
            self._records = dict([*self._records.items()][1:])
        self._records[server] = _Record(failures, time.monotonic() + self._settings.rest if rests else 0.0)
        if rests:
            self._log.warning("%s:%d gets no request for %g s", server[1], server[2], self._settings.rest)


def make_engine(context: Context) -> HttpTransport:
    """Create zCLI's own transport."""
    (offer,) = zcli_http_transports()
    return offer.factory(context)

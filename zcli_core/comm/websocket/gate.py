"""The gate: who may open a connection. Limit, origin, throttle, strategies, in this order, once per upgrade."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from zcli_core.comm.websocket import origins, pages
from zcli_core.comm.websocket.connection import Admission, shown_address
from zcli_core.comm.websocket.throttle import FailureThrottle
from zcli_core.contracts.auth import Identified, Rejected
from zcli_core.contracts.auth_credentials import BEARER
from zcli_core.contracts.websocket import Accept, Connection, Decision, HttpAnswer, Receiver, Refuse, Request

if TYPE_CHECKING:
    from zcli_core.comm.websocket.strategies import AskedStrategy, Outcome
    from zcli_core.config.sections import WebSocket


class _Refusal(NamedTuple):
    """A refusal for whichever way it is sent: a close code, or an HTTP status and headers."""

    code: int
    status: int
    reason: str
    headers: tuple[tuple[str, str], ...] = ()


_FULL = _Refusal(1013, 503, "the server is full", (("Retry-After", "5"),))
_ORIGIN = _Refusal(1008, 403, "origin not allowed")
_NO_CREDENTIAL = _Refusal(1008, 401, "authentication required", (("WWW-Authenticate", "Bearer"),))
_WRONG_CREDENTIAL = _Refusal(1008, 401, "authentication failed", (("WWW-Authenticate", "Bearer"),))
_UNAVAILABLE = _Refusal(1011, 503, "authentication is not available")


class Gate:
    """Decides on upgrades.

    ``room`` tells whether another client may enter, ``admit`` takes one in. ``rules`` are those of
    ``allowed_origins``, or None if that is not set.
    """

    def __init__(
        self,
        settings: WebSocket,
        host: str | None,
        rules: origins.OriginRules | None,
        strategies: Sequence[AskedStrategy],
        room: Callable[[], bool],
        admit: Callable[[Admission], Callable[[Connection], Receiver]],
        log: logging.Logger,
    ) -> None:
        self._settings = settings
        self._host = host
        self._rules = rules
        self._strategies = strategies
        self._immediate = all(strategy.immediate for strategy in strategies)
        self._room = room
        self._admit = admit
        self._log = log
        self._throttle = FailureThrottle(settings.auth_failures_max, settings.auth_failures_window)

    def upgrade(self, request: Request) -> Decision | Awaitable[Decision]:
        """Decide on an upgrade; at once, unless a strategy has to wait for something."""
        if not self._room():
            return self._full(request)
        origin_headers = request.headers.get_all("origin")
        if origin_headers and not self._admits_origin(request, origin_headers):
            return self._refuse(request, _ORIGIN)
        origin = origin_headers[0] if origin_headers else None
        if not self._settings.require_auth:
            return self._accept(request, Admission(origin=origin), None)
        wait = self._wait(request)
        if wait:
            self._log.warning("refused %s: too many wrong credentials, %.0f s to go", _client(request), wait)
            seconds = f"{wait:.0f}"
            refusal = _Refusal(1008, 429, f"too many failed attempts, wait {seconds} s", (("Retry-After", seconds),))
            return self._refuse(request, refusal)
        if not self._immediate:
            return self._decide_later(request, origin)
        for strategy in self._strategies:
            outcome = strategy.judge(request)
            if outcome is not None:
                return self._carry_out(request, origin, strategy, outcome)
        return self._unidentified(request)

    async def _decide_later(self, request: Request, origin: str | None) -> Decision:
        began = time.monotonic()
        for strategy in self._strategies:
            try:
                outcome = await strategy.judge_later(request)
            except BaseException:
                # Cancelled by the transport: the time is over, or the client has gone.
                self._log.warning(
                    "%s had not decided on %s after %.1f s: refused (1011), unless it left first",
                    strategy, _client(request), time.monotonic() - began,
                )  # fmt: skip
                raise
            if outcome is not None:
                return self._carry_out(request, origin, strategy, outcome)
        return self._unidentified(request)

    def _carry_out(self, request: Request, origin: str | None, strategy: AskedStrategy, outcome: Outcome) -> Decision:
        if isinstance(outcome, Identified):
            if not self._room():  # others may have entered while the strategy was asked
                return self._full(request)
            admission = Admission(outcome.identity, strategy.name, outcome.claims, origin)
            return self._accept(request, admission, outcome.subprotocol)
        if isinstance(outcome, Rejected):
            if outcome.counts:
                self._throttle.failed(_host(request))
            self._log.warning("refused %s: %s (%s)", _client(request), outcome.cause, strategy)
            return self._refuse(request, _WRONG_CREDENTIAL)
        return self._refuse(request, _UNAVAILABLE)  # the strategy failed, which is logged

    # --- the checks ---

    def _admits_origin(self, request: Request, found: list[str]) -> bool:
        if len(found) > 1:
            self._log.warning("refused %s: it sent %d Origin headers", _client(request), len(found))
            return False
        origin = found[0]
        if self._rules is not None:
            admitted = self._rules.admits(origin)
        elif self._settings.require_auth:
            address = request.local_address
            admitted = origins.is_own(origin, self._host, address[0] if address else None)
        else:
            admitted = True
        if not admitted:
            self._log.warning("refused %s: %s", _client(request), self._origin_advice(origin))
        return admitted

    def _origin_advice(self, origin: str) -> str:
        shown = repr(origin if len(origin) <= 100 else f"{origin[:100]}...")
        item = origins.setting_that_admits(origin)
        if item is None:
            return f"{shown} is no origin"
        now = ", ".join(map(repr, self._settings.allowed_origins or ()))
        return (
            f"the origin {shown} is not among websocket.allowed_origins; "
            f"to admit it: allowed_origins = [{now}{', ' if now else ''}{item!r}]"
        )

    def _wait(self, request: Request) -> float:
        return self._throttle.wait(_host(request))

    # --- the answers ---

    def _accept(self, request: Request, admission: Admission, carrier: str | None) -> Accept:
        return Accept(self._admit(admission), subprotocol=self._subprotocol(request) or carrier)

    def _subprotocol(self, request: Request) -> str | None:
        return next((name for name in self._settings.subprotocols if name in request.subprotocols), None)

    def _full(self, request: Request) -> Refuse | HttpAnswer:
        limit = self._settings.max_connections
        self._log.warning("refused %s: %d clients are connected (websocket.max_connections)", _client(request), limit)
        return self._refuse(request, _FULL)

    def _unidentified(self, request: Request) -> Refuse | HttpAnswer:
        names = ", ".join(strategy.name for strategy in self._strategies)
        self._log.warning("refused %s: it showed no credential (%s)", _client(request), names)
        return self._refuse(request, _NO_CREDENTIAL)

    def _refuse(self, request: Request, refusal: _Refusal) -> Refuse | HttpAnswer:
        if self._settings.refuse_with == "http":
            return pages.refusal(refusal.status, refusal.reason, refusal.headers)
        # A browser that offered subprotocols and is answered with none sees a failure without code or reason.
        offered = request.subprotocols
        subprotocol = self._subprotocol(request) or (BEARER if BEARER in offered else (offered or (None,))[0])
        return Refuse(refusal.code, refusal.reason, subprotocol)


def _host(request: Request) -> str:
    """Whom to hold responsible: the client's address; one name for all of a Unix socket."""
    return request.remote_address[0] if request.remote_address else "unix"


def _client(request: Request) -> str:
    return shown_address(request.remote_address)

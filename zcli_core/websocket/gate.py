"""Decide which clients may connect, by limits, origin, path, throttle and strategies, in this order."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from zcli_core.auth.contract import Identified, Rejected
from zcli_core.auth.parts import BEARER
from zcli_core.net.origins import OriginRules, setting_that_admits
from zcli_core.websocket import pages
from zcli_core.websocket.addresses import throttled_networks, widest_network
from zcli_core.websocket.admission import Admission
from zcli_core.websocket.contract import (
    Accept,
    Address,
    Decision,
    PlainResponse,
    Refuse,
    Request,
)
from zcli_core.websocket.counters import FAILED, REFUSED_AUTH, REFUSED_FULL, REFUSED_ORIGIN, REFUSED_PATH
from zcli_core.websocket.refusals import RefusalLog, RefusalPacer
from zcli_core.websocket.throttle import FailureThrottle

if TYPE_CHECKING:
    from zcli_core.config.sections import WebSocket
    from zcli_core.websocket.addresses import Networks
    from zcli_core.websocket.default_origins import DefaultOrigins
    from zcli_core.websocket.plugin_pages import AskPlugins
    from zcli_core.websocket.sessions import Sessions
    from zcli_core.websocket.strategy_runner import Outcome, StrategyRunner
    from zcli_core.websocket.trusted_proxies import TrustedProxies


class _Refusal(NamedTuple):
    """A refusal in both forms, as a close code and as an HTTP status with headers, and the name that counts it."""

    counted: str
    code: int
    status: int
    reason: str
    headers: tuple[tuple[str, str], ...] = ()


_FULL = _Refusal(REFUSED_FULL, 1013, 503, "the server is full", (("Retry-After", "5"),))
_ADDRESS_FULL = _Refusal(REFUSED_FULL, 1013, 429, "too many connections from this address", (("Retry-After", "5"),))
_ORIGIN = _Refusal(REFUSED_ORIGIN, 1008, 403, "origin not allowed")
_PATH = _Refusal(REFUSED_PATH, 1008, 404, "no such path")
_NO_CREDENTIAL = _Refusal(REFUSED_AUTH, 1008, 401, "authentication required", (("WWW-Authenticate", "Bearer"),))
_WRONG_CREDENTIAL = _Refusal(REFUSED_AUTH, 1008, 401, "authentication failed", (("WWW-Authenticate", "Bearer"),))
_UNAVAILABLE = _Refusal(FAILED, 1011, 503, "authentication is not available")


class Rules(NamedTuple):
    """The parsed settings that decide which clients may connect."""

    #: None: ``allowed_origins`` is not set, so that the default origins apply.
    origins: OriginRules | None
    #: None: every path is accepted.
    paths: Collection[str] | None
    proxies: TrustedProxies


class Gate:
    """The gate of one running server: decides about upgrades and responds to plain HTTP requests.

    Implements :class:`zcli_core.websocket.contract.Acceptor`.
    """

    def __init__(
        self,
        settings: WebSocket,
        rules: Rules,
        default_origins: DefaultOrigins,
        strategies: Sequence[StrategyRunner],
        sessions: Sessions,
        log: logging.Logger,
        ask_plugins: AskPlugins | None = None,
    ) -> None:
        self._ask_plugins = ask_plugins
        self._settings = settings
        self._rules = rules
        self._default_origins = default_origins
        self._strategies = strategies
        self._immediate = all(strategy.immediate for strategy in strategies)
        #: Two strategies may give the same name to different clients.
        self._names_may_clash = len(strategies) > 1
        self._sessions = sessions
        #: Counts wrong credentials.
        self.throttle = FailureThrottle(settings.max_auth_failures, settings.auth_failures_window)
        self._pacer = RefusalPacer(settings.max_refusal_delay)
        self._refusals = RefusalLog(log, sessions.loop)
        self._client_of = rules.proxies.client_of
        #: Returns why the server is not ready, for ``/ready``. The server replaces it once it has started.
        self.readiness: Callable[[], list[str]] = lambda: ["starting"]

    def upgrade(self, request: Request) -> Decision | Awaitable[Decision]:
        """Decide about an upgrade: immediately, or later if a strategy has to wait."""
        received, request = request, self._client_of(request)
        full = self._full(request)
        if full is not None:
            return full
        origin_headers = request.headers.get_all("origin")
        if origin_headers and not self._admits_origin(request, origin_headers, forwarded=request is not received):
            return self._refuse(request, _ORIGIN, self._origin_advice(origin_headers))
        origin = origin_headers[0] if origin_headers else None
        paths = self._rules.paths
        if paths is not None and request.path not in paths and unquote(request.path) not in paths:
            return self._refuse(request, _PATH, "its path has no handler")
        if not self._settings.require_auth:
            return self._accept(Admission(request=request, origin=origin), None)
        networks = throttled_networks(request.remote_address)
        if not self._immediate:
            return self._authenticate_async(request, origin, networks)
        wait = self.throttle.wait(networks)
        if wait:
            return self._authenticate_throttled(request, origin) or self._throttled(request, wait)
        for strategy in self._strategies:
            outcome = strategy.authenticate(request)
            if outcome is not None:
                if _counts(outcome):
                    self.throttle.failed(networks)
                return self._decide(request, origin, strategy, outcome)
        return self._unidentified(request)

    async def _authenticate_async(self, request: Request, origin: str | None, networks: Networks) -> Decision:
        began = time.monotonic()
        waiting_for = "other clients of its address were still being authenticated"
        try:
            if not self.throttle.may_begin(networks):
                decision = self._authenticate_throttled(request, origin)
                if decision is not None:
                    return decision
            wait = await self.throttle.begin(networks)
            if wait:
                return self._throttled(request, wait)
            outcome: Outcome = None
            try:
                for strategy in self._strategies:
                    waiting_for = f"{strategy} had not decided"
                    outcome = await strategy.authenticate_async(request)
                    if outcome is not None:
                        return self._decide(request, origin, strategy, outcome)
            finally:
                self.throttle.end(networks, failed=_counts(outcome))
        except BaseException:
            # The transport has cancelled the decision: open_timeout is over, or the client has disconnected.
            waited = f"{time.monotonic() - began:.0f} s"
            cause = f"{waiting_for} after {waited}; it was closed with 1011 unless it had disconnected"
            self._note(request.remote_address, request, cause, FAILED)
            raise
        return self._unidentified(request)

    def _authenticate_throttled(self, request: Request, origin: str | None) -> Decision | None:
        """Accept a client of a throttled address if its credential is too long to be guessed."""
        for strategy in self._strategies:
            outcome = strategy.authenticate_throttled(request)
            if outcome is not None:
                return self._decide(request, origin, strategy, outcome)
        return None

    def _throttled(self, request: Request, wait: float) -> Refuse | PlainResponse:
        seconds = f"{wait:.0f}"
        reason = f"too many failed attempts, wait {seconds} s"
        cause = "its address sent too many wrong credentials (websocket.max_auth_failures)"
        return self._refuse(request, _Refusal(REFUSED_AUTH, 1008, 429, reason, (("Retry-After", seconds),)), cause)

    def _decide(self, request: Request, origin: str | None, strategy: StrategyRunner, outcome: Outcome) -> Decision:
        if isinstance(outcome, Identified):
            # Other clients may have connected while the strategy was running.
            full = self._full(request)
            if full is not None:
                return full
            name = f"{strategy.name}:{outcome.identity}" if self._names_may_clash else outcome.identity
            admission = Admission(name, strategy.name, outcome.claims, origin, request, outcome.expires_at)
            return self._accept(admission, outcome.subprotocol)
        if isinstance(outcome, Rejected):
            return self._refuse(request, _WRONG_CREDENTIAL, f"{outcome.cause} ({strategy})")
        return self._refuse(request, _UNAVAILABLE, f"{strategy} failed")

    # --- the checks ---

    def _full(self, request: Request) -> Refuse | PlainResponse | None:
        found = self._over_limit(request)
        return None if found is None else self._refuse(request, *found)

    def _over_limit(self, request: Request) -> tuple[_Refusal, str] | None:
        """Return the refusal and its cause if the client would be over a limit."""
        if not self._sessions.has_capacity():
            limit = self._settings.max_connections
            cause = f"{limit} clients are connected, or their handlers still run (websocket.max_connections)"
            return _FULL, cause
        limit_of_one = self._settings.max_connections_per_address
        # The clients of a Unix socket have no address.
        if limit_of_one is None or request.remote_address is None:
            return None
        if self._sessions.limits.count_of(request.remote_address) < limit_of_one:
            return None
        cause = (
            f"its address has {limit_of_one} connections or running handlers (websocket.max_connections_per_address)"
        )
        return _ADDRESS_FULL, cause

    def _admits_origin(self, request: Request, found: list[str], forwarded: bool) -> bool:
        if len(found) > 1:
            return False
        rules = self._rules
        if rules.origins is not None:
            return rules.origins.admits(found[0])
        return self._default_origins.admits(found[0], request, forwarded)

    def _origin_advice(self, found: list[str]) -> str:
        if len(found) > 1:
            return f"it sent {len(found)} Origin headers"
        origin = found[0]
        shown = repr(origin if len(origin) <= 100 else f"{origin[:100]}...")
        item = setting_that_admits(origin)
        if item is None:
            return f"{shown} is not an origin"
        allowed = self._settings.allowed_origins
        why = (
            "does not belong to this host, and websocket.allowed_origins is not set"
            if allowed is None
            else "is not in websocket.allowed_origins"
        )
        return f"the origin {shown} {why}; to admit it: allowed_origins = {[*(allowed or ()), item]}"

    # --- the decisions ---

    def _accept(self, admission: Admission, carrier: str | None) -> Accept:
        assert admission.request is not None
        return Accept(self._sessions.accept(admission), subprotocol=self._subprotocol(admission.request) or carrier)

    def _subprotocol(self, request: Request) -> str | None:
        return next((name for name in self._settings.subprotocols if name in request.subprotocols), None)

    def _unidentified(self, request: Request) -> Refuse | PlainResponse:
        names = ", ".join(strategy.name for strategy in self._strategies)
        return self._refuse(request, _NO_CREDENTIAL, f"it sent no credential ({names})")

    def _refuse(self, request: Request, refusal: _Refusal, cause: str) -> Refuse | PlainResponse:
        with_status = self._settings.refuse_with == "http" and request.can_be_refused_with_status
        code = refusal.status if with_status else refusal.code
        self._note(request.remote_address, request, cause, refusal.counted, code, refusal.reason)
        delay = self._delay(request.remote_address)
        if with_status:
            return pages.refusal(refusal.status, refusal.reason, refusal.headers, delay)
        # A browser that offered subprotocols and gets none reports a failure without code and reason.
        offered = request.subprotocols
        subprotocol = self._subprotocol(request) or (BEARER if BEARER in offered else (offered or (None,))[0])
        return Refuse(refusal.code, refusal.reason, subprotocol, delay)

    def refused(self, cause: str, address: Address, request: Request | None = None) -> float:
        """Count and log a refusal by the transport, and return the delay of its response in seconds."""
        if request is not None:
            address = self._client_of(request).remote_address
        self._note(address, request, cause, FAILED)
        return self._delay(address)

    def _note(
        self, address: Address, request: Request | None, cause: str, result: str, code: int | None = None,
        reason: str | None = None,
    ) -> None:  # fmt: skip
        """Count and log a refusal. A flood of them is not logged one by one, in the access log neither."""
        self._sessions.counters.connections[result] += 1
        access_log = self._sessions.access_log
        if self._refusals.note(address, cause) and access_log is not None:
            access_log.refused(address, request, result, code, cause if reason is None else reason)

    def _delay(self, address: Address) -> float:
        """Return the delay of the response to a refused client, in seconds."""
        return self._pacer.delay(widest_network(address))

    # --- plain HTTP ---

    def http(self, request: Request) -> PlainResponse:
        """Respond to a request that does not ask for a WebSocket."""
        client = self._client_of(request)
        forwarded = client is not request
        page = self._page_of(client, forwarded)
        plugins = self._ask_plugins
        ask = None if plugins is None else lambda asked: plugins(asked, lambda: self._would_admit(asked, forwarded))
        return pages.respond(client, not self._sessions.has_capacity(), self.readiness, page, ask)

    def _would_admit(self, request: Request, forwarded: bool) -> bool:
        """Whether an upgrade with this address, headers and query would be admitted, as far as that is known at once.

        A wrong credential counts for the throttle, because otherwise it could be guessed here.
        """
        origin_headers = request.headers.get_all("origin")
        if self._over_limit(request) is not None:
            return False
        if origin_headers and not self._admits_origin(request, origin_headers, forwarded):
            return False
        if not self._settings.require_auth:
            return True
        networks = throttled_networks(request.remote_address)
        is_throttled = bool(self.throttle.wait(networks))
        for strategy in self._strategies:
            if is_throttled or not strategy.immediate:
                outcome: Outcome = strategy.authenticate_throttled(request)
            else:
                outcome = strategy.authenticate(request)
            if outcome is not None:
                if _counts(outcome):
                    self.throttle.failed(networks)
                return isinstance(outcome, Identified)
        return False

    def _page_of(self, request: Request, forwarded: bool) -> str | None:
        """Return the origin of the page if it may connect, and so may read the response; otherwise None."""
        found = request.headers.get_all("origin")
        if not found or setting_that_admits(found[0]) is None:
            return None
        return found[0] if self._admits_origin(request, found, forwarded) else None

    def close(self) -> None:
        """Log how many refusals were counted and not logged one by one. Called when the server stops."""
        self._refusals.close()


def _counts(outcome: Outcome) -> bool:
    """Return whether the outcome is a wrong credential, which may be a guess."""
    return isinstance(outcome, Rejected) and outcome.counts

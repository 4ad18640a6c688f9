"""Retries: whether a request is sent again, and after how many seconds."""

from __future__ import annotations

import time

from zcli_core.http.contract import IDEMPOTENT, Headers, HttpRequest, RawResponse, TransportFailure, parse_date
from zcli_core.http.redirects import is_repeatable

#: Responses after which another attempt may succeed: too many requests, bad gateway, unavailable, gateway timeout.
_RETRIED_STATUSES = frozenset({429, 502, 503, 504})
#: Failures after which another attempt may succeed. A timeout leaves time for one only if the attempt had a limit.
_RETRIED_KINDS = frozenset({"timeout", "dns", "refused", "unreachable", "reset", "proxy", "protocol"})

_FIRST_PAUSE = 0.25
_LONGEST_PAUSE = 8.0


class Retries:
    """Counts the retries of one call, redirects included. ``left`` is how many it may still make."""

    def __init__(self, allowed: int, all_methods: bool) -> None:
        self.left = allowed
        self._all_methods = all_methods
        self._made = 0

    def pause(self, request: HttpRequest, outcome: RawResponse | TransportFailure) -> float | None:
        """Return the seconds to wait before the request is sent again, or None if this outcome is final."""
        if not self.left or not self._may_repeat(request):
            return None
        pause = None
        if isinstance(outcome, TransportFailure):
            if outcome.kind not in _RETRIED_KINDS:
                return None
        else:
            if outcome.status not in _RETRIED_STATUSES:
                return None
            pause = retry_after(Headers(outcome.headers))
        if pause is None:
            pause = self._jittered()
        self.left -= 1
        self._made += 1
        return pause

    def _may_repeat(self, request: HttpRequest) -> bool:
        return (self._all_methods or request.method in IDEMPOTENT) and is_repeatable(request.body)

    def _jittered(self) -> float:
        """Return a random wait up to a bound that doubles, so that many clients do not retry at the same time."""
        import random

        return random.uniform(0, min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**self._made))  # noqa: S311 - not a secret


def retry_after(headers: Headers) -> float | None:
    """Return the seconds that Retry-After asks to wait (RFC 9110, section 10.2.3).

    Returns:
        The longest wait if there are several fields, or None if there is no valid one.
    """
    waits = [_seconds_until(value.strip()) for value in headers.get_all("retry-after")]
    return max((wait for wait in waits if wait is not None), default=None)


def _seconds_until(value: str) -> float | None:
    if value.isascii() and value.isdigit():
        return float(value)
    moment = parse_date(value)
    return None if moment is None else max(0.0, moment - time.time())

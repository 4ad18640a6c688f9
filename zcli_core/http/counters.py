"""Counters of an HTTP client, for monitoring."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, get_args

from zcli_core.durations import Durations
from zcli_core.http.contract import FailureKind
from zcli_core.system.forks import call_after_fork

if TYPE_CHECKING:
    from zcli_core.types import HttpMetrics

_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
#: A server may send a status that has no class (RFC 9110, 15).
_OTHER = "other"
#: Upper limits of the buckets, in seconds.
_LIMITS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class HttpCounters:
    """What the calls of one client have come to. Every thread may use it."""

    def __init__(self) -> None:
        self._reset()
        call_after_fork(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._responses = dict.fromkeys((*_CLASSES, _OTHER), 0)
        self._failures: dict[str, int] = dict.fromkeys(get_args(FailureKind), 0)
        self._seconds = Durations(_LIMITS)

    def _after_fork(self) -> None:
        """Forget the calls of the parent, which counts them itself."""
        self._reset()

    def count_response(self, status: int, seconds: float) -> None:
        """Count a call that got a response."""
        name = f"{status // 100}xx"
        with self._lock:
            self._responses[name if name in self._responses else _OTHER] += 1
            self._seconds.add(seconds)

    def count_failure(self, kind: FailureKind, seconds: float) -> None:
        """Count a call that got no response. A kind that only a plugin knows counts as ``transport``."""
        with self._lock:
            self._failures[kind if kind in self._failures else "transport"] += 1
            self._seconds.add(seconds)

    def read(self) -> HttpMetrics:
        """Return what was counted."""
        with self._lock:
            return {
                "responses": dict(self._responses),
                "failures": dict(self._failures),
                "seconds": self._seconds.read(),
            }

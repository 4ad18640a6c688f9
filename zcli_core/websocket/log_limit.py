"""A limit for what clients can make the server log: the log is rotated, so a flood of lines would push out the rest."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

#: Lines of one kind that are logged at once, and the seconds after which there may be one more. So a log of the usual
#: size covers a day, even if the lines have tracebacks.
_AT_ONCE = 100
_SECONDS = 10.0
#: Seconds from the first line that is left out until their number is logged.
_REPORT_AFTER = 60.0
#: Characters of the last line that are repeated with it.
_LONGEST = 300
#: Marks the lines that :meth:`LogLimit.report` logs.
_REPORT = "zcli_log_limit"


class _Kind:
    """The lines of one place in the code."""

    __slots__ = ("_left", "_since", "last", "left_out", "level")

    def __init__(self, level: int, now: float) -> None:
        self.level = level
        #: How many may be logged now, if no time passes.
        self._left: float = _AT_ONCE
        self._since = now
        #: How many were left out since that was last logged, and the message of the last one.
        self.left_out = 0
        self.last = ""

    def may_be_logged(self, now: float) -> bool:
        self._left = min(self._left + (now - self._since) / _SECONDS, _AT_ONCE)
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class LogLimit(logging.Filter):
    """Leaves out lines that one place in the code logs again and again, and logs how many were left out.

    Lines below WARNING are never left out, because an operator who asks for them wants all of them. Security warnings
    about the configuration are not left out either.
    """

    def __init__(
        self,
        log: logging.Logger,
        call_later: Callable[[float, Callable[[], None]], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``call_later`` is called from the thread that logs, at most once in a minute."""
        super().__init__()
        self._log = log
        self._call_later = call_later
        self._clock = clock
        self._lock = threading.Lock()
        self._kinds: dict[tuple[str, int], _Kind] = {}
        self._reports = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is logged (logging)."""
        if record.levelno < logging.WARNING or hasattr(record, _REPORT) or hasattr(record, "zcli_security"):
            return True
        with self._lock:
            now = self._clock()
            kind = self._kinds.setdefault((record.pathname, record.lineno), _Kind(record.levelno, now))
            if kind.may_be_logged(now):
                return True
            kind.left_out += 1
            kind.last = record.getMessage()[:_LONGEST]
            begins, self._reports = not self._reports, True
        if begins:
            self._call_later(_REPORT_AFTER, self.report)
        return False

    def report(self) -> None:
        """Log how many lines were left out."""
        with self._lock:
            self._reports = False
            found = [(kind.level, kind.left_out, kind.last) for kind in self._kinds.values() if kind.left_out]
            for kind in self._kinds.values():
                kind.left_out = 0
        for level, count, last in found:
            self._log.log(level, "%d more lines like this one were left out: %s", count, last, extra={_REPORT: True})


@contextlib.contextmanager
def limited_log(log: logging.Logger, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Limit what is logged to ``log`` while a server runs in ``loop``."""

    def call_later(seconds: float, function: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has been closed; the report at the end tells the number
            loop.call_soon_threadsafe(loop.call_later, seconds, function)

    limit = LogLimit(log, call_later)
    log.addFilter(limit)
    try:
        yield
    finally:
        log.removeFilter(limit)
        limit.report()

"""Limit how many lines clients can cause in the log, because a flood would rotate out all other lines."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator

#: Lines of one kind that may be logged in a burst, and the seconds until one more is allowed. With these values a log
#: of the default size covers a day, even if the lines have tracebacks.
_AT_ONCE = 100
_SECONDS = 10.0
#: Seconds from the first omitted line until the number of omitted lines is logged.
_REPORT_AFTER = 60.0
#: Characters of the last omitted line that are logged with the number.
_LONGEST = 300
#: Marks the lines that :meth:`LogLimit.report` logs.
_REPORT = "zcli_log_limit"


class _Kind:
    """The lines of one place in the code."""

    __slots__ = ("_left", "_since", "last", "level", "omitted")

    def __init__(self, level: int, now: float) -> None:
        self.level = level
        #: Number of lines that may be logged now.
        self._left: float = _AT_ONCE
        self._since = now
        #: Number of omitted lines since the last report, and the message of the last one.
        self.omitted = 0
        self.last = ""

    def may_be_logged(self, now: float) -> bool:
        self._left = min(self._left + (now - self._since) / _SECONDS, _AT_ONCE)
        self._since = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


class LogLimit(logging.Filter):
    """A filter that omits lines that one place in the code logs too often, and logs how many it omitted.

    Lines below WARNING are never omitted, because an operator who turns them on wants all of them. Security warnings
    about the configuration are never omitted either.
    """

    def __init__(
        self,
        log: logging.Logger,
        call_later: Callable[[float, Callable[[], None]], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Make a filter for ``log``.

        Args:
            log: The logger that gets the reports.
            call_later: Schedules a report. It is called in the thread that logs, at most once a minute.
            clock: Returns the time in seconds.
        """
        super().__init__()
        self._log = log
        self._call_later = call_later
        self._clock = clock
        self._lock = threading.Lock()
        self._kinds: dict[tuple[str, int], _Kind] = {}
        self._reports = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line is logged (called by logging)."""
        if record.levelno < logging.WARNING or hasattr(record, _REPORT) or hasattr(record, "zcli_security"):
            return True
        with self._lock:
            now = self._clock()
            kind = self._kinds.setdefault((record.pathname, record.lineno), _Kind(record.levelno, now))
            if kind.may_be_logged(now):
                return True
            kind.omitted += 1
            begins, self._reports = not self._reports, True
        kind.last = _shortened(record)
        if begins:
            self._call_later(_REPORT_AFTER, self.report)
        return False

    def report(self) -> None:
        """Log how many lines were omitted."""
        with self._lock:
            self._reports = False
            found = [(kind.level, kind.omitted, kind.last) for kind in self._kinds.values() if kind.omitted]
            for kind in self._kinds.values():
                kind.omitted = 0
        for level, count, last in found:
            self._log.log(level, "%d more lines like this one were omitted: %s", count, last, extra={_REPORT: True})


def _shortened(record: logging.LogRecord) -> str:
    try:
        message = record.getMessage()
    except Exception:  # noqa: BLE001 - invalid arguments; logging has reported those of the first lines
        return "a line with invalid arguments"
    # Cut between words, because the log's filter finds a secret only if it is complete.
    return message if len(message) <= _LONGEST else message[: _LONGEST + 1].rpartition(" ")[0]


@contextlib.contextmanager
def limited_log(log: logging.Logger, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """Limit the lines of ``log`` while a server runs in ``loop``."""

    def call_later(seconds: float, function: Callable[[], None]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed; the final report logs the number
            loop.call_soon_threadsafe(loop.call_later, seconds, function)

    limit = LogLimit(log, call_later)
    log.addFilter(limit)
    try:
        yield
    finally:
        log.removeFilter(limit)
        limit.report()

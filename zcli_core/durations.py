"""A histogram of durations: integers only, so that sums over processes do not depend on the order of addition."""

from __future__ import annotations

from bisect import bisect_left
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zcli_core.types import Histogram


class Durations:
    """Counts durations by upper limits. One thread changes it, or a lock guards it; every thread may read it."""

    __slots__ = ("_counts", "_limits", "_microseconds")

    def __init__(self, limits: tuple[float, ...]) -> None:
        """Make an empty histogram.

        Args:
            limits: The upper limits of the buckets in seconds, ascending.
        """
        self._limits = limits
        #: How many durations each bucket has; the last one has those over all limits.
        self._counts = [0] * (len(limits) + 1)
        self._microseconds = 0

    def add(self, seconds: float) -> None:
        """Count a duration."""
        self._counts[bisect_left(self._limits, seconds)] += 1
        self._microseconds += round(seconds * 1e6)

    def merge(self, other: Durations) -> None:
        """Add the durations of another histogram with the same limits."""
        for index, count in enumerate(other._counts):
            self._counts[index] += count
        self._microseconds += other._microseconds

    def read(self) -> Histogram:
        """Return what was counted."""
        *counts, total = accumulate(self._counts)
        return {
            "count": total,
            "microseconds": self._microseconds,
            "buckets": {f"{limit:g}": count for limit, count in zip(self._limits, counts, strict=True)},
        }

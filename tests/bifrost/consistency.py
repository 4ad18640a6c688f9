"""The history of a run with many writers and readers, and what is inconsistent in it.

A row is a register: each write puts a value into it that no other write has, or deletes it (None). The acknowledgement
of a write has its version, which orders all writes. A write without an acknowledgement has an unknown outcome.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

#: Longest time that others may read the older value of a row after a write was acknowledged, in seconds. It counts from
#: the acknowledgement to the sending of the read, so it does not depend on the speed of the machine.
LONGEST_STALE = 1.0

#: A row: its model and its key.
Row = tuple[str, str]


@dataclass(eq=False)
class Write:
    """One write of one row, in the times of the client.

    Attributes:
        version: Its version; None if its outcome is unknown.
        acked: When the acknowledgement came.
    """

    client: int
    row: Row
    value: Any
    sent: float
    version: int | None = None
    acked: float = float("inf")


class Read(NamedTuple):
    """The result of one read, in the times of the client.

    Attributes:
        seen: The version that the client had seen when it sent the read.
        version: The version that the result has.
        values: The values of rows; None for a row that is not there.
    """

    client: int
    sent: float
    seen: int
    version: int
    cached: bool
    values: dict[Row, Any]


class Seen(NamedTuple):
    """What one read says about one row.

    Attributes:
        stale: For how long a later value was acknowledged when the read was sent, in seconds; 0 if for no time.
        problem: What is inconsistent.
    """

    stale: float
    problem: str | None


class _Later:
    """Acknowledged writes in the order of their versions."""

    def __init__(self, writes: list[Write]) -> None:
        ordered = sorted((write.version or 0, write.acked) for write in writes)
        self._versions = [version for version, _ in ordered]
        #: The first acknowledgement of this write and the later ones.
        self._first = [acked for _, acked in ordered]
        for at in range(len(ordered) - 2, -1, -1):
            self._first[at] = min(self._first[at], self._first[at + 1])

    def after(self, version: int) -> tuple[float, float]:
        """Return the lowest version after a version, and when the first of the later writes was acknowledged."""
        at = bisect.bisect_right(self._versions, version)
        if at == len(self._versions):
            return float("inf"), float("inf")
        return self._versions[at], self._first[at]


@dataclass
class History:
    """All writes and reads of a run."""

    writes: list[Write] = field(default_factory=list)
    reads: list[Read] = field(default_factory=list)

    def check(self) -> tuple[list[str], list[float]]:
        """Return all inconsistencies, and how stale each value was that a read has returned, in seconds."""
        checker = _Checker(self)
        found = [seen for read in self.reads for seen in checker.look_at(read)]
        return [seen.problem for seen in found if seen.problem is not None], [seen.stale for seen in found]


class _Checker:
    def __init__(self, history: History) -> None:
        acked = [write for write in history.writes if write.version is not None]
        of_row, of_client, deletes = defaultdict(list), defaultdict(list), defaultdict(list)
        for write in acked:
            of_row[write.row].append(write)
            of_client[write.client, write.row].append(write)
            if write.value is None:
                deletes[write.row].append(write.version or 0)
        self._of_row = {row: _Later(writes) for row, writes in of_row.items()}
        self._of_client = {key: _Later(writes) for key, writes in of_client.items()}
        self._deletes = {row: sorted(versions) for row, versions in deletes.items()}
        self._versions = {
            (write.row, write.value): write.version for write in history.writes if write.value is not None
        }
        self._unknown_deletes = self._intervals(history)
        #: The lowest version with which a value of unknown outcome was read: its own is not higher.
        self._at_most: dict[tuple[Row, Any], int] = {}
        for read in history.reads:
            for each in read.values.items():
                self._at_most[each] = min(read.version, self._at_most.get(each, read.version))

    @staticmethod
    def _intervals(history: History) -> dict[Row, list[tuple[int, float]]]:
        """Return between which versions a delete of unknown outcome may have taken place, by row.

        A row that is deleted has one writer, so the next acknowledged write comes after it.
        """
        found: dict[Row, list[tuple[int, float]]] = defaultdict(list)
        last: dict[Row, int] = defaultdict(int)
        open_since: dict[Row, int] = {}
        for write in sorted(history.writes, key=lambda write: write.sent):
            if write.version is None:
                if write.value is None:
                    open_since.setdefault(write.row, last[write.row])
                continue
            if write.row in open_since:
                found[write.row].append((open_since.pop(write.row), write.version))
            last[write.row] = write.version
        for row, version in open_since.items():
            found[row].append((version, float("inf")))
        return found

    def look_at(self, read: Read) -> Iterator[Seen]:
        if read.version < read.seen:
            yield Seen(0, f"a read has version {read.version}, but the client has seen {read.seen}: {read}")
        for row, value in read.values.items():
            yield self._look_at_row(read, row, value)

    def _look_at_row(self, read: Read, row: Row, value: Any) -> Seen:
        newest = self._newest(read, row, value)
        if newest is None:
            return Seen(0, f"a value that was not written: {row} {value!r} in {read}")
        version, first = self._of_row[row].after(newest) if row in self._of_row else (float("inf"), float("inf"))
        stale = max(0.0, read.sent - first)
        what = f"{row} is {value!r} (version {newest}) in version {read.version}, cached {read.cached}"
        what += f", for client {read.client}"
        own = self._of_client.get((read.client, row))
        if own is not None and own.after(newest)[1] <= read.sent:
            return Seen(stale, f"older than an own write ({own.after(newest)[0]}): {what}")
        if stale > LONGEST_STALE:
            return Seen(stale, f"older than a write that was acknowledged {stale:.3f} s before: {what}")
        if version <= read.version:
            return Seen(stale, f"not the state of its version, which has {version}: {what}")
        if newest > read.version:
            return Seen(stale, f"newer than its version: {what}")
        return Seen(stale, None)

    def _newest(self, read: Read, row: Row, value: Any) -> int | None:
        """Return the highest version that a value may have; None if no write has put it there."""
        if value is not None:
            if (row, value) not in self._versions:
                return None
            known = self._versions[row, value]
            return self._at_most[row, value] if known is None else known
        if any(low <= read.version < high for low, high in self._unknown_deletes.get(row, ())):
            return read.version
        deletes = self._deletes.get(row, [])
        at = bisect.bisect_right(deletes, read.version)
        return deletes[at - 1] if at else 0

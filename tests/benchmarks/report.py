"""The result of a benchmark, and the table that shows it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Row(NamedTuple):
    """One comparison: the CPU cost of zCLI and of a peer for the same work, in the same run.

    ``ours`` and ``theirs`` are medians in ``unit``; ``budget`` is the largest allowed ratio, or None (see
    docs/decisions/performance.md).
    """

    what: str
    ours: float
    peer: str
    theirs: float
    unit: str
    budget: float | None = None

    @property
    def ratio(self) -> float:
        return self.ours / self.theirs

    @property
    def verdict(self) -> str:
        if self.budget is None:
            return ""
        return "met" if self.ratio <= self.budget else "MISSED"


def print_table(title: str, rows: Iterable[Row]) -> None:
    """Print the rows. Compare the ratios, because the costs are those of this machine at this moment."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, box=None, pad_edge=False, title_justify="left", header_style="bold")
    for name in ("what", "zCLI", "peer", "peer's", "unit", "ratio", "budget", ""):
        table.add_column(name, justify="left" if name in ("what", "peer", "unit", "") else "right")
    for row in rows:
        budget = "" if row.budget is None else f"{row.budget:.2f}"
        cells = (f"{row.ours:.1f}", row.peer, f"{row.theirs:.1f}", row.unit, f"{row.ratio:.2f}", budget, row.verdict)
        table.add_row(row.what, *cells)
    Console(width=130).print(table)


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """Keep this process, and those it starts, on one processor, if the system supports it."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)

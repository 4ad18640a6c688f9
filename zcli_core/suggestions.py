"""Suggestions for unknown names: the most similar known name."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the known name that is most similar to ``name``, or None.

    Args:
        name: The unknown name.
        known: The known names.
        cutoff: The lowest similarity, from 0 to 1.
    """
    from difflib import get_close_matches  # imported late, because it is slow to import

    by_folded = {candidate.casefold(): candidate for candidate in known}
    matches = get_close_matches(name.casefold(), list(by_folded), n=1, cutoff=cutoff)
    return by_folded[matches[0]] if matches else None


def edits(one: str, other: str) -> int:
    """Return how many edits turn one text into the other.

    An edit inserts, deletes or replaces a character, or swaps two neighbours (optimal string alignment distance).
    """
    before: list[int] = []
    last = list(range(len(other) + 1))
    for row, char in enumerate(one, 1):
        current = [row]
        for column, wanted in enumerate(other, 1):
            cost = min(last[column] + 1, current[-1] + 1, last[column - 1] + (char != wanted))
            if row > 1 and column > 1 and char == other[column - 2] and one[row - 2] == wanted:
                cost = min(cost, before[column - 2] + 1)
            current.append(cost)
        before, last = last, current
    return last[-1]


def suggestion(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return ``"; did you mean 'x'?"``, or an empty string if no known name is similar; see :func:`nearest`."""
    match = nearest(name, known, cutoff)
    return f"; did you mean {match!r}?" if match else ""

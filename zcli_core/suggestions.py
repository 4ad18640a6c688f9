"""Did you mean: the nearest known name to one that nobody knows."""

from __future__ import annotations

from collections.abc import Iterable


def nearest(name: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The known name most like ``name``, or None if none is alike enough (0 to 1)."""
    from difflib import get_close_matches  # only mistakes pay for its import

    by_folded = {candidate.casefold(): candidate for candidate in known}
    matches = get_close_matches(name.casefold(), list(by_folded), n=1, cutoff=cutoff)
    return by_folded[matches[0]] if matches else None


def suggestion(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """``"; did you mean 'x'?"``, or nothing."""
    match = nearest(name, known, cutoff)
    return f"; did you mean {match!r}?" if match else ""

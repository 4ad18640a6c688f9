"""Patterns of the operator ``like``, with the same meaning in SQLite, in PostgreSQL and in Python."""

from __future__ import annotations

import re
from functools import cached_property
from typing import NamedTuple

#: Limits, because the time of a pattern grows with its length and with the number of its ``%``.
MAX_LIKE = 256
MAX_WILDCARDS = 8
_ANY, _ONE = object(), object()


class _Run(NamedTuple):
    """What stands between two ``%``: it matches texts of one length only.

    Attributes:
        pattern: The regular expression.
        length: Length of the texts that match.
        steps: Most steps of a search for each character of a text. Characters without ``_`` are found in linear time.
    """

    pattern: re.Pattern[str]
    length: int
    steps: int


class Like:
    r"""A pattern: ``%`` stands for any characters, ``_`` for one, and ``\%``, ``\_`` and ``\\`` for themselves."""

    def __init__(self, pattern: str) -> None:
        """Read a pattern.

        Raises:
            ValueError: The pattern is invalid or too long. The message says what is wrong.
        """
        self._parts = _parts(pattern)
        if self._parts.count(_ANY) > MAX_WILDCARDS:
            raise ValueError(f"must have at most {MAX_WILDCARDS} times %")

    @property
    def length(self) -> int:
        """Number of characters and wildcards."""
        return len(self._parts)

    @cached_property
    def steps(self) -> int:
        """Most steps of :meth:`matches` for each character of a text."""
        return sum(run.steps for run in self._runs)

    @cached_property
    def _runs(self) -> list[_Run]:
        return _runs(self._parts)

    def matches(self, text: str) -> bool:
        """Return whether the whole text matches. The time grows with the lengths of text and pattern, at most."""
        if len(self._runs) == 1:
            return self._runs[0].pattern.fullmatch(text) is not None
        first, *middle, last = self._runs
        place, end = first.length, len(text) - last.length
        if place > end or not first.pattern.match(text) or not last.pattern.match(text, end):
            return False
        # The first place where a run matches leaves most for those behind it.
        for run in middle:
            found = run.pattern.search(text, place, end)
            if found is None:
                return False
            place = found.end()
        return True

    def for_like(self) -> str:
        r"""Return the pattern for ``LIKE ... ESCAPE '\'``."""
        return self._written("%", "_", {"%": r"\%", "_": r"\_", "\\": r"\\"})

    def for_glob(self) -> str:
        """Return the pattern for SQLite's ``GLOB``; its ``LIKE`` takes upper and lower case as the same."""
        return self._written("*", "?", {"*": "[*]", "?": "[?]", "[": "[[]"})

    def _written(self, any_: str, one: str, escapes: dict[str, str]) -> str:
        return "".join(
            any_ if part is _ANY else one if part is _ONE else escapes.get(str(part), str(part)) for part in self._parts
        )


def _parts(pattern: str) -> list[object]:
    """Return the characters of a pattern, with marks in place of the wildcards."""
    if len(pattern) > MAX_LIKE:
        raise ValueError(f"must have at most {MAX_LIKE} characters")
    found: list[object] = []
    characters = iter(pattern)
    for character in characters:
        if character == "\\":
            escaped = next(characters, "")
            if escaped not in ("%", "_", "\\"):
                raise ValueError(r"a backslash must stand before %, _ or a backslash")
            found.append(escaped)
        else:
            found.append({"%": _ANY, "_": _ONE}.get(character, character))
    return found


def _runs(parts: list[object]) -> list[_Run]:
    runs: list[_Run] = []
    current: list[object] = []
    for part in [*parts, _ANY]:
        if part is not _ANY:
            current.append(part)
            continue
        text = "".join("." if each is _ONE else re.escape(str(each)) for each in current)
        runs.append(_Run(re.compile(text, re.DOTALL), len(current), len(current) if _ONE in current else 1))
        current = []
    return runs

"""Patterns of text fields, matched in linear time.

Python's ``re`` tries alternatives one after another. For a pattern such as ``(a+)+b`` the time doubles with each
character of a hostile text, and ``re`` cannot be interrupted. This matcher follows all alternatives at once, so its
time grows with the length of the text only. Python's own parser reads the pattern.

The syntax is that of ``re`` without what needs to go back: no lookahead or lookbehind, no backreferences, no atomic
groups, no flags, no ``\\b``. The pattern must match the whole text; ``^`` at its start and ``$`` at its end may be
there.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

_parser: Any = importlib.import_module("re._parser" if sys.version_info >= (3, 11) else "sre_parse")

#: Most states of one pattern: the time of one character grows with their number.
MAX_STATES = 500
#: Most results that are kept for each pattern, so that most characters take one look-up.
_MAX_KNOWN = 5000

_Test = Callable[[str], bool]
_CATEGORIES: dict[str, _Test] = {
    "CATEGORY_DIGIT": str.isdecimal,
    "CATEGORY_SPACE": str.isspace,
    "CATEGORY_WORD": lambda c: c.isalnum() or c == "_",
}


class PatternError(ValueError):
    """The pattern is not valid or uses what this matcher does not offer. The message says what."""


class Pattern:
    """A pattern that a whole text must match.

    >>> Pattern("[a-z]+(-[0-9]+)?").matches("task-17")
    True
    """

    def __init__(self, text: str) -> None:
        """Read a pattern. Raises PatternError."""
        self.text = text
        #: A test of one character and the states behind it, or no test: the states can be entered without a character.
        self._states: list[tuple[_Test | None, list[int]]] = []
        self._end = self._add(None, [])
        self._start = self._closure([self._sequence(_without_anchors(_parse(text)), self._end)])
        self._known: dict[tuple[frozenset[int], str], frozenset[int]] = {}

    def matches(self, value: str) -> bool:
        """Return whether the whole text matches."""
        current = self._start
        for character in value:
            following = self._known.get((current, character))
            if following is None:
                following = self._advance(current, character)
            if not following:
                return False
            current = following
        return self._end in current

    def __repr__(self) -> str:
        return f"Pattern({self.text!r})"

    def _advance(self, current: frozenset[int], character: str) -> frozenset[int]:
        passed = (self._states[state] for state in current)
        following = self._closure(to for test, after in passed if test is not None and test(character) for to in after)
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known[current, character] = following
        return following

    def _closure(self, states: Iterable[int]) -> frozenset[int]:
        found: set[int] = set()
        waiting = list(states)
        while waiting:
            state = waiting.pop()
            if state not in found:
                found.add(state)
                test, after = self._states[state]
                if test is None:
                    waiting += after
        return frozenset(found)

    # --- from the parsed pattern to states: each part is made in front of the state that follows it ---

    def _add(self, test: _Test | None, after: list[int]) -> int:
        if len(self._states) >= MAX_STATES:
            raise PatternError(
                f"it is too large: repetitions such as {{1,100}} count as that many copies ({MAX_STATES})"
            )
        self._states.append((test, after))
        return len(self._states) - 1

    def _sequence(self, parts: Iterable[tuple[Any, Any]], after: int) -> int:
        for kind, argument in reversed(list(parts)):
            after = self._part(str(kind), argument, after)
        return after

    def _part(self, kind: str, argument: Any, after: int) -> int:
        if kind in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
            return self._add(_test_of(kind, argument), [after])
        if kind == "SUBPATTERN":
            _, switched_on, switched_off, parts = argument
            if switched_on or switched_off:
                raise PatternError("it uses flags")
            return self._sequence(parts, after)
        if kind == "BRANCH":
            return self._add(None, [self._sequence(parts, after) for parts in argument[1]])
        if kind in ("MAX_REPEAT", "MIN_REPEAT"):
            least, most, parts = argument
            return self._repeat(least, most, parts, after)
        raise PatternError(f"it uses {_UNSUPPORTED.get(kind, kind.lower())}, which this matcher does not offer")

    def _repeat(self, least: int, most: Any, parts: Any, after: int) -> int:
        if str(most) == "MAXREPEAT":
            again: list[int] = []
            start = self._add(None, again)
            again += [self._sequence(parts, start), after]
        else:
            start = after
            for _ in range(int(most) - least):
                start = self._add(None, [self._sequence(parts, start), after])
        for _ in range(least):
            start = self._sequence(parts, start)
        return start


_UNSUPPORTED = {
    "ASSERT": "lookahead or lookbehind",
    "ASSERT_NOT": "lookahead or lookbehind",
    "AT": "an anchor inside",
    "GROUPREF": "a backreference",
    "GROUPREF_EXISTS": "a conditional group",
    "ATOMIC_GROUP": "an atomic group",
    "POSSESSIVE_REPEAT": "a possessive repetition",
}


def _parse(text: str) -> list[tuple[Any, Any]]:
    try:
        tree = _parser.parse(text)
    except (re.error, OverflowError, RecursionError) as error:
        raise PatternError(str(error)) from None
    if tree.state.flags & ~re.UNICODE.value:
        raise PatternError("it uses flags")
    return list(tree)


def _without_anchors(parts: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Return the pattern without ``^`` at its start and ``$`` at its end, which mean nothing for a whole text."""
    if parts and str(parts[0][1]) in ("AT_BEGINNING", "AT_BEGINNING_STRING"):
        parts = parts[1:]
    if parts and str(parts[-1][1]) in ("AT_END", "AT_END_STRING"):
        parts = parts[:-1]
    return parts


def _test_of(kind: str, argument: Any) -> _Test:
    if kind == "LITERAL":
        return chr(argument).__eq__
    if kind == "NOT_LITERAL":
        return chr(argument).__ne__
    if kind == "ANY":
        return "\n".__ne__
    negated = str(argument[0][0]) == "NEGATE"
    tests = [_member(str(item), value) for item, value in (argument[1:] if negated else argument)]
    return lambda c: any(test(c) for test in tests) is not negated


def _member(kind: str, value: Any) -> _Test:
    if kind == "LITERAL":
        return chr(value).__eq__
    if kind == "RANGE":
        low, high = map(chr, value)
        return lambda c: low <= c <= high
    name = str(value)
    test = _CATEGORIES[name.replace("_NOT_", "_")]
    return (lambda c: not test(c)) if "_NOT_" in name else test

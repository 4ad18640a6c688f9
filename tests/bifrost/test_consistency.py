"""The checks of the soak find what is inconsistent."""

from __future__ import annotations

from typing import Any

import pytest
from consistency import History, Read, Write

ROW = ("notes", "a")
#: A write of client 1, of client 2, a write of unknown outcome, and a delete of client 1.
WRITES = [
    Write(1, ROW, 1, sent=0.0, version=10, acked=0.5),
    Write(2, ROW, 2, sent=1.0, version=11, acked=1.5),
    Write(2, ROW, 3, sent=2.0),
    Write(1, ROW, None, sent=4.0, version=20, acked=4.5),
]


def read(value: Any, client: int = 3, sent: float = 1.6, seen: int = 0, version: int = 10) -> Read:
    """Return a read of the row."""
    return Read(client, sent, seen, version, True, {ROW: value})


@pytest.mark.parametrize(
    "fine",
    [
        pytest.param(read(None, sent=0.6, version=9), id="others may miss it for a second"),
        pytest.param(read(1), id="an older value, for less than a second"),
        pytest.param(read(1, client=1), id="the own write"),
        pytest.param(read(2, sent=0.9, version=11), id="before the acknowledgement"),
        pytest.param(read(3, sent=4.4, version=12), id="unknown outcome: done"),
        pytest.param(read(2, sent=4.4, version=19), id="unknown outcome: not done"),
        pytest.param(read(None, sent=9.0, version=21), id="deleted"),
    ],
)
def test_consistent_read_is_accepted(fine: Read) -> None:
    """Nothing is said about it."""
    assert History(WRITES, [fine]).check()[0] == []


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        (read(1, client=2), "older than an own write"),
        (read(None, client=1, sent=0.6, version=9), "older than an own write"),
        (read(1, sent=2.6), "acknowledged 1.100 s before"),
        (read(3, sent=6.0, version=19), "acknowledged 1.500 s before"),
        (read(1, version=11), "not the state of its version"),
        (read(None, sent=1.4, version=11), "not the state of its version"),
        (read(2, version=10), "newer than its version"),
        (read(1, seen=11), "the client has seen 11"),
        (read(7), "not written"),
    ],
)
def test_inconsistent_read_is_found(wrong: Read, problem: str) -> None:
    """The text says what is wrong."""
    assert [problem in each for each in History(WRITES, [wrong]).check()[0]] == [True]


def test_unknown_delete_may_have_happened() -> None:
    """Until the next write of its row."""
    writes = [*WRITES[:2], Write(2, ROW, None, sent=3.0), Write(2, ROW, 5, sent=5.0, version=30, acked=5.1)]
    before, after = read(None, sent=4.0, version=12), read(None, sent=5.2, version=31)
    problems, stale = History(writes, [before, after]).check()
    assert ["not the state" in each or "acknowledged" in each for each in problems] == [True]
    assert stale == pytest.approx([0.0, 4.7])

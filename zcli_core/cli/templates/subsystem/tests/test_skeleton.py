"""Which functions are called, and when they are not called any more."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from zCLI import zCLI

from zcli_skeleton.scheduler import SkeletonScheduler

WAIT = 20.0


@pytest.fixture
def z(tmp_path: Path) -> Iterator[zCLI]:
    """An application in which functions may run often."""
    with zCLI({"deployment": "Production", "logger_path": str(tmp_path), "skeleton": {"shortest": 0.001}}) as z:
        yield z


@pytest.fixture
def scheduler(z: zCLI) -> SkeletonScheduler:
    """``z.skeleton``, with its type."""
    return z.subsystem("skeleton", SkeletonScheduler)


def test_attribute_is_the_subsystem(z: zCLI, scheduler: SkeletonScheduler) -> None:
    """Scripts use the attribute."""
    assert z.skeleton is scheduler  # type: ignore[attr-defined]


def test_function_is_called_again_and_again(z: zCLI, scheduler: SkeletonScheduler) -> None:
    """It gets the application."""
    calls: list[object] = []
    enough = threading.Event()

    def count(app: object) -> None:
        calls.append(app)
        if len(calls) == 3:
            enough.set()

    scheduler.every(0.001, count)
    assert enough.wait(WAIT)
    assert set(map(id, calls)) == {id(z)}


def test_function_that_raises_is_called_again(scheduler: SkeletonScheduler) -> None:
    """The others are called as well."""
    failed, called = threading.Semaphore(0), threading.Event()

    def fail(app: object) -> None:
        failed.release()
        raise ValueError("of the test")

    scheduler.every(0.001, fail)
    scheduler.every(0.002, lambda app: called.set())
    assert failed.acquire(timeout=WAIT)
    assert failed.acquire(timeout=WAIT)
    assert called.wait(WAIT)


@pytest.mark.parametrize("seconds", [0, -1, 0.0001, float("nan")])
def test_interval_too_short_raises(scheduler: SkeletonScheduler, seconds: float) -> None:
    """The error names the setting."""
    with pytest.raises(ValueError, match=r"skeleton\.shortest"):
        scheduler.every(seconds, print)


def test_close_ends_the_calls(z: zCLI, scheduler: SkeletonScheduler) -> None:
    """The object closes it; afterwards it takes no function."""
    called = threading.Event()
    scheduler.every(0.001, lambda app: called.set())
    assert called.wait(WAIT)
    z.close()
    called.clear()
    with pytest.raises(RuntimeError, match="closed"):
        scheduler.every(1, print)
    assert not called.is_set()

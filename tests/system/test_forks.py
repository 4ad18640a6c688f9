"""Objects are called in the child after a fork, even if another object raises an error."""

from __future__ import annotations

import os

import pytest

from zcli_core.system.forks import call_after_fork


class Counted:
    """Counts its calls."""

    called = False

    def _after_fork(self) -> None:
        self.called = True


class Broken:
    """Raises an error in ``_after_fork()``."""

    def _after_fork(self) -> None:
        raise OSError("too many open files")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_fork_broken_object_does_not_stop_the_others() -> None:
    """The exit status of the child is the number of calls."""
    things = [Counted() if number % 2 else Broken() for number in range(20)]
    for thing in things:
        call_after_fork(thing)
    child = os.fork()
    if child == 0:
        os._exit(sum(isinstance(thing, Counted) and thing.called for thing in things))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 10

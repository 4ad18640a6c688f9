"""Telling one process from another, by both of the sources that systems have."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from needs import needs
from service_servers import until

from zcli_core.launchers import processes
from zcli_core.launchers.processes import Process

READERS = [
    pytest.param(
        processes._from_proc,
        id="/proc",
        marks=pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux has it"),
    ),
    pytest.param(processes._from_ps, id="ps"),
]
Look = Callable[[int], Process | None]


@pytest.mark.parametrize("look", READERS)
def test_a_process_is_itself_and_nobody_else_for_as_long_as_it_lives(look: Look) -> None:
    needs("ps", "procps")
    with subprocess.Popen(["sleep", "1000"]) as child:
        until(lambda: (found := look(child.pid)) and found.name == "sleep", "it is called sleep")
        found = look(child.pid)
        assert found is not None
        assert found.pid == child.pid
        assert found.same_as(found._replace(name=""))
        assert not found.same_as(found._replace(started="another time"))
        assert not found.same_as(found._replace(name="nap"))
        os.kill(child.pid, signal.SIGSTOP)
        still = look(child.pid)
        assert still is not None
        assert still.same_as(found), "a frozen process is alive"
        child.kill()
        # Nobody has waited for it yet: it has a number, and is dead all the same.
        until(lambda: look(child.pid) is None, "it is not alive")
        child.wait()
        assert look(child.pid) is None


@pytest.mark.parametrize("look", READERS)
def test_ourselves_are_found(look: Look) -> None:
    found = look(os.getpid())
    assert found is not None
    assert found.same_as(look(os.getpid()) or Process(0, "", ""))


@pytest.mark.parametrize("pid", [0, -1, -5])
def test_numbers_that_no_process_has(pid: int) -> None:
    """They would mean whole groups of processes to kill()."""
    assert processes.look_up(pid) is None


_FIRST_THREAD_ENDS = """
import ctypes, os, sys, threading

def go_on():
    sys.stdin.read()
    os._exit(0)

threading.Thread(target=go_on).start()
ctypes.CDLL(None).pthread_exit(None)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells it of each thread")
def test_a_process_is_alive_until_its_last_thread_has_ended() -> None:
    """Ending takes a moment where there are several: its ports are held until the last one is gone."""
    with subprocess.Popen([sys.executable, "-c", _FIRST_THREAD_ENDS], stdin=subprocess.PIPE) as child:
        assert child.stdin is not None

        def state() -> str:
            with open(f"/proc/{child.pid}/stat") as file:
                return file.read().rpartition(")")[2].split()[0]

        until(lambda: state() == "Z", "its first thread has ended")
        assert processes.look_up(child.pid) is not None
        child.stdin.close()
        until(lambda: processes.look_up(child.pid) is None, "all of it has ended")

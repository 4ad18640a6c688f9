"""Identifying a process, and finding the process that uses a folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from service_servers import free_ports, until

from zcli_core.services.launchers import processes
from zcli_core.services.launchers.processes import Process, is_frozen, look_up, process_in, uses_folder


def test_process_is_the_same_while_it_lives() -> None:
    """It is not the same as another process, and gone after its end."""
    with subprocess.Popen(["sleep", "1000"]) as child:
        until(lambda: (found := look_up(child.pid)) and found.name == "sleep", "it is called sleep")
        found = look_up(child.pid)
        assert found is not None
        assert found.pid == child.pid
        assert found.same_as(found._replace(name=""))
        assert not found.same_as(found._replace(started="another time"))
        assert not found.same_as(found._replace(name="nap"))
        assert not is_frozen(child.pid)
        os.kill(child.pid, signal.SIGSTOP)
        until(lambda: is_frozen(child.pid), "it is frozen")
        still = look_up(child.pid)
        assert still is not None
        assert still.same_as(found), "a frozen process is alive"
        child.kill()
        # Its parent has not waited for it yet: it has an id, but it is a zombie.
        until(lambda: look_up(child.pid) is None, "it is not alive")
        child.wait()
        assert look_up(child.pid) is None


def test_look_up_finds_our_process() -> None:
    """Name, user and folder are ours."""
    found = look_up(os.getpid())
    assert found is not None
    assert found.same_as(look_up(os.getpid()) or Process(0, "", ""))


@pytest.mark.parametrize("how", ["works in it", "names it", "has a file open"])
def test_uses_folder_finds_each_kind_of_use(tmp_path: Path, how: str) -> None:
    """A process that works in the folder, names it or has a file there open uses it, by any name of the folder."""
    real, link = tmp_path / "real", tmp_path / "link"
    (real / "below").mkdir(parents=True)
    link.symlink_to(real)
    (real / "below" / "file").touch()
    command = {
        "works in it": ["sleep", "1000"],
        "names it": ["sh", "-c", "echo; read x", "sh", f"--data={real}/"],
        "has a file open": ["sh", "-c", f"exec 9<{real}/below/file; echo; read x"],
    }[how]
    folder = real if how == "works in it" else tmp_path
    with subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            if how != "works in it":
                assert child.stdout is not None
                child.stdout.readline()
            until(lambda: uses_folder(child.pid, link), "it uses the folder")
            assert uses_folder(child.pid, tmp_path / "real" / "below") is False or how == "has a file open"
            if how == "works in it":
                found = process_in(link, {"sleep"})
                assert found is not None
                assert found.pid == child.pid
                assert process_in(link, {"other"}) is None
        finally:
            child.kill()


def test_status_stopped_imports_no_psutil(isolated: Path) -> None:
    """psutil is needed only for processes and the holder of a port."""
    ports = dict(zip(("postgresql", "redis", "mongodb", "nats"), free_ports(4), strict=True))
    services = {"folder": str(isolated / "services"), **{name: {"port": port} for name, port in ports.items()}}
    code = (
        "import sys; from zCLI import zCLI\n"
        f"z = zCLI({{'deployment': 'Testing', 'logger': 'PROD', 'services': {services!r}}})\n"
        "assert not any(each['running'] for each in z.comm.service_status().values())\n"
        f"assert z.comm.check_port({ports['redis']})\n"
        "z.close(); print('psutil' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=isolated, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


@pytest.mark.parametrize("pid", [0, -1, -5, 2**40])
def test_look_up_invalid_id_is_none(pid: int) -> None:
    """For ``kill()`` such an id means a group of processes."""
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
def test_process_lives_until_its_last_thread_ends() -> None:
    """Its ports are held until the last thread has ended."""
    with subprocess.Popen([sys.executable, "-c", _FIRST_THREAD_ENDS], stdin=subprocess.PIPE) as child:
        assert child.stdin is not None

        def state() -> str:
            with open(f"/proc/{child.pid}/stat") as file:
                return file.read().rpartition(")")[2].split()[0]

        until(lambda: state() == "Z", "its first thread has ended")
        assert processes.look_up(child.pid) is not None
        child.stdin.close()
        until(lambda: processes.look_up(child.pid) is None, "all of it has ended")

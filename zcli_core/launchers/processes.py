"""Telling one process from another that was given its number later, and from one that has ended."""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

_LINUX = sys.platform.startswith("linux")


class Process(NamedTuple):
    """A process that is alive. ``started`` is when, in whatever form the system tells; it never changes."""

    pid: int
    started: str
    name: str

    def same_as(self, other: Process) -> bool:
        """Whether it is that very process; the name may still be the shell's that started it, and then be empty."""
        names_fit = not (self.name and other.name) or self.name == other.name
        return self.pid == other.pid and self.started == other.started and names_fit


def look_up(pid: int) -> Process | None:
    """The process of that number, or None if there is none alive. One that nobody has waited for is not alive."""
    if pid <= 0:
        return None
    return _from_proc(pid) if _LINUX else _from_ps(pid)


def _from_proc(pid: int) -> Process | None:
    """https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html, fields 2, 3, 20 and 22."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            text = file.read()
    except OSError:
        return None
    name = text[text.find("(") + 1 : text.rfind(")")]
    fields = text[text.rfind(")") + 2 :].split()
    # The first of several threads may have ended while others go on, and hold its ports.
    has_ended = fields[0] in "ZXx" and int(fields[17]) <= 1
    return None if has_ended else Process(pid, fields[19], name)


def _from_ps(pid: int) -> Process | None:
    """POSIX's ps, with ``lstart``, which Linux, macOS and the BSDs have."""
    import subprocess

    try:
        done = subprocess.run(  # noqa: S603
            ["ps", "-o", "stat=", "-o", "lstart=", "-o", "comm=", "-p", str(pid)],  # noqa: S607
            capture_output=True,
            text=True,
            env={**os.environ, "LC_ALL": "C"},
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    fields = done.stdout.split(None, 6)
    if done.returncode or len(fields) < 7 or fields[0].startswith("Z"):
        return None
    return Process(pid, " ".join(fields[1:6]), os.path.basename(fields[6].strip()))

"""The cost of a whole process that makes a ``zCLI``, compared with one that imports requests."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile

from tests.benchmarks.report import Row, pinned

OURS = "from zCLI import zCLI; zCLI({})"
PEER = "import requests"
TURNS = 21


def measure(turns: int = TURNS) -> list[Row]:
    """Return CPU milliseconds of whole processes, user and system, medians of interleaved turns on one processor."""
    costs: dict[str, list[float]] = {OURS: [], PEER: []}
    with pinned(), tempfile.TemporaryDirectory() as home:
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "ZCLI_", "XDG_"))}
        environment["HOME"] = home
        for code in costs:  # compiles all modules
            _cpu(code, environment)
        for _ in range(turns):
            for code, found in costs.items():
                found.append(_cpu(code, environment))
    ours, theirs = (statistics.median(costs[code]) for code in (OURS, PEER))
    return [Row("a process of zCLI({})", ours, PEER, theirs, "ms", 0.5)]


def _cpu(code: str, environment: dict[str, str]) -> float:
    process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{code!r} ended with status {process.returncode}")
    return (usage.ru_utime + usage.ru_stime) * 1000

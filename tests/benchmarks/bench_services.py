"""The cost of the status of three services, none of them running, compared with one and with bare connections."""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from tests.benchmarks.report import Row
from zCLI import zCLI
from zcli_core.net.ports import find_free_port

TURNS = 31
#: The budget for the status of all three, in milliseconds.
BUDGET = 50.0
NAMES = ("postgresql", "redis", "mongodb", "nats")

_COLD = """
import time
from zCLI import zCLI
z = zCLI({"deployment": "Testing", "logger": "PROD"})
began = time.perf_counter()
z.comm.service_status()
print((time.perf_counter() - began) * 1000)
z.close()
"""


def measure(turns: int = TURNS) -> list[Row]:
    """Return wall-clock milliseconds, medians of interleaved turns; every port refuses connections."""
    ports = {name: find_free_port() for name in NAMES}
    services = {name: {"port": port} for name, port in ports.items()}
    with tempfile.TemporaryDirectory() as home, zCLI(_quiet(home, services)) as z:
        work: dict[str, Callable[[], object]] = {
            "all": z.comm.service_status,
            "one": lambda: z.comm.service_status("postgresql"),
            "bare": lambda: [_refused(port) for port in ports.values()],
        }
        costs: dict[str, list[float]] = {name: [] for name in work}
        for ask in work.values():  # imports all modules
            ask()
        for _ in range(turns):
            for name, ask in work.items():
                began = time.perf_counter()
                ask()
                costs[name].append((time.perf_counter() - began) * 1000)
        cold = statistics.median(_cold(home, services) for _ in range(max(3, turns // 6)))
    every, one, bare = (statistics.median(costs[name]) for name in ("all", "one", "bare"))
    return [
        Row("service_status() of all, none running", every, "its budget", BUDGET, "ms", 1.0),
        Row("the first call of a process, imports included", cold, "its budget", BUDGET, "ms", 1.0),
        Row("service_status() of all, none running", every, "service_status() of one", one, "ms"),
        Row("service_status() of all, none running", every, "as many refused connections", bare, "ms"),
        _silence(),
    ]


def _silence() -> Row:
    """Servers that accept and send nothing: all of them must take the time of one probe."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        port = server.getsockname()[1]
        services = {name: {"port": port} for name in NAMES}
        with tempfile.TemporaryDirectory() as home, zCLI(_quiet(home, {**services, "timeout": 0.3})) as z:
            began = time.perf_counter()
            z.comm.service_status("redis")
            one = time.perf_counter() - began
            began = time.perf_counter()
            z.comm.service_status()
            every = time.perf_counter() - began
    return Row("asking all, with silent servers", every * 1000, "asking one", one * 1000, "ms", 1.5)


def _quiet(home: str, services: dict[str, object]) -> dict[str, object]:
    quiet = {"deployment": "Testing", "logger": "PROD", "logger_path": home, "title": "bench"}
    return {**quiet, "services": {"folder": home, **services}}


def _refused(port: int) -> None:
    with socket.socket() as client:
        client.connect_ex(("127.0.0.1", port))


def _cold(home: str, services: dict[str, dict[str, int]]) -> float:
    ports = {f"ZCLI_SERVICES_{name.upper()}_PORT": str(section["port"]) for name, section in services.items()}
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ZCLI_", "XDG_", "PYTHON"))}
    done = subprocess.run(
        [sys.executable, "-c", _COLD],
        env={**kept, **ports, "HOME": home, "ZCLI_SERVICES_FOLDER": home},
        cwd=home,
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)

"""What asking three services costs where none of them runs, beside asking one and beside three bare connections."""

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
    """Wall-clock milliseconds, medians of interleaved turns; every port is one that refuses connections."""
    ports = [find_free_port() for _ in range(3)]
    services = {name: {"port": port} for name, port in zip(("postgresql", "redis", "mongodb"), ports, strict=True)}
    with tempfile.TemporaryDirectory() as home, zCLI(_quiet(home, services)) as z:
        work: dict[str, Callable[[], object]] = {
            "three": z.comm.service_status,
            "one": lambda: z.comm.service_status("postgresql"),
            "bare": lambda: [_refused(port) for port in ports],
        }
        costs: dict[str, list[float]] = {name: [] for name in work}
        for ask in work.values():  # imports what is not imported yet
            ask()
        for _ in range(turns):
            for name, ask in work.items():
                began = time.perf_counter()
                ask()
                costs[name].append((time.perf_counter() - began) * 1000)
        cold = statistics.median(_cold(home, services) for _ in range(max(3, turns // 6)))
    three, one, bare = (statistics.median(costs[name]) for name in ("three", "one", "bare"))
    return [
        Row("service_status() of three, none running", three, "its budget", BUDGET, "ms", 1.0),
        Row("the first call of a process, imports included", cold, "its budget", BUDGET, "ms", 1.0),
        Row("service_status() of three, none running", three, "service_status() of one", one, "ms"),
        Row("service_status() of three, none running", three, "three refused connections", bare, "ms"),
        _silence(),
    ]


def _silence() -> Row:
    """Three servers that accept and say nothing: all three must take one probe's time, not three."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        port = server.getsockname()[1]
        services = {name: {"port": port} for name in ("postgresql", "redis", "mongodb")}
        with tempfile.TemporaryDirectory() as home, zCLI(_quiet(home, {**services, "timeout": 0.3})) as z:
            began = time.perf_counter()
            z.comm.service_status("redis")
            one = time.perf_counter() - began
            began = time.perf_counter()
            z.comm.service_status()
            three = time.perf_counter() - began
    return Row("asking three silent servers", three * 1000, "asking one", one * 1000, "ms", 1.5)


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

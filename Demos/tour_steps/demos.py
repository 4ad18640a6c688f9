"""The guide's demos, each run as a user runs it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from tour_steps.httpbin import find_httpbin
from tour_steps.walk import Tour, expect

_ROOT = Path(__file__).resolve().parent.parent.parent
_DEMOS = Path("Demos", "Layer_0", "zComm_Demo")
_TIMEOUT = 30.0  # seconds

# A regular expression that the output of each demo must contain.
_EXPECTED = {
    "lvl0_hello/1_hello_comm.py": r"(?s)\[zConfig Ready\].*\[zComm Ready\].*zComm is ready",
    "lvl1_network/1_port_check.py": r"(?s)(?:Port +\d+ \(\w+ *\): (?:✓ available|✗ in use)\n){6}",
    "lvl1_network/2_http_get.py": r"Server received: \{'demo': 'zComm', 'level': '1'\}",
    "lvl1_network/3_http_methods.py": r"(?s)GET +200.*POST +200.*PUT +200.*PATCH +200.*DELETE +200",
    "lvl3_services/1_service_check.py": r"[✓✗] PostgreSQL",
    "lvl3_services/2_service_multi.py": r"(?s)PostgreSQL Database.*Redis Cache.*MongoDB Database.*Ready: ",
    "lvl3_services/3_http_errors.py": r"(?s)A response: 404.*A response: 500.*None after.*None after [\d.]+ s, timeout",
}


def show_demos(tour: Tour) -> str:
    folder = tour.folder / "demos"
    folder.mkdir()
    environment = {**_environment(), **tour.once(find_httpbin).variables}
    complaints = []
    for name, expected in _EXPECTED.items():
        tour.print(str(_DEMOS / name), "cyan")
        complaint = _complaint(_run(tour, _ROOT / _DEMOS / name, folder, environment), expected)
        complaints += [f"{name} {complaint}"] if complaint else []
    expect(not complaints, "\n".join(complaints))
    logs = sorted(file.name for file in (folder / "logs").iterdir())
    tour.print(f"files in their working directory: {', '.join(f'logs/{name}' for name in logs)}")
    return f"{len(_EXPECTED)} demos printed the expected text"


def run_demo(tour: Tour, name: str, variables: Mapping[str, str]) -> str:
    """Run one demo in a folder of the tour, with these variables. Show and return its output."""
    folder = tour.folder / "demo"
    folder.mkdir(exist_ok=True)
    tour.print(str(_DEMOS / name), "cyan")
    done = _run(tour, _ROOT / _DEMOS / name, folder, {**_environment(), **variables})
    complaint = _complaint(done, "")
    expect(complaint is None, f"{name} {complaint}")
    return done.stdout


def _environment() -> dict[str, str]:
    inherited = {name: value for name, value in os.environ.items() if name != "ZCLI_ENV_FILE"}
    return {**inherited, "PYTHONUTF8": "1"}


def _run(tour: Tour, demo: Path, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a demo and show its output."""
    done = subprocess.run(
        [sys.executable, str(demo)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=_TIMEOUT,
        check=False,
    )
    tour.print(done.stdout.rstrip(), deeper=2)
    if done.stderr:
        tour.print(done.stderr.rstrip(), "red", deeper=2)
    tour.print("")
    return done


def _complaint(done: subprocess.CompletedProcess[str], expected: str) -> str | None:
    """Return the error in the output, or None."""
    if done.returncode != 0:
        return f"ended with status {done.returncode}"
    if done.stderr:
        return "wrote to standard error"
    return None if re.search(expected, done.stdout) else "did not print the expected text"

"""The guide's demos, each run as anybody would run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tour_steps.httpbin import find_httpbin
from tour_steps.walk import Tour, expect

_ROOT = Path(__file__).resolve().parent.parent.parent
_DEMOS = Path("Demos", "Layer_0", "zComm_Demo")
_LONGEST = 30.0

# What each must print, as a regular expression that is searched for.
_EXPECTED = {
    "lvl0_hello/1_hello_comm.py": r"(?s)\[zConfig Ready\].*\[zComm Ready\].*zComm is ready",
    "lvl1_network/1_port_check.py": r"(?s)(?:Port +\d+ \(\w+ *\): (?:✓ available|✗ in use)\n){6}",
    "lvl1_network/2_http_get.py": r"Server received: \{'demo': 'zComm', 'level': '1'\}",
    "lvl1_network/3_http_methods.py": r"(?s)GET +200.*POST +200.*PUT +200.*PATCH +200.*DELETE +200",
    "lvl3_services/3_http_errors.py": r"(?s)An answer: 404.*An answer: 500.*None after.*None after [\d.]+ s, timeout",
}


def show_demos(tour: Tour) -> str:
    folder = tour.folder / "demos"
    folder.mkdir()
    inherited = {name: value for name, value in os.environ.items() if name != "ZCLI_ENV_FILE"}
    environment = {**inherited, **tour.once(find_httpbin).variables, "PYTHONUTF8": "1"}
    complaints = []
    for name, expected in _EXPECTED.items():
        tour.say(str(_DEMOS / name), "cyan")
        complaint = _complaint(tour, _ROOT / _DEMOS / name, expected, folder, environment)
        complaints += [f"{name} {complaint}"] if complaint else []
    expect(not complaints, "\n".join(complaints))
    logs = sorted(file.name for file in (folder / "logs").iterdir())
    tour.say(f"and in the folder they ran in: {', '.join(f'logs/{name}' for name in logs)}")
    return f"{len(_EXPECTED)} demos printed what they should"


def _complaint(tour: Tour, demo: Path, expected: str, folder: Path, environment: dict[str, str]) -> str | None:
    """Run a demo and show what it prints; what is wrong with that, or None."""
    done = subprocess.run(
        [sys.executable, str(demo)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=_LONGEST,
        check=False,
    )
    tour.say(done.stdout.rstrip(), deeper=2)
    if done.stderr:
        tour.say(done.stderr.rstrip(), "red", deeper=2)
    tour.say("")
    if done.returncode != 0:
        return f"ended with status {done.returncode}"
    if done.stderr:
        return "wrote to its standard error"
    return None if re.search(expected, done.stdout) else "did not print what it should"

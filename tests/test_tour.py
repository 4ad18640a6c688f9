"""The tour, run as the README's first command runs it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from script_runs import (
    DEMOS,
    ROOT,
    files_of_the_repository,
    plain_environment,
    run_script,
    started_script,
)

pytestmark = pytest.mark.slow

TOUR = DEMOS / "tour.py"
STEPS = 14


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """Where the tour makes its temporary folder."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def _verdicts(printed: str) -> list[str]:
    return re.findall(r"^[✓✗]", printed, re.MULTILINE)


def test_every_step_holds_on_this_machine_alone(tmp_path: Path, scratch: Path) -> None:
    """It ends with status 0, says of every step that it held, fits 80 columns, and leaves no file anywhere."""
    before = files_of_the_repository()
    done = run_script(TOUR, "--local", folder=tmp_path, variables={"TMPDIR": str(scratch)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert _verdicts(done.stdout) == ["✓"] * STEPS
    assert f"All {STEPS} steps passed" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert list(scratch.iterdir()) == []
    assert list(tmp_path.iterdir()) == [scratch]
    assert {file for file in files_of_the_repository() - before if "Demos" in file.parts} == set()


def test_what_it_shows_is_what_came_back(tmp_path: Path) -> None:
    """The layers, the ports, both schemes and the demos are there, and a secret is not."""
    printed = run_script(TOUR, "--local", folder=tmp_path).stdout
    for layer in ("defaults", "machine", "environment", ".zEnv", "zSpark"):
        assert re.search(rf"^   (http|websocket)\.\w+ +\S+ +{re.escape(layer)} ", printed, re.MULTILINE), layer
    assert "'abc' from .zEnv:3 (WEBSOCKET_PORT)" in printed
    assert "<secret>" in printed
    assert "not-shown-anywhere" not in printed
    for scheme in ("http", "https"):
        assert re.search(rf"^   {scheme}://127\.0\.0\.1:\d+\n   GET +200 OK", printed, re.MULTILINE)
    for demo in sorted((DEMOS / "Layer_0").glob("**/*.py")):
        assert demo.relative_to(ROOT).as_posix() in printed
    assert "     Server received: {'demo': 'zComm', 'level': '1'}\n" in printed


def test_the_httpbin_that_is_asked_for_is_used(tmp_path: Path, httpbin_https: Any) -> None:
    """HTTPBIN_URL in a .zEnv file leads the requests and the demos there."""
    (tmp_path / ".zEnv").write_text(f"HTTPBIN_URL={httpbin_https.url}\nZCLI_HTTP_CA_FILE={httpbin_https.ca_file}\n")
    done = run_script(TOUR, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"https?://127\.0\.0\.1:\d+$", done.stdout, re.MULTILINE) == [httpbin_https.url]
    assert "the httpbin that HTTPBIN_URL names" in done.stdout


def test_steps_that_fail_are_told_and_the_others_go_on(tmp_path: Path, scratch: Path) -> None:
    """With an httpbin that is not there, HTTP and the demos do not hold, everything else does; the status is 1."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        done = run_script(TOUR, folder=tmp_path, variables={"HTTPBIN_URL": url, "TMPDIR": str(scratch)})
    assert done.returncode == 1
    assert done.stderr == ""
    assert _verdicts(done.stdout) == ["✓", "✓", "✓", "✓", "✗", "✗", "✓", "✗", "✓", "✓", "✓", "✓", "✗", "✓"]
    assert re.search(r"^✗ +GET http://127\.0\.0\.1:\d+/get\?demo=\*\*\*: refused", done.stdout, re.MULTILINE)
    assert f"4 of {STEPS} steps failed" in done.stdout
    assert list(scratch.iterdir()) == []


def test_a_configuration_that_cannot_be_used_fails_with_its_cause(tmp_path: Path) -> None:
    """A wrong value in the user's own environment is a step's verdict, not a traceback."""
    done = run_script(TOUR, "--local", folder=tmp_path, variables={"ZCLI_HTTP_TIMEOUT": "soon"})
    assert done.returncode == 1
    assert done.stderr == ""
    assert re.search(r"^✗ +http\.timeout: 'soon' from ZCLI_HTTP_TIMEOUT", done.stdout, re.MULTILINE)
    assert _verdicts(done.stdout)[1:3] == ["✓", "✓"]


def test_a_transport_that_is_disabled_fails_the_steps_that_need_it(tmp_path: Path) -> None:
    """Taking a plugin away is seen, and named."""
    done = run_script(TOUR, "--local", folder=tmp_path, variables={"ZCLI_PLUGINS_DISABLE": "zcli_urllib3"})
    assert done.returncode == 1
    assert re.search(r"^✗ +not active: zcli_urllib3", done.stdout, re.MULTILINE)
    assert _verdicts(done.stdout)[3] == "✓"


@pytest.mark.skipif(sys.platform == "win32", reason="signals as POSIX has them")
@pytest.mark.parametrize(
    ("how", "times", "status"), [(signal.SIGINT, 1, 130), (signal.SIGINT, 2, 130), (signal.SIGTERM, 1, 143)]
)
def test_an_interrupted_tour_ends_what_it_started(
    tmp_path: Path, scratch: Path, how: signal.Signals, times: int, status: int
) -> None:
    """Ctrl+C, also an impatient one, or SIGTERM amid the requests: no process and no file is left."""
    with started_script(TOUR, "--local", folder=tmp_path, variables={"TMPDIR": str(scratch)}) as tour:
        assert tour.stdout is not None
        for line in tour.stdout:
            if "a response that takes 8 s" in line or "https://127.0.0.1" in line:
                break
        else:
            pytest.fail("the tour has not come to its requests")
        for _ in range(times):
            if how == signal.SIGINT:
                os.killpg(tour.pid, how)  # as a terminal does it: to the tour and to all it started
            else:
                tour.send_signal(how)
        rest = tour.stdout.read()
        assert tour.wait(60) == status, rest
        assert "Traceback" not in rest
        assert _group_is_gone(tour.pid)
    assert list(scratch.iterdir()) == []


def _group_is_gone(group: int) -> bool:
    """Whether, within a while, no process of that group is left."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_it_says_what_to_install_where_zcli_is_missing(tmp_path: Path) -> None:
    """Run by a Python without zCLI, it gives the command instead of a traceback."""
    # -S leaves out site-packages, and with it whatever is installed.
    command = [sys.executable, "-E", "-S", str(TOUR)]
    done = subprocess.run(
        command, cwd=tmp_path, env=plain_environment(tmp_path), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "pip install" in done.stderr
    assert "Traceback" not in done.stderr

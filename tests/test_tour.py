"""The tour, run as the first command of the README runs it."""

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
STEPS = 16


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """The folder in which the tour makes its temporary folder."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    return folder


def _marks(printed: str) -> list[str]:
    return re.findall(r"^[✓✗]", printed, re.MULTILINE)


def test_tour_local_passes_every_step(tmp_path: Path, scratch: Path) -> None:
    """The tour passes every step with status 0, fits into 80 columns, and leaves no file."""
    before = files_of_the_repository()
    done = run_script(TOUR, "--local", folder=tmp_path, variables={"TMPDIR": str(scratch)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert _marks(done.stdout) == ["✓"] * STEPS
    assert f"All {STEPS} steps passed" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert list(scratch.iterdir()) == []
    assert list(tmp_path.iterdir()) == [scratch]
    assert {file for file in files_of_the_repository() - before if "Demos" in file.parts} == set()


def test_tour_local_shows_layers_and_responses(tmp_path: Path) -> None:
    """The output has all layers, responses over both schemes and all demos, and no secret."""
    printed = run_script(TOUR, "--local", folder=tmp_path).stdout
    for layer in ("defaults", "machine", "environment", ".zEnv", "zSpark"):
        assert re.search(rf"^   (http|websocket)\.\w+ +\S+ +{re.escape(layer)} ", printed, re.MULTILINE), layer
    assert "got 'abc' from .zEnv:3 (WEBSOCKET_PORT)" in " ".join(printed.split())
    assert "<secret>" in printed
    assert "not-shown-anywhere" not in printed
    for scheme in ("http", "https"):
        assert re.search(rf"^   {scheme}://127\.0\.0\.1:\d+\n   GET +200 OK", printed, re.MULTILINE)
    for demo in sorted((DEMOS / "Layer_0").glob("**/*.py")):
        assert demo.relative_to(ROOT).as_posix() in printed
    assert "     Server received: {'demo': 'zComm', 'level': '1'}\n" in printed


def test_tour_zenv_names_the_httpbin(tmp_path: Path, httpbin_https: Any) -> None:
    """The requests and the demos use the httpbin that HTTPBIN_URL in a .zEnv file names."""
    (tmp_path / ".zEnv").write_text(f"HTTPBIN_URL={httpbin_https.url}\nZCLI_HTTP_CA_FILE={httpbin_https.ca_file}\n")
    done = run_script(TOUR, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.findall(r"https?://127\.0\.0\.1:\d+$", done.stdout, re.MULTILINE) == [httpbin_https.url]
    assert "the httpbin that HTTPBIN_URL names" in done.stdout


def test_tour_failed_step_does_not_stop_the_others(tmp_path: Path, scratch: Path) -> None:
    """Without an httpbin, the steps of HTTP and the demos fail, the others pass, and the status is 1."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        done = run_script(TOUR, folder=tmp_path, variables={"HTTPBIN_URL": url, "TMPDIR": str(scratch)})
    assert done.returncode == 1
    assert done.stderr == ""
    assert _marks(done.stdout) == ["✓", "✓", "✓", "✓", "✗", "✗", "✓", "✗", "✓", "✓", "✓", "✓", "✓", "✓", "✗", "✓"]
    assert re.search(r"^✗ +GET http://127\.0\.0\.1:\d+/get\?demo=\*\*\*: refused", done.stdout, re.MULTILINE)
    assert f"4 of {STEPS} steps failed" in done.stdout
    assert list(scratch.iterdir()) == []


def test_tour_invalid_setting_fails_the_step(tmp_path: Path) -> None:
    """An invalid value in the environment is the result of a step, without a traceback."""
    done = run_script(TOUR, "--local", folder=tmp_path, variables={"ZCLI_HTTP_TIMEOUT": "soon"})
    assert done.returncode == 1
    assert done.stderr == ""
    assert "✗  http.timeout must be a number above 0, got 'soon' from" in done.stdout
    assert "ZCLI_HTTP_TIMEOUT" in done.stdout
    assert _marks(done.stdout)[1:3] == ["✓", "✓"]


def test_tour_disabled_plugin_is_named(tmp_path: Path) -> None:
    """The tour fails and names a built-in plugin that is disabled."""
    done = run_script(TOUR, "--local", folder=tmp_path, variables={"ZCLI_PLUGINS_DISABLE": "zcli_urllib3"})
    assert done.returncode == 1
    assert re.search(r"^✗ +not active: zcli_urllib3", done.stdout, re.MULTILINE)
    assert _marks(done.stdout)[3] == "✓"


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
@pytest.mark.parametrize(
    ("how", "times", "status"), [(signal.SIGINT, 1, 130), (signal.SIGINT, 2, 130), (signal.SIGTERM, 1, 143)]
)
def test_tour_interrupted_leaves_nothing(
    tmp_path: Path, scratch: Path, how: signal.Signals, times: int, status: int
) -> None:
    """After Ctrl+C, twice Ctrl+C or SIGTERM during the requests, no process and no file is left."""
    with started_script(TOUR, "--local", folder=tmp_path, variables={"TMPDIR": str(scratch)}) as tour:
        assert tour.stdout is not None
        for line in tour.stdout:
            if "a response that takes 8 s" in line or "https://127.0.0.1" in line:
                break
        else:
            pytest.fail("the tour ended before its requests")
        for _ in range(times):
            if how == signal.SIGINT:
                os.killpg(tour.pid, how)  # as a terminal does: to the tour and to the processes that it started
            else:
                tour.send_signal(how)
        rest = tour.stdout.read()
        assert tour.wait(60) == status, rest
        assert "Traceback" not in rest
        assert _group_is_gone(tour.pid)
    assert list(scratch.iterdir()) == []


def _group_is_gone(group: int) -> bool:
    """Return whether all processes of a group end within 30 seconds."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.02)
    return False


def test_tour_without_zcli_prints_the_command(tmp_path: Path) -> None:
    """In a Python without zCLI, the tour prints the command that installs it, without a traceback."""
    # -S leaves out site-packages, and with it zCLI.
    command = [sys.executable, "-E", "-S", str(TOUR)]
    done = subprocess.run(
        command, cwd=tmp_path, env=plain_environment(tmp_path), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "pip install" in done.stderr
    assert "Traceback" not in done.stderr

"""Running the demos, the tour and the guide's snippets as the programs they are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from installations import clean_environment

ROOT = Path(__file__).resolve().parent.parent
DEMOS = ROOT / "Demos"
LONGEST = 120.0

_NOT_INHERITED = {"httpbin_url", "http_proxy", "https_proxy", "all_proxy", "no_proxy"}


def plain_environment(home: Path, variables: Mapping[str, str] = {}) -> dict[str, str]:
    """The environment of somebody who has set nothing of zCLI's, no proxy, and has an empty home."""
    inherited = clean_environment(os.environ, home)
    kept = {name: value for name, value in inherited.items() if name.lower() not in _NOT_INHERITED}
    return {**kept, "ZCLI_CONFIG_DIR": str(home), "PYTHONUTF8": "1", "COLUMNS": "80", **variables}


def run_script(
    script: Path, *arguments: str, folder: Path, variables: Mapping[str, str] = {}
) -> subprocess.CompletedProcess[str]:
    """Run a Python script in that folder, with warnings as errors, until it ends."""
    return subprocess.run(
        [sys.executable, "-W", "error", str(script), *arguments],
        cwd=folder,
        env=plain_environment(folder, variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=LONGEST,
        check=False,
    )


@contextmanager
def started_script(
    script: Path, *arguments: str, folder: Path, variables: Mapping[str, str] = {}
) -> Iterator[subprocess.Popen[str]]:
    """The same, while it runs, in a process group of its own; whatever of that is left is killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-u", str(script), *arguments],
        cwd=folder,
        env=plain_environment(folder, variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def files_of_the_repository() -> set[Path]:
    """Every file of the checkout, but for what Python, the tests and version control write for themselves."""
    passing = {".git", "__pycache__", ".pytest_cache", ".ruff_cache", ".mypy_cache", ".hypothesis", ".venv"}
    return {Path(top, name) for top, folders, names in _walk(passing) for name in names}


def _walk(passing: set[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    for top, folders, names in os.walk(ROOT):
        folders[:] = [folder for folder in folders if folder not in passing]
        yield top, folders, names

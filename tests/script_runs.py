"""Run the demos, the tour and the guide's snippets as processes."""

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
TIMEOUT = 120.0  # seconds

_NOT_INHERITED = {"httpbin_url", "http_proxy", "https_proxy", "all_proxy", "no_proxy"}


def plain_environment(home: Path, variables: Mapping[str, str] = {}) -> dict[str, str]:
    """Return the environment of a user with an empty home, without settings of zCLI or a proxy, plus ``variables``."""
    inherited = clean_environment(os.environ, home)
    kept = {name: value for name, value in inherited.items() if name.lower() not in _NOT_INHERITED}
    return {**kept, "ZCLI_CONFIG_DIR": str(home), "PYTHONUTF8": "1", "COLUMNS": "80", **variables}


def run_script(
    script: Path, *arguments: str, folder: Path, variables: Mapping[str, str] = {}
) -> subprocess.CompletedProcess[str]:
    """Run a Python script in a folder until it ends, with warnings as errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", str(script), *arguments],
        cwd=folder,
        env=plain_environment(folder, variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT,
        check=False,
    )


@contextmanager
def started_script(
    script: Path, *arguments: str, folder: Path, variables: Mapping[str, str] = {}
) -> Iterator[subprocess.Popen[str]]:
    """Start a Python script in its own process group, and yield it. If it still runs at the end, kill the group."""
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
    """Return all files of the checkout, except those that Python, tools and version control write."""
    ignored = {".git", "__pycache__", ".pytest_cache", ".ruff_cache", ".mypy_cache", ".hypothesis", ".venv"}
    return {Path(top, name) for top, folders, names in _walk(ignored) for name in names}


def _walk(ignored: set[str]) -> Iterator[tuple[str, list[str], list[str]]]:
    for top, folders, names in os.walk(ROOT):
        folders[:] = [folder for folder in folders if folder not in ignored]
        yield top, folders, names

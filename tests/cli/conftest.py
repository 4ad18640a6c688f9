"""Running the command ``zcli``: as a program of its own, or in this process where that is all the same."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from cli_runs import DoneBytes, run_main

from zcli_core.cli.main import make_command

Run = Callable[..., "subprocess.CompletedProcess[str]"]


class Done(NamedTuple):
    """What a command said, and its exit status."""

    status: int
    out: str
    err: str


@pytest.fixture
def zcli(tmp_path: Path) -> Run:
    """Runs ``python -m zCLI`` in an empty folder with an empty home; keyword arguments are variables."""
    (tmp_path / "home").mkdir()
    (tmp_path / "project").mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ZCLI_", "WEBSOCKET_", "XDG_"))}

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "zCLI", *arguments],
            cwd=tmp_path / "project",
            env={**kept, "HOME": str(tmp_path / "home"), **variables},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def run_here(isolated: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Done]:
    """Runs ``zcli`` in this process, in an empty folder with an empty home, on what the fixture ``site`` installs."""

    def run(*arguments: str) -> Done:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            make_command().main(list(arguments), prog_name="zcli")
        code = ended.value.code
        return Done(code if isinstance(code, int) else 0, *capsys.readouterr())

    return run


@pytest.fixture
def zcli_on(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., DoneBytes]:
    """Runs ``zcli`` in this process, in an empty folder, see :func:`cli_runs.run_main` for the arguments."""
    return functools.partial(run_main, monkeypatch)


@pytest.fixture
def doctor(
    run_here: Callable[..., Done], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, dict[str, list[tuple[str, str]]]]]:
    """Runs it with these variables: its status, and by check what it found, as (state, detail)."""

    def run(**variables: str) -> tuple[int, dict[str, list[tuple[str, str]]]]:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        done = run_here("doctor", "--json")
        found: dict[str, list[tuple[str, str]]] = {}
        for item in json.loads(done.out):
            found.setdefault(item["check"], []).append((item["state"], item["detail"]))
        return done.status, found

    return run

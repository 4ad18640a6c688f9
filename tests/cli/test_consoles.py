"""``zcli`` on consoles of any encoding, and with control characters in its output."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_runs import DoneBytes
from script_runs import plain_environment

Run = Callable[..., DoneBytes]
NAME = "grün ✓ \x1b[2J\u202e"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["plugins"],
        ["services"],
        ["services", "--json"],
        ["services", "start", "--help"],
        ["config"],
        ["config", "title"],
        ["config", "--json"],
        ["config", "title", "--json"],
        ["config", "✓"],
        ["doctor"],
        ["reference"],
        ["ports", "1"],
        ["http", "http://127.0.0.1:1/✓"],
        ["ws", "connect", "ws://127.0.0.1:1/✓"],
        ["new", "plugin", "✓", "--kind", "http"],
    ],
    ids=" ".join,
)
def test_console_of_any_encoding_shows_everything(
    zcli_on: Run, monkeypatch: pytest.MonkeyPatch, encoding: str, arguments: list[str]
) -> None:
    """No command ends with a UnicodeEncodeError, and JSON stays valid."""
    monkeypatch.setenv("ZCLI_TITLE", NAME)
    done = zcli_on(*arguments, encoding=encoding)
    assert b"\x1b" not in done.out
    assert "\x1b" not in done.err
    if "--json" in arguments:
        json.loads(done.out.decode(encoding))


@pytest.mark.parametrize(
    "variables", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}], ids=str
)
def test_console_of_the_installed_command(tmp_path: Path, variables: dict[str, str]) -> None:
    """UTF-8 mode is off, as in an old terminal or a pipe on Windows."""
    (tmp_path / ".zEnv").write_text(f'ZCLI_TITLE="{NAME}"\n', encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "zCLI", "config", "title"],
        cwd=tmp_path,
        env=plain_environment(tmp_path, {"PYTHONUTF8": "0", **variables}),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"title = gr\\xfcn \\u2713 \\x1b[2J\\u202e")


def test_table_control_characters_are_escaped(zcli_on: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table escapes the same characters as other lines."""
    monkeypatch.setenv("ZCLI_TITLE", "a\x1b]0;owned\x07\u202eb")
    monkeypatch.setenv("COLUMNS", "200")
    for arguments in (["config"], ["config", "title"]):
        shown = zcli_on(*arguments, terminal=True).out.decode()
        assert "a\\x1b]0;owned\\x07\\u202eb" in shown
        assert not {"\x07", "\u202e"} & set(shown)


@pytest.mark.skipif(os.name != "posix", reason="file names of other systems are text")
def test_error_with_undecodable_name_is_shown(zcli_on: Run) -> None:
    """The name of a folder may hold any byte."""
    os.mkdir(b"\xff\x1b")
    os.chdir(b"\xff\x1b")
    Path(".zEnv").write_text("WEBSOCKET_PORT=abc\n")
    done = zcli_on("ws", "serve")
    assert done.status == 2
    assert "\x1b" not in done.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("arguments", [["plugins"], ["config", "title"], ["reference"]], ids=" ".join)
def test_unwritable_output_is_reported(tmp_path: Path, arguments: list[str]) -> None:
    """That holds for tables, lines and pages."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "zCLI", *arguments],
            cwd=tmp_path,
            env=plain_environment(tmp_path, {}),
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    expected = b"Error: cannot write to standard output: No space left on device\n"
    assert (done.returncode, done.stderr.replace(b"\r", b"")) == (1, expected)

"""``zcli`` on consoles of any encoding, and with text that steers a terminal in what it shows."""

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
    """No command ends in a UnicodeEncodeError, and what it prints for a program is JSON there too."""
    monkeypatch.setenv("ZCLI_TITLE", NAME)
    done = zcli_on(*arguments, encoding=encoding)
    assert b"\x1b" not in done.out
    assert "\x1b" not in done.err
    if "--json" in arguments:
        json.loads(done.out.decode(encoding))


@pytest.mark.parametrize(
    "variables", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}], ids=str
)
def test_console_of_the_program_itself_is_served(tmp_path: Path, variables: dict[str, str]) -> None:
    """The installed command, with UTF-8 mode off, as in an old terminal or a pipe on Windows."""
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
    """A terminal shows them and does not obey them, in a table as in a line."""
    monkeypatch.setenv("ZCLI_TITLE", "a\x1b]0;owned\x07\u202eb")
    monkeypatch.setenv("COLUMNS", "200")
    for arguments in (["config"], ["config", "title"]):
        shown = zcli_on(*arguments, terminal=True).out.decode()
        assert "a\\x1b]0;owned\\x07\\u202eb" in shown
        assert not {"\x07", "\u202e"} & set(shown)


@pytest.mark.skipif(os.name != "posix", reason="file names of other systems are text")
def test_error_with_a_name_that_is_not_text_is_shown(zcli_on: Run) -> None:
    """A folder's name may hold any byte."""
    os.mkdir(b"\xff\x1b")
    os.chdir(b"\xff\x1b")
    Path(".zEnv").write_text("WEBSOCKET_PORT=abc\n")
    done = zcli_on("ws", "serve")
    assert done.status == 2
    assert "\x1b" not in done.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("arguments", [["plugins"], ["config", "title"], ["reference"]], ids=" ".join)
def test_output_that_cannot_be_written_is_told(tmp_path: Path, arguments: list[str]) -> None:
    """By every way of printing: tables, lines and pages."""
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

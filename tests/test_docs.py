"""Every code block of README and CONTRIBUTING is executed, top to bottom, as a reader would do it.

A document's blocks share one folder. What each does is told by its language:

- a block whose first line is a comment that names a file (``# first.py``) is written to that file;
- any other ``python`` block is run as a script;
- a ``console`` block is typed line by line: each ``$`` line is run, and what follows it is what it must print,
  where ``…`` stands for anything;
- a ``bash`` block is one of the two commands that CI itself runs: it must stand behind its marker.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from zcli_core.testing.http.peer import closed_port

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_FILE = re.compile(r"#\s*([\w./-]+\.\w+|\.zEnv)\s*$")


class Block(NamedTuple):
    line: int
    language: str
    code: str
    before: str


def _blocks(document: str) -> Iterator[Block]:
    text = (ROOT / document).read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        before = text[: match.start()].rstrip().rpartition("\n")[2]
        yield Block(text[: match.start()].count("\n") + 1, match[1], match[2], before)


@pytest.fixture
def shell(tmp_path: Path, httpbin: str) -> dict[str, str]:
    """The environment of a reader who has just followed the first command, with httpbin close by."""
    installed = tmp_path / "installed"
    home = tmp_path / "home"
    home.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ZCLI_", "WEBSOCKET_", "PYTHON", "XDG_"))}
    return {
        **kept,
        "HOME": str(home),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), str(installed / "bin"), kept["PATH"]]),
        "HTTPBIN_URL": httpbin,
        "COLUMNS": "100",
        # `pip install .` in a document goes to a folder of its own instead of the developer's environment.
        "PIP_TARGET": str(installed),
        "PIP_NO_BUILD_ISOLATION": "false",
        "PIP_NO_DEPS": "1",
        "PIP_QUIET": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYTHONPATH": str(installed),
    }


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_does_what_the_document_says(
    document: str, tmp_path: Path, shell: dict[str, str], httpbin: str
) -> None:
    """Files are written, scripts run and commands print what is shown."""
    free_port = str(closed_port())  # the reader's 8080 may well be in use
    folder = tmp_path / "reader"
    folder.mkdir()
    for block in _blocks(document):
        where = f"{document}:{block.line}"
        code = block.code.replace("https://httpbin.org", httpbin).replace("8080", free_port)
        named = _FILE.match(code.partition("\n")[0])
        if named:
            (folder / named[1]).parent.mkdir(parents=True, exist_ok=True)
            (folder / named[1]).write_text(code, encoding="utf-8")
        elif block.language == "python":
            _run([sys.executable, "-c", code], folder, shell, where)
        elif block.language == "console":
            _type(code, folder, shell, where)
        elif block.language == "bash":
            assert block.before in ("<!-- tour -->", "<!-- tests -->"), f"{where}: nothing runs this block"
        else:
            pytest.fail(f"{where}: a block of the language {block.language!r} is executed by nothing")


def _type(code: str, folder: Path, shell: dict[str, str], where: str) -> None:
    for part in re.split(r"^\$ ", code, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        printed = _run(["bash", "-c", command], folder, shell, f"{where}: {command}")
        pattern = r"[\s\S]*?".join(re.escape(_squeezed(piece)) for piece in expected.strip().split("…"))
        assert re.fullmatch(pattern, _squeezed(printed.strip())), f"{where}: {command} printed\n{printed}"


def _squeezed(text: str) -> str:
    """Runs of spaces as one: a table's columns are as wide as their cells."""
    return re.sub(r" +", " ", re.sub(r" +$", "", text, flags=re.MULTILINE))


def _run(command: list[str], folder: Path, shell: dict[str, str], where: str) -> str:
    done = subprocess.run(
        command,
        cwd=folder,
        env=shell,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, f"{where} ended with status {done.returncode}:\n{done.stdout}"
    return done.stdout


def test_the_documents_links_lead_somewhere() -> None:
    """Relative links in the documents name files that exist."""
    for document in DOCUMENTS:
        text = (ROOT / document).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
            assert (ROOT / target).exists(), f"{document} links to {target}"

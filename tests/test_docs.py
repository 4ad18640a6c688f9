"""Every code block of README, CONTRIBUTING and docs is executed, top to bottom, as a reader would do it.

The plugin guide is executed by ``tests/scaffold``, because it needs an environment of its own.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import ROOT, Reader, blocks
from service_servers import free_ports, public_folder

OWN_ENVIRONMENT = {"docs/guide/plugins.md"}
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
#: The pages of docs that have code blocks.
PAGES = tuple(
    page
    for page in sorted(file.relative_to(ROOT).as_posix() for file in (ROOT / "docs").rglob("*.md"))
    if next(blocks(page), None)
)
#: The ports that documents name. They may be in use here, by another test for example.
PORTS = ("8080", "8765", "8766", "9464", "16379")


@pytest.fixture
def shell(tmp_path: Path, httpbin: str) -> Iterator[dict[str, str]]:
    """The environment of a reader who has just followed the first command, with httpbin close by."""
    with public_folder() as services:  # root's servers run as another account, which has to get there
        yield _variables(tmp_path, httpbin, services)


def _variables(tmp_path: Path, httpbin: str, services: Path) -> dict[str, str]:
    installed = tmp_path / "installed"
    home = tmp_path / "home"
    home.mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ZCLI_", "WEBSOCKET_", "PYTHON", "XDG_"))}
    return {
        **kept,
        "HOME": str(home),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), str(installed / "bin"), kept["PATH"]]),
        "HTTPBIN_URL": httpbin,
        "ZCLI_SERVICES_FOLDER": str(services),
        "COLUMNS": "100",
        # `pip install .` in a document goes to a folder of its own instead of the developer's environment.
        "PIP_TARGET": str(installed),
        "PIP_NO_BUILD_ISOLATION": "false",
        "PIP_NO_DEPS": "1",
        "PIP_QUIET": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYTHONPATH": str(installed),
        "PYTHONUNBUFFERED": "1",  # as on a terminal
    }


@pytest.mark.parametrize(
    "document",
    [*DOCUMENTS, *(pytest.param(page, marks=pytest.mark.slow) for page in PAGES if page not in OWN_ENVIRONMENT)],
)
def test_document_blocks_do_what_it_says(document: str, tmp_path: Path, shell: dict[str, str], httpbin: str) -> None:
    """Files are written, scripts run and commands print what is shown."""
    folder = tmp_path / "reader"
    folder.mkdir()
    ports = dict(zip(PORTS, map(str, free_ports(len(PORTS))), strict=True))
    Reader(folder, shell, {"https://httpbin.org": httpbin, "./zCLI": str(ROOT), **ports}).follow(document)


def test_document_python_blocks_compile() -> None:
    """A quick check of what the slow tests execute."""
    for document in (*DOCUMENTS, *PAGES):
        for block in blocks(document):
            if block.language == "python":
                compile(block.code, f"{document}:{block.line}", "exec")


def test_document_links_lead_somewhere() -> None:
    """Relative links in README, CONTRIBUTING and CHANGELOG name files; mkdocs checks those of docs."""
    for document in DOCUMENTS:
        text = (ROOT / document).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
            assert (ROOT / target).exists(), f"{document} links to {target}"

"""Every code block of README and CONTRIBUTING is executed, top to bottom, as a reader would do it.

Those of PLUGINS.md are in ``tests/scaffold``, for they need an environment of their own.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import ROOT, Reader
from service_servers import free_ports, public_folder

DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/security.md")


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
    }


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_does_what_the_document_says(
    document: str, tmp_path: Path, shell: dict[str, str], httpbin: str
) -> None:
    """Files are written, scripts run and commands print what is shown."""
    folder = tmp_path / "reader"
    folder.mkdir()
    # The ports that the documents name may be in use here, by another test for example.
    ports = dict(zip(("8080", "16379"), map(str, free_ports(2)), strict=True))
    replacements = {"https://httpbin.org": httpbin, "./zCLI": str(ROOT), **ports}
    Reader(folder, shell, replacements).follow(document)


def test_the_documents_links_lead_somewhere() -> None:
    """Relative links in the documents name files that exist."""
    for document in (*DOCUMENTS, "PLUGINS.md"):
        text = (ROOT / document).read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
            assert (ROOT / target).exists(), f"{document} links to {target}"

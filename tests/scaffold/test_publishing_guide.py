"""Every block of the plugin guide does what it says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import Reader
from fresh_environment import FreshEnvironment, outside_environment
from needs import needs
from service_servers import public_folder

pytestmark = pytest.mark.slow


@pytest.fixture
def public() -> Iterator[Path]:
    """The folder of the project and the service. A server of root runs as another account and must reach it."""
    with public_folder() as folder:
        yield folder


def test_guide_blocks_work(fresh: FreshEnvironment, public: Path) -> None:
    """All blocks run in a fresh environment, up to the installed wheel."""
    needs("memcached", "memcached")
    variables = outside_environment({"ZCLI_SERVICES_FOLDER": str(public / "servers"), "PIP_QUIET": "2"})
    variables["PATH"] = os.pathsep.join([str(fresh.python.parent), variables["PATH"]])
    Reader(public, variables).follow("docs/guide/plugins.md")

"""Every block of PLUGINS.md, "Publish a plugin in ten minutes", does what it says."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from documents import Reader
from fresh_environment import FreshEnvironment, outside_environment
from needs import needs

pytestmark = pytest.mark.slow


@pytest.fixture
def servers() -> Iterator[Path]:
    """Where the service lives. Where we are root it runs as an account of its own, which has to get there."""
    with tempfile.TemporaryDirectory(prefix="zcli-guide-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_every_block_does_what_the_guide_says(fresh: FreshEnvironment, servers: Path, tmp_path: Path) -> None:
    """In an environment that somebody has just made for it, down to the build and the installed wheel."""
    needs("memcached", "memcached")
    variables = outside_environment({"ZCLI_SERVICES_FOLDER": str(servers), "PIP_QUIET": "2"})
    variables["PATH"] = os.pathsep.join([str(fresh.python.parent), variables["PATH"]])
    Reader(tmp_path, variables).follow("PLUGINS.md")

"""What a test needs of the machine: programs, rights and the network.

A test whose need is not met is skipped, and the reason names what is missing. In CI (``CI=true``) it fails instead.
"""

from __future__ import annotations

import os
import shutil
from glob import glob
from pathlib import Path
from typing import NoReturn

import pytest

#: Folders of servers that are often not on PATH.
_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/lib/postgresql/*/bin", "/opt/homebrew/opt/postgresql@*/bin")

#: Tests that use a port which a guide, a demo or a service's default names (5432, 6379, 8080, 8765, 8766, 27017).
#: pytest-xdist runs them one after another on one worker.
usual_ports = pytest.mark.xdist_group("usual_ports")


def missing(what: str) -> NoReturn:
    """Skip the running test because of what the machine lacks; in CI, fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


def needs(program: str, package: str) -> Path:
    """Return the path of a program; ``package`` is the Debian package that has it."""
    found = shutil.which(program) or next(
        (file for folder in _FOLDERS for file in sorted(glob(f"{folder}/{program}"), reverse=True)), None
    )
    if found is None:
        missing(f"the program {program} is not installed (Debian package {package})")
    return Path(found)


def needs_root(what: str) -> None:
    """Skip the running test unless it runs as root, in CI too: CI may run as another user."""
    if os.geteuid() != 0:
        pytest.skip(f"{what} needs root")

"""Programs that a test needs. Without one it is skipped by name, except in CI, where it fails."""

from __future__ import annotations

import os
import shutil
from glob import glob
from pathlib import Path

import pytest

#: Where servers are that are not on everybody's PATH.
_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/lib/postgresql/*/bin", "/opt/homebrew/opt/postgresql@*/bin")


def needs(program: str, package: str) -> Path:
    """The path of a program; ``package`` is the Debian package that has it."""
    found = shutil.which(program) or next(
        (file for folder in _FOLDERS for file in sorted(glob(f"{folder}/{program}"), reverse=True)), None
    )
    if found is not None:
        return Path(found)
    message = f"the program {program} is not installed (Debian's package {package})"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def needs_root(what: str) -> None:
    """Skip what only root can do; CI may run without it."""
    if os.geteuid() != 0:
        pytest.skip(f"{what} takes root")

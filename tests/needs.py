"""Programs that a test needs and that pip does not install."""

from __future__ import annotations

import os
import shutil

import pytest


def needs(program: str, package: str) -> str:
    """The path of a program. Where it is missing the test is skipped by name, and fails in CI.

    ``package`` is the Debian package that has it; ``.ci/run`` installs it if ``program:package`` is in its list.
    """
    found = shutil.which(program)
    if found is None:
        message = f"the program {program} is missing (Debian package {package})"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return found

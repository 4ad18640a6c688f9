"""What the tests of :mod:`zcli_core.net` share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest


@pytest.fixture
def sockets() -> Iterator[contextlib.ExitStack]:
    """Sockets of a test, closed at its end."""
    with contextlib.ExitStack() as stack:
        yield stack

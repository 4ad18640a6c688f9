"""Servers for the tests of the console."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import chromium, open_url  # noqa: F401 - fixtures
from console_serving import ConsoleServer, Serve


@pytest.fixture
def serve(isolated: Path) -> Iterator[Serve]:
    """Return a function that starts a server in Development, or as its settings say; it is stopped after the test."""
    made: list[ConsoleServer] = []

    def start(**zspark: Any) -> ConsoleServer:
        made.append(ConsoleServer(isolated / "logs", zspark))
        return made[-1]

    yield start
    for server in made:
        server.z.close()

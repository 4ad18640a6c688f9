"""Fixtures for the tests of zBifrost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bifrost_databases import make_database, postgresql_server  # noqa: F401 - fixtures
from bifrost_serving import Served

from zcli_core.app import zCLI


@pytest.fixture
def make_z(isolated: Path) -> Iterator[Callable[..., zCLI]]:
    """Return a function that makes zCLI objects with these settings; they are closed after the test."""
    made: list[zCLI] = []

    def make(**settings: Any) -> zCLI:
        quiet = {"deployment": "Production", "logger": "PROD", "logger_path": str(isolated / "logs")}
        made.append(zCLI({**quiet, "title": f"bifrost-{len(made)}", "zMode": "zBifrost", **settings}))
        return made[-1]

    yield make
    for z in made:
        z.close()


@pytest.fixture
def serve(make_z: Callable[..., zCLI]) -> Callable[..., Served]:
    """Return a function that serves zBifrost on a free port, with handlers by the names of their events."""

    def start(handlers: dict[str, Any] | None = None, **settings: Any) -> Served:
        z = make_z(**settings)
        for event, handler in (handlers or {}).items():
            z.bifrost.on(event)(handler)
        return Served(z, z.bifrost.start_background(port=0))

    return start

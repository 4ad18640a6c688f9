"""Fixtures: servers that are linked by a real engine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from engine_processes import ENGINES
from linked import Linked


@pytest.fixture
def unlinked(request: pytest.FixtureRequest, isolated: Path) -> Iterator[Linked]:
    """Objects on an engine that does not run yet: redis, unless the test is parametrized."""
    linked = Linked(getattr(request, "param", "redis"), isolated)
    yield linked
    linked.end()


@pytest.fixture(params=list(ENGINES))
def linked(request: pytest.FixtureRequest, isolated: Path) -> Iterator[Linked]:
    """Objects on each of the engines."""
    linked = Linked(request.param, isolated)
    linked.engine.start()
    yield linked
    linked.end()

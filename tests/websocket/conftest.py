"""Fixtures for the tests of the WebSocket server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from websocket_serving import Certificates, Served

from zcli_core.app import zCLI


@pytest.fixture
def make_z(isolated: Path) -> Iterator[Callable[..., zCLI]]:
    """Return a function that makes zCLI objects with ``websocket`` settings; they are closed after the test."""
    made: list[zCLI] = []

    def make(**settings: Any) -> zCLI:
        settings = {"max_refusal_delay": 0, **settings}  # tests refuse many clients of one address
        quiet = {"deployment": "Production", "logger": "PROD", "logger_path": str(isolated / "logs")}
        made.append(zCLI({**quiet, "title": f"server-{len(made)}", "websocket": settings}))
        return made[-1]

    yield make
    for z in made:
        z.close()
        assert not z.comm.websocket.is_running


@pytest.fixture
def serve(make_z: Callable[..., zCLI]) -> Callable[..., Served]:
    """Return a function that starts background servers on free ports; they are stopped after the test."""

    def start(handler: Any = None, *, on_connect: Any = None, on_disconnect: Any = None, **settings: Any) -> Served:
        z = make_z(**settings)
        where = {} if "unix_path" in settings else {"port": 0}
        handle = z.comm.websocket.start_background(
            handler=handler, on_connect=on_connect, on_disconnect=on_disconnect, **where
        )
        return Served(z, handle)

    return start


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    """Certificates of an authority that is made for this test."""
    return Certificates(tmp_path)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of a contract suite as slow, except for those that its class lists as ``quick``."""
    for item in items:
        quick = getattr(getattr(item, "cls", None), "quick", None)
        if quick is not None and getattr(item, "originalname", "").removeprefix("test_") not in quick:
            item.add_marker(pytest.mark.slow)

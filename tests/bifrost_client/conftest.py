"""Servers for the tests of ``bifrost.js``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bifrost_speaker import Answer, Speaker
from browser import chromium, open_url  # noqa: F401 - fixtures

from zcli_core.app import zCLI


@pytest.fixture
def speak(isolated: Path) -> Iterator[Callable[..., Speaker]]:
    """Return a function that starts a server whose answers the test makes; it is stopped after the test."""
    made: list[zCLI] = []

    def start(answer: Answer | None = None, *, greeting: dict[str, Any] | None = None, **websocket: Any) -> Speaker:
        quiet = {"deployment": "Production", "logger": "PROD", "logger_path": str(isolated / "logs")}
        made.append(zCLI({**quiet, "websocket": {"max_refusal_delay": 0, "drain_timeout": 0.2, **websocket}}))
        return Speaker(made[-1], answer, greeting)

    yield start
    for z in made:
        z.close()

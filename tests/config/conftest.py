"""What the tests of the configuration share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from zcli_core.app import zCLI


@pytest.fixture(autouse=True)
def _isolated(isolated: Path) -> None:
    """Every test here starts with an empty home and no variable of ours."""


@pytest.fixture
def zenv(isolated: Path) -> Callable[[str | bytes], Path]:
    """Writes the ``.zEnv`` of the working directory."""

    def write(text: str | bytes) -> Path:
        file = isolated / ".zEnv"
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


@pytest.fixture
def machine(isolated: Path) -> Callable[[str | bytes], Path]:
    """Writes ``zConfig.machine.yaml`` in the folder that ZCLI_CONFIG_DIR names."""

    def write(text: str | bytes) -> Path:
        file = isolated.parent / "machine" / "zConfig.machine.yaml"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
        return file

    return write


@pytest.fixture
def start() -> Iterator[Callable[..., zCLI]]:
    """Makes zCLI objects that are silent on the console; they are closed with the test."""
    made: list[zCLI] = []

    def make(zspark: Mapping[str, Any] | None = None) -> zCLI:
        made.append(zCLI({"title": "test", "deployment": "Testing", "logger": "PROD", **(zspark or {})}))
        return made[-1]

    yield make
    for z in made:
        z.close()

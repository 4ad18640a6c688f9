"""What tests know of a scaffolded plugin."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Project(NamedTuple):
    """One scaffolded plugin; its name holds a hyphen, so that all forms of a name differ."""

    kind: str
    folder: Path

    @property
    def name(self) -> str:
        """What configuration calls it."""
        return f"my_{self.kind}"

    @property
    def distribution(self) -> str:
        """What pip calls it."""
        return self.folder.name

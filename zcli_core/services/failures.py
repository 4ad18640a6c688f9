"""Why a service could not be started or stopped, kept apart for every thread and every asyncio task."""

from __future__ import annotations

from typing import NamedTuple


class ServiceFailure(NamedTuple):
    """Why a call about a service gave False or None. ``str()`` of it is meant for people.

    ``action`` is ``"start"``, ``"stop"``, ``"restart"`` or ``"connection info"``; ``message`` the cause; ``command``
    what a person could run, exactly, or None; ``log`` the server's own last lines, if it left any. What other programs
    said is printable in all of them.
    """

    service: str
    action: str
    message: str
    command: str | None = None
    log: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.service}: {self.message}"
        if self.command:
            text += f"; this would do it: {self.command}"
        return "\n    ".join([text, *self.log])

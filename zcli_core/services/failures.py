"""Why a service could not be started, stopped or connected to."""

from __future__ import annotations

from typing import NamedTuple


class ServiceFailure(NamedTuple):
    """The cause for which a call about a service returned False or None. ``str()`` gives it as text for a user.

    The texts of other programs in it are printable: control characters are escaped.

    Attributes:
        service: the name of the service.
        action: ``"start"``, ``"stop"``, ``"restart"`` or ``"connection info"``.
        message: the cause.
        command: a complete command that the user can run; None if there is no such command.
        log: the last lines that the server logged; empty if there are none.
    """

    service: str
    action: str
    message: str
    command: str | None = None
    log: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.service}: {self.message}"
        if self.command:
            text += f"; run: {self.command}"
        return "\n    ".join([text, *self.log])

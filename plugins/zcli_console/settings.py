"""The section ``console``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zcli_core.config.settings import Section, setting

if TYPE_CHECKING:
    from zcli_core.config import Config


class Console(Section, name="console"):
    """The console: a page on the WebSocket port that shows the server's clients, rooms and messages."""

    enabled: bool | None = setting(
        None,
        "serve the console, a page for browsers at / of the WebSocket port; if unset, in Development only",
        security=True,
    )


def is_on(config: Config) -> bool:
    """Whether the server of this configuration has a console."""
    enabled = config.section(Console).enabled
    return config.deployment == "Development" if enabled is None else enabled

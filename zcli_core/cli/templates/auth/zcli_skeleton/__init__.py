"""Skeleton: API keys for zCLI's WebSocket server.

Every start of every script imports this module, so it is small. The functions import the other modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zcli_core import hookimpl
from zcli_core.plugins.contract import Context, Provider

if TYPE_CHECKING:
    from zcli_core.auth.contract import AuthStrategy
    from zcli_core.config.settings import Section

ZCLI_CONTRACT = 1  # the version of zCLI's contracts that this was written for


@hookimpl
def zcli_settings() -> list[type[Section]]:
    """Declare the section ``skeleton``."""
    from zcli_skeleton.settings import Skeleton

    return [Skeleton]


@hookimpl
def zcli_auth_strategies() -> list[Provider[AuthStrategy]]:
    """Provide the strategy; ``websocket.auth`` selects it by its name."""
    return [Provider("skeleton", "an API key, in a header or in the URL", _strategy)]


def _strategy(context: Context) -> AuthStrategy:
    from zcli_skeleton.strategy import make_strategy

    return make_strategy(context)

"""Skeleton: a WebSocket transport for zCLI.

Every start of every script imports this module, so it is small. The functions import the other modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zcli_core import hookimpl
from zcli_core.plugins.contract import Context, Provider

if TYPE_CHECKING:
    from zcli_core.config.settings import Section
    from zcli_core.websocket.contract import Transport

ZCLI_CONTRACT = 1  # the version of zCLI's contracts that this was written for


@hookimpl
def zcli_settings() -> list[type[Section]]:
    """Declare the section ``skeleton``."""
    from zcli_skeleton.settings import Skeleton

    return [Skeleton]


@hookimpl
def zcli_websocket_transports() -> list[Provider[Transport]]:
    """Provide the transport; ``websocket.transport`` selects it by its name."""
    return [Provider("skeleton", "closes clients that send too many messages", _transport)]


def _transport(context: Context) -> Transport:
    from zcli_skeleton.transport import SkeletonTransport

    return SkeletonTransport(context)

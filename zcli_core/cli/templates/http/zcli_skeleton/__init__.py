"""Skeleton: an HTTP transport for zCLI.

Every start of every script imports this module, so it is small. The functions import the other modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zcli_core import hookimpl
from zcli_core.plugins.contract import Context, Provider

if TYPE_CHECKING:
    from zcli_core.config.settings import Section
    from zcli_core.http.contract import HttpTransport

ZCLI_CONTRACT = 1  # the version of zCLI's contracts that this was written for


@hookimpl
def zcli_settings() -> list[type[Section]]:
    """Declare the section ``skeleton``."""
    from zcli_skeleton.settings import Skeleton

    return [Skeleton]


@hookimpl
def zcli_http_transports() -> list[Provider[HttpTransport]]:
    """Provide the transport; ``http.transport`` selects it by its name."""
    return [Provider("skeleton", "leaves a server alone that fails again and again", _transport)]


def _transport(context: Context) -> HttpTransport:
    from zcli_skeleton.transport import SkeletonTransport

    return SkeletonTransport(context)

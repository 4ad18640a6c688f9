"""Skeleton: a backplane for zCLI.

Every start of every script imports this module, so it is small. The functions import the other modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zcli_core import hookimpl
from zcli_core.plugins.contract import Context, Provider

if TYPE_CHECKING:
    from zcli_core.backplane.contract import Backplane
    from zcli_core.config.settings import Section

ZCLI_CONTRACT = 1  # the version of zCLI's contracts that this was written for


@hookimpl
def zcli_settings() -> list[type[Section]]:
    """Declare the section ``backplane.skeleton``."""
    from zcli_skeleton.settings import Skeleton

    return [Skeleton]


@hookimpl
def zcli_backplanes() -> list[Provider[Backplane]]:
    """Provide the backplane; ``websocket.backplane`` selects it by its name."""
    return [Provider("skeleton", "messages through the hub of Skeleton", _backplane)]


def _backplane(context: Context) -> Backplane:
    from zcli_skeleton.backplane import SkeletonBackplane

    return SkeletonBackplane(context)

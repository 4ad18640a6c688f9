"""Skeleton: functions that run at intervals, as ``z.skeleton``.

Every start of every script imports this module, so it is small. The functions import the other modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zcli_core import hookimpl
from zcli_core.plugins.contract import Provider

if TYPE_CHECKING:
    from zcli_core.config.settings import Section
    from zcli_core.subsystems.contract import Subsystem, SubsystemContext

ZCLI_CONTRACT = 1  # the version of zCLI's contracts that this was written for


@hookimpl
def zcli_settings() -> list[type[Section]]:
    """Declare the section ``skeleton``."""
    from zcli_skeleton.settings import Skeleton

    return [Skeleton]


@hookimpl
def zcli_subsystems() -> list[Provider[Subsystem]]:
    """Provide the attribute ``z.skeleton``."""
    return [Provider("skeleton", "calls functions at intervals", _scheduler)]


def _scheduler(context: SubsystemContext) -> Subsystem:
    from zcli_skeleton.scheduler import SkeletonScheduler

    return SkeletonScheduler(context)

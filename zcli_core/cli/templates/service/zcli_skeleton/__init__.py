"""Skeleton as a service of zCLI.

Every script that uses zCLI imports this module when it starts. Keep it small: import other modules in the functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zcli_core import hookimpl
from zcli_core.plugins.contract import Context, Provider

if TYPE_CHECKING:
    from zcli_core.config.settings import Section
    from zcli_core.services.contract import ServiceBackend

ZCLI_CONTRACT = 1  # the version of zCLI's contracts that this was written for


@hookimpl
def zcli_settings() -> list[type[Section]]:
    """Declare ``services.skeleton``."""
    from zcli_skeleton.settings import Skeleton

    return [Skeleton]


@hookimpl
def zcli_service_backends() -> list[Provider[ServiceBackend]]:
    """Provide the service."""
    return [Provider("skeleton", "Skeleton, the service", _backend)]


def _backend(context: Context) -> ServiceBackend:
    from zcli_skeleton.backend import SkeletonBackend

    return SkeletonBackend(context)

"""Skeleton as a service of zCLI.

This module is imported at every start of every script, so it stays tiny: what is heavy is imported by the functions.
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
    """Offer the service."""
    return [Provider("skeleton", "Skeleton, the service", _backend)]


def _backend(context: Context) -> ServiceBackend:
    from zcli_skeleton.backend import SkeletonBackend

    return SkeletonBackend(context)

"""Skeleton: settings from ``skeleton.json``, as a configuration layer of zCLI.

This module is imported at every start of every script, so it stays tiny: what is heavy is imported by the functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zcli_core import hookimpl

if TYPE_CHECKING:
    from zcli_core.config.contract import ConfigLayer

ZCLI_CONTRACT = 1  # the version of zCLI's contracts that this was written for


@hookimpl
def zcli_config_layers() -> list[ConfigLayer]:
    """Give the layer."""
    from zcli_skeleton.layer import SkeletonLayer

    return [SkeletonLayer()]

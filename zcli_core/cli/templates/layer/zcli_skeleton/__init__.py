"""Skeleton: settings from ``skeleton.json``, as a configuration layer of zCLI.

Every start of every script imports this module, so it is small. The functions import the other modules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zcli_core import hookimpl

if TYPE_CHECKING:
    from zcli_core.config.contract import ConfigLayer

ZCLI_CONTRACT = 1  # the version of zCLI's contracts that this was written for


@hookimpl
def zcli_config_layers() -> list[ConfigLayer]:
    """Return the layer."""
    from zcli_skeleton.layer import SkeletonLayer

    return [SkeletonLayer()]

"""The settings of the subsystem."""

from __future__ import annotations

from zcli_core.config.settings import Section, setting


class Skeleton(Section, name="skeleton"):
    """Functions that run at intervals."""

    shortest: float = setting(0.1, "shortest interval between two calls of a function, in seconds", above=0)

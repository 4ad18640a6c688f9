"""The settings of the transport."""

from __future__ import annotations

from zcli_core.config.settings import Section, setting


class Skeleton(Section, name="skeleton"):
    """When requests to a failing server stop."""

    failures: int = setting(5, "calls in a row that have to fail before a server is left alone; 0: never", minimum=0)
    rest: float = setting(10.0, "how long it is then left alone, in seconds", above=0)

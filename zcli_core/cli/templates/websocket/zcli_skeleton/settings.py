"""The settings of the transport."""

from __future__ import annotations

from zcli_core.config.settings import Section, setting


class Skeleton(Section, name="skeleton"):
    """How many messages a client may send."""

    messages_per_second: float | None = setting(None, "messages that one client may send in a second", above=0)

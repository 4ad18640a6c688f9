"""What the transport has to know."""

from __future__ import annotations

from zcli_core.config.settings import Section, setting


class Skeleton(Section, name="skeleton"):
    """How much a client may say."""

    messages_per_second: float | None = setting(None, "messages that one client may send in a second", above=0)

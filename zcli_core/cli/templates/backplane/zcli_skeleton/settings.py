"""The settings of the backplane."""

from __future__ import annotations

from zcli_core.config.settings import Section, setting

DEFAULT_PORT = 7412


class Skeleton(Section, name="backplane.skeleton"):
    """Where the hub of Skeleton is."""

    host: str = setting("127.0.0.1", "host of the hub of Skeleton")
    port: int = setting(DEFAULT_PORT, "TCP port of the hub of Skeleton", minimum=1, maximum=65535)

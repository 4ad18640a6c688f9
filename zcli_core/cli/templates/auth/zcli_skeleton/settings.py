"""The settings of the strategy."""

from __future__ import annotations

from collections.abc import Mapping

from zcli_core.config.settings import Section, setting


class Skeleton(Section, name="skeleton"):
    """API keys for the WebSocket server."""

    keys: Mapping[str, str] = setting({}, "API keys by the name of their holder", secret=True)
    header: str = setting("X-API-Key", "header that carries a key")
    parameter: str = setting("key", "query parameter that carries a key, for pages in a browser")

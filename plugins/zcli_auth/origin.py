"""The origin strategy: whoever comes from an admitted page may enter, without any other credential.

It keeps other people's pages out of a visitor's browser session. It keeps out no program, which can send whatever
``Origin`` it likes: use it where being reached from the right page is all that matters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zcli_core.contracts.auth import Identified, Verdict
from zcli_core.errors import ConfigError

if TYPE_CHECKING:
    from zcli_core.config import Config
    from zcli_core.contracts.websocket import Request


class OriginStrategy:
    """Identifies a client by the origin of its page, which the core has held against ``allowed_origins``."""

    never_blocks = True

    def authenticate(self, request: Request) -> Verdict:
        """Identify a request that has an origin; decline one that has none."""
        origins = request.headers.get_all("origin")
        if len(origins) != 1:
            return None
        # Without the slash that some libraries add, so that one page has one name; not so for file://.
        origin = origins[0]
        return Identified(origin if origin.endswith("://") else origin.removesuffix("/"))


def make_origin_strategy(config: Config) -> OriginStrategy:
    """The strategy, if there are origins to admit.

    :raises ConfigError: ``websocket.allowed_origins`` is unset or empty.
    """
    if not config.websocket.allowed_origins:
        raise ConfigError(
            f"websocket.auth ({config.explain('websocket.auth').origin}) admits clients by their origin, but "
            'websocket.allowed_origins names none; set it, as in ["https://example.com"], or use another strategy'
        )
    return OriginStrategy()

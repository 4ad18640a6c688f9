"""The origin strategy: clients are identified by the page that they come from, without any other credential.

It keeps other people's pages out of a visitor's browser session. It keeps out no program, which can send whatever
``Origin`` it likes: use it where being reached from the right page is all that matters.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zcli_core.auth.contract import Identified, Verdict
from zcli_core.errors import ConfigError
from zcli_core.net.origins import OriginRules

if TYPE_CHECKING:
    from zcli_core.plugins.contract import Context
    from zcli_core.websocket.contract import Request


class OriginStrategy:
    """Identifies a client by the origin of its page, if a rule with a host admits that page.

    The rules ``*``, ``null`` and ``file://`` identify nobody: they admit pages of any site, and ``*`` any text.
    """

    never_blocks = True

    def __init__(self, rules: OriginRules) -> None:
        self._rules = rules

    def authenticate(self, request: Request) -> Verdict:
        """Identify a request by its origin; decline one that has none, or one that no rule names."""
        origins = request.headers.get_all("origin")
        page = self._rules.identify(origins[0]) if len(origins) == 1 else None
        return None if page is None else Identified(str(page))


def make_origin_strategy(context: Context) -> OriginStrategy:
    """The strategy, if there are pages to identify.

    :raises ConfigError: ``websocket.allowed_origins`` names no page, and no other strategy is asked.
    """
    config = context.config
    allowed = config.websocket.allowed_origins
    try:
        rules = OriginRules(allowed or ())
    except ValueError:  # reported where the server reads them
        return OriginStrategy(OriginRules(()))
    if not rules.name_pages:
        where = f"websocket.allowed_origins ({config.explain('websocket.allowed_origins').origin})"
        problem = (
            f"{where} has {', '.join(map(repr, allowed))} only, which admits pages of any site and identifies no client"
            if allowed
            else "websocket.allowed_origins names none"
        )
        complaint = (
            f"websocket.auth ({config.explain('websocket.auth').origin}) admits clients by their origin, but {problem}"
            '; name the pages, as in ["https://example.com"], or use another strategy'
        )
        if not allowed or len(set(config.websocket.auth)) == 1:
            raise ConfigError(complaint)
        context.log.warning("%s", complaint)
    return OriginStrategy(rules)

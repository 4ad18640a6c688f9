"""The strategy ``origin``: identifies clients by the origin of their page, without any other credential.

It refuses pages of other sites, which run in a user's browser. It does not protect from programs, because a program can
send any ``Origin``.
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
    """The strategy ``origin``: identifies a client by its page's origin, if a rule with a host admits that page.

    The rules ``*``, ``null`` and ``file://`` identify no client: they admit pages of any site, and ``*`` any text.
    """

    never_blocks = True

    def __init__(self, rules: OriginRules) -> None:
        self._rules = rules

    def authenticate(self, request: Request) -> Verdict:
        """Identify a request by its origin. Returns None if it has no origin or if no rule names the origin."""
        origins = request.headers.get_all("origin")
        page = self._rules.identify(origins[0]) if len(origins) == 1 else None
        return None if page is None else Identified(str(page))


def make_origin_strategy(context: Context) -> OriginStrategy:
    """Make the strategy from the settings.

    Raises:
        ConfigError: ``websocket.allowed_origins`` names no page, and ``websocket.auth`` no other strategy.
    """
    config = context.config
    allowed = config.websocket.allowed_origins
    try:
        rules = OriginRules(allowed or ())
    except ValueError:  # the server reports the invalid rules
        return OriginStrategy(OriginRules(()))
    if not rules.name_pages:
        where = f"websocket.allowed_origins ({config.explain('websocket.allowed_origins').origin})"
        problem = (
            f"{where} has {', '.join(map(repr, allowed))} only, which admits pages of any site and identifies no client"
            if allowed
            else "websocket.allowed_origins lists no origin"
        )
        message = (
            f"websocket.auth ({config.explain('websocket.auth').origin}) admits clients by their origin, but {problem}"
            '; list the origins, as in ["https://example.com"], or use another strategy'
        )
        if not allowed or len(set(config.websocket.auth)) == 1:
            raise ConfigError(message)
        context.log.warning("%s", message)
    return OriginStrategy(rules)

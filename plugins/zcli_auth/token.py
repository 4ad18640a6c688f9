"""The strategy ``token``: identifies clients by configured tokens.

:mod:`zcli_core.auth.parts` reads the tokens and finds the token of a request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zcli_core.auth.contract import Identified, Rejected, Verdict
from zcli_core.auth.parts import MAX_LENGTH, BearerToken, StaticTokens, configured_tokens, find_bearer_token
from zcli_core.errors import ConfigError

if TYPE_CHECKING:
    from zcli_core.plugins.contract import Context
    from zcli_core.websocket.contract import Request


class TokenStrategy:
    """The strategy ``token``: a client is identified by its token. A request with several tokens is rejected."""

    never_blocks = True

    def __init__(self, tokens: StaticTokens, cookie: str | None = None) -> None:
        """Make the strategy.

        Args:
            tokens: The tokens of all clients.
            cookie: Name of a cookie that may contain the token; None ignores cookies.
        """
        self._tokens = tokens
        self._cookie = cookie

    def authenticate(self, request: Request) -> Verdict:
        """Compare the request's token with every configured one, in constant time."""
        return self._compare(request, unguessable=False)

    def authenticate_throttled(self, request: Request) -> Identified | None:
        """Identify a client by one of the long tokens, because a short one might have been guessed."""
        verdict = self._compare(request, unguessable=True)
        return verdict if isinstance(verdict, Identified) else None

    def _compare(self, request: Request, unguessable: bool) -> Verdict:
        found = find_bearer_token(request, self._cookie)
        if not isinstance(found, BearerToken):
            return found
        token, subprotocol = found
        if not 0 < len(token) <= MAX_LENGTH:
            return Rejected(f"the token has {len(token)} bytes; it must have 1 to {MAX_LENGTH}")
        holder = self._tokens.holder(token, unguessable=unguessable)
        if holder is None:
            return Rejected("unknown token")
        return Identified(holder, subprotocol=subprotocol)

    def __repr__(self) -> str:
        return f"<TokenStrategy: {len(self._tokens)} tokens>"


def make_token_strategy(context: Context) -> TokenStrategy:
    """Make the strategy from the settings.

    Raises:
        ConfigError: There is no token, one is invalid, or two identities share one.
    """
    config = context.config
    tokens = configured_tokens(context)
    if not tokens:
        found = config.explain("websocket.auth")
        set_by = "default" if found.layer == "defaults" else found.origin
        raise ConfigError(
            f"websocket.require_auth ({config.explain('websocket.require_auth').origin}) requires a token, "
            f"because websocket.auth ({set_by}) selects the strategy token. But "
            "neither websocket.token nor websocket.tokens is set, so no client could connect. Put "
            "WEBSOCKET_TOKEN=<a long random text> into "
            f"{config.env_file_in_use} or the environment; the command 'zcli token' prints one"
        )
    return TokenStrategy(StaticTokens(tokens), config.websocket.token_cookie)

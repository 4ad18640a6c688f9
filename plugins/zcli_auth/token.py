"""The strategy ``token``: identifies clients by configured tokens.

:mod:`zcli_core.auth.parts` finds the token of a request.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import TYPE_CHECKING

from zcli_core.auth.contract import Identified, Rejected, Verdict
from zcli_core.auth.parts import BearerToken, find_bearer_token
from zcli_core.errors import ConfigError
from zcli_core.security_warnings import warn_security

if TYPE_CHECKING:
    from zcli_core.config import Config
    from zcli_core.plugins.contract import Context
    from zcli_core.websocket.contract import Request

#: The identity of clients that send ``websocket.token``, which has no name of its own.
DEFAULT_IDENTITY = "default"
#: Longest token in characters; a longer one is invalid in the settings and is rejected without comparing.
MAX_LENGTH = 4096
#: A shorter token might be guessed: it gets a warning and is not accepted at a throttled address.
UNGUESSABLE_LENGTH = 16


class TokenStrategy:
    """The strategy ``token``: a client is identified by its token. A request with several tokens is rejected."""

    never_blocks = True

    def __init__(self, tokens: Mapping[str, str], cookie: str | None = None) -> None:
        """Make the strategy.

        Args:
            tokens: Maps identities to their tokens, as :func:`configured_tokens` returns them.
            cookie: Name of a cookie that may contain the token; None ignores cookies.
        """
        self._tokens = [(identity, token.encode("ascii")) for identity, token in tokens.items()]
        self._long_tokens = [(name, token) for name, token in self._tokens if len(token) >= UNGUESSABLE_LENGTH]
        self._cookie = cookie

    def authenticate(self, request: Request) -> Verdict:
        """Compare the request's token with every configured one, in constant time."""
        return self._compare(request, self._tokens)

    def authenticate_throttled(self, request: Request) -> Identified | None:
        """Identify a client by one of the long tokens, because a short one might have been guessed."""
        verdict = self._compare(request, self._long_tokens)
        return verdict if isinstance(verdict, Identified) else None

    def _compare(self, request: Request, tokens: list[tuple[str, bytes]]) -> Verdict:
        found = find_bearer_token(request, self._cookie)
        if not isinstance(found, BearerToken):
            return found
        token, subprotocol = found
        if not 0 < len(token) <= MAX_LENGTH:
            return Rejected(f"the token has {len(token)} bytes; it must have 1 to {MAX_LENGTH}")
        holder = None
        for identity, known in tokens:  # always all of them, so that the time reveals nothing
            if hmac.compare_digest(token, known):
                holder = identity
        if holder is None:
            return Rejected("unknown token")
        return Identified(holder, subprotocol=subprotocol)

    def __repr__(self) -> str:
        return f"<TokenStrategy: {len(self._tokens)} tokens>"


def configured_tokens(context: Context) -> dict[str, str]:
    """Return the configured tokens by identity, and log a warning for short ones.

    Raises:
        ConfigError: There is no token, one is invalid, or two identities share one.
    """
    config = context.config
    settings = config.websocket
    tokens = {} if settings.token is None else {DEFAULT_IDENTITY: settings.token}
    problems = [
        f"websocket.tokens ({config.explain('websocket.tokens').origin}) uses the name {name!r}, "
        "which is reserved for websocket.token; choose another name"
        for name in settings.tokens
        if name in tokens
    ]
    tokens = {**settings.tokens, **tokens}
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
    problems += [f"{_where(config, name)}: {problem}" for name, token in tokens.items() if (problem := _problem(token))]
    holders: dict[str, str] = {}
    for name, token in tokens.items():
        if holders.setdefault(token, name) != name:
            problems.append(
                f"{_where(config, name)}: {holders[token]!r} has the same token; give each client its own token"
            )
    if problems:
        raise ConfigError(problems)
    short = [_where(config, name) for name, token in tokens.items() if len(token) < UNGUESSABLE_LENGTH]
    if short:
        warn_security(
            context.log,
            "%s has fewer than %d characters, so that it can be guessed; the command 'zcli token' prints a good token",
            ", ".join(short),
            UNGUESSABLE_LENGTH,
        )
    return tokens


def _where(config: Config, name: str) -> str:
    if name == DEFAULT_IDENTITY:
        return f"websocket.token ({config.explain('websocket.token').origin})"
    return f"websocket.tokens.{name} ({config.explain('websocket.tokens').origin})"


def _problem(token: str) -> str | None:
    if not token:
        return "the token is empty"
    if len(token) > MAX_LENGTH:
        return f"the token has {len(token)} characters; at most {MAX_LENGTH} are allowed"
    if not (token.isascii() and token.isprintable()) or " " in token:
        return "a token must consist of printable ASCII characters without spaces, because clients send it in a header"
    return None

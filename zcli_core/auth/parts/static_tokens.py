"""The tokens of ``websocket.token`` and ``websocket.tokens``: reading them and comparing them in constant time."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import TYPE_CHECKING

from zcli_core.errors import ConfigError
from zcli_core.security_warnings import warn_security

if TYPE_CHECKING:
    from zcli_core.config import Config
    from zcli_core.plugins.contract import Context

#: The identity of clients that send ``websocket.token``, which has no name of its own.
DEFAULT_IDENTITY = "default"
#: Longest token in characters; a longer one is invalid in the settings and is rejected without comparing.
MAX_LENGTH = 4096
#: A shorter token might be guessed: it gets a warning and is not accepted at a throttled address.
UNGUESSABLE_LENGTH = 16


class StaticTokens:
    """Configured tokens with the identities of their holders. The ``repr`` does not show them."""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        """Take the tokens by identity, as :func:`configured_tokens` returns them."""
        self._tokens = [(identity, token.encode("ascii")) for identity, token in tokens.items()]
        self._unguessable = [(name, token) for name, token in self._tokens if len(token) >= UNGUESSABLE_LENGTH]

    def holder(self, token: bytes, *, unguessable: bool = False) -> str | None:
        """Return the identity of a token's holder; None if the token is not configured.

        The token is compared with all others in constant time, so that the time reveals nothing.

        Args:
            token: What a client has sent.
            unguessable: Compare with tokens of 16 or more characters only.
        """
        holder = None
        for identity, known in self._unguessable if unguessable else self._tokens:
            if hmac.compare_digest(token, known):
                holder = identity
        return holder

    def __len__(self) -> int:
        return len(self._tokens)

    def __repr__(self) -> str:
        return f"<StaticTokens: {len(self._tokens)} tokens>"


def configured_tokens(context: Context) -> dict[str, str]:
    """Return the configured tokens by identity, and log a warning for short ones.

    Raises:
        ConfigError: A token is invalid, or two identities share one.
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

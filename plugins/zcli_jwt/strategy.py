"""The strategy ``jwt``: identifies a client by a valid JSON Web Token.

The places where a token may be are those of :mod:`zcli_core.auth.parts`. A token that is not formatted as a JWT is
passed to the next strategy, so ``auth = ["jwt", "token"]`` accepts both kinds. In the other order, ``token`` rejects
every JSON Web Token.

All claims are in ``get_client_info(websocket)["claims"]``, read only. The token itself is not stored. The connection is
closed (1008) when the token expires, unless ``jwt.close_at_expiry`` is off.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from zcli_core.auth.contract import Identified, Rejected, Verdict
from zcli_core.auth.parts import BearerToken, find_bearer_token
from zcli_jwt.configuration import read_configuration
from zcli_jwt.remote_keys import RemoteKeys
from zcli_jwt.settings import Jwt
from zcli_jwt.tokens import InvalidToken, TokenHeader, UnknownKey, Verifier, is_jwt

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from zcli_core.auth.contract import AuthStrategy
    from zcli_core.plugins.contract import Context
    from zcli_core.websocket.contract import Request
    from zcli_jwt.key_file import KeySource


class JwtStrategy:
    """Identifies clients by keys that are at hand."""

    never_blocks = True

    def __init__(self, verifier: Verifier, max_token_bytes: int, cookie: str | None, keys: KeySource) -> None:
        """Keep the arguments; ``cookie`` is the name of a cookie that may contain the token."""
        self._verifier = verifier
        self._max_bytes = max_token_bytes
        self._cookie = cookie
        self._keys = keys

    def authenticate(self, request: Request) -> Verdict | Awaitable[Verdict]:
        """Authenticate a request by its token, if it has one."""
        try:
            found = self._find(request)
            return found and self._identify(*found)
        except InvalidToken as invalid:
            return Rejected(str(invalid))

    def _find(self, request: Request) -> tuple[BearerToken, TokenHeader] | None:
        """Return the token of a request and its header; None if there is no JWT. Raises InvalidToken."""
        found = find_bearer_token(request, self._cookie)
        if isinstance(found, Rejected):
            raise InvalidToken(found.cause)
        if found is None:
            return None
        if len(found.value) > self._max_bytes:
            raise InvalidToken(
                f"the token must have at most {self._max_bytes} bytes (jwt.max_token_bytes), got {len(found.value)}"
            )
        return (found, self._verifier.read_header(found.value)) if is_jwt(found.value) else None

    def _identify(self, token: BearerToken, header: TokenHeader) -> Identified:
        """Return the client of a token.

        Raises:
            UnknownKey: The token names a key that is not known now.
            InvalidToken: The token is not accepted for any other reason.
        """
        key = self._verifier.choose_key(self._keys.current(), header)
        claims = self._verifier.verify(token.value, key)
        identity, expires_at = self._verifier.identity(claims), self._verifier.expires_at(claims)
        return Identified(identity, MappingProxyType(claims), token.subprotocol, expires_at)


class RemoteJwtStrategy(JwtStrategy):
    """Identifies clients by keys that are fetched from time to time; most clients do not wait for that."""

    never_blocks = False
    _keys: RemoteKeys

    def __init__(
        self, verifier: Verifier, max_token_bytes: int, cookie: str | None, keys: RemoteKeys, max_wait: float
    ) -> None:
        """Begin to fetch the keys. A client waits at most ``max_wait`` seconds for a fetch."""
        super().__init__(verifier, max_token_bytes, cookie, keys)
        self._max_wait = max_wait
        keys.begin_fetch()

    async def authenticate(self, request: Request) -> Verdict:
        """Authenticate a request by its token, if it has one; fetch the keys first if they are too old."""
        keys = self._keys
        try:
            found = self._find(request)
            return found and await self._identify_by_fresh_keys(*found)
        except UnknownKey as unknown:
            if not keys.last_error:
                return Rejected(str(unknown))
            # The key may be among those that could not be fetched.
            return Rejected(f"{unknown}; {keys.name}: {keys.last_error}", counts=False)
        except InvalidToken as invalid:
            return Rejected(str(invalid))

    async def _identify_by_fresh_keys(self, token: BearerToken, header: TokenHeader) -> Identified:
        keys = self._keys
        if not keys.is_fresh:
            if keys.last_error is not None and keys.current().keys:
                keys.begin_fetch()  # clients whose key is known do not wait for a fetch that failed before
            else:
                await keys.fetched(self._max_wait)
        try:
            return self._identify(token, header)
        except UnknownKey:
            await keys.fetched(self._max_wait)
            return self._identify(token, header)


def make_strategy(context: Context) -> AuthStrategy:
    """Make the strategy that the section ``jwt`` describes.

    Raises:
        ConfigError: The settings would accept no token, or unsafe ones.
    """
    settings = context.config.section(Jwt)
    keys, algorithms = read_configuration(context)
    cookie = context.config.websocket.token_cookie
    verifier = Verifier(settings, algorithms)
    if not isinstance(keys, RemoteKeys):
        return JwtStrategy(verifier, settings.max_token_bytes, cookie, keys)
    # A client may wait twice, and must get its refusal before the server's open_timeout ends the strategy.
    max_wait = min(settings.jwks_timeout, context.config.websocket.open_timeout / 4)
    return RemoteJwtStrategy(verifier, settings.max_token_bytes, cookie, keys, max_wait)

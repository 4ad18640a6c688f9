"""The strategy ``jwt``: whoever shows a JSON Web Token that is genuine and valid is the one that it names.

The token is looked for as :mod:`zcli_core.auth.parts` says. One that has not the shape of a JSON Web
Token is left to the strategies that follow, so ``auth = ["jwt", "token"]`` takes either kind; the other way round
``token`` would reject every JSON Web Token, being no token of its own.

The claims are ``get_client_info(websocket)["claims"]``, all of them, read only. The token itself is kept nowhere.
The connection is closed (1008) when the token expires, unless ``jwt.close_at_expiry`` is off.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from zcli_core.auth.contract import Identified, Rejected, Verdict
from zcli_core.auth.parts import BearerToken, find_bearer_token
from zcli_jwt.configured import read_configuration
from zcli_jwt.keys import KeySet
from zcli_jwt.remote import RemoteKeys
from zcli_jwt.settings import Jwt
from zcli_jwt.tokens import Header, Refused, UnknownKey, Verifier, is_jwt

if TYPE_CHECKING:
    from zcli_core.auth.contract import AuthStrategy
    from zcli_core.plugins.contract import Context
    from zcli_core.websocket.contract import Request
    from zcli_jwt.sources import KeySource


class Judge:
    """Everything about a verdict but where the keys are from."""

    def __init__(self, verifier: Verifier, max_token_bytes: int, cookie: str | None) -> None:
        """``cookie`` is the name of a cookie that may hold the token."""
        self._verifier = verifier
        self._max_bytes = max_token_bytes
        self._cookie = cookie

    def find(self, request: Request) -> tuple[BearerToken, Header] | None:
        """The token of a request, and what it says of itself; None if there is none. Raises Refused."""
        found = find_bearer_token(request, self._cookie)
        if isinstance(found, Rejected):
            raise Refused(found.cause)
        if found is None:
            return None
        if len(found.value) > self._max_bytes:
            raise Refused(f"the token has {len(found.value)} bytes; jwt.max_token_bytes is {self._max_bytes}")
        return (found, self._verifier.read_header(found.value)) if is_jwt(found.value) else None

    def judge(self, token: BearerToken, header: Header, keys: KeySet) -> Identified:
        """Whose token it is. Raises Refused; UnknownKey if a newer set of keys might have the one that it names."""
        claims = self._verifier.verify(token.value, self._verifier.choose_key(keys, header))
        identity, expires_at = self._verifier.identity(claims), self._verifier.expires_at(claims)
        return Identified(identity, MappingProxyType(claims), token.subprotocol, expires_at)


class JwtStrategy:
    """Identifies clients by keys that are at hand."""

    never_blocks = True

    def __init__(self, judge: Judge, keys: KeySource) -> None:
        self._judge = judge
        self._keys = keys

    def authenticate(self, request: Request) -> Verdict:
        """Judge the token of a request, if it has one."""
        try:
            found = self._judge.find(request)
            return found and self._judge.judge(*found, self._keys.current())
        except Refused as refused:
            return Rejected(str(refused))


class UnjudgeableToken(Refused):
    """The key that it names is not known, and may be one that could not be fetched."""


class RemoteJwtStrategy:
    """Identifies clients by keys that have to be fetched now and then; most clients do not notice."""

    def __init__(self, judge: Judge, keys: RemoteKeys, patience: float) -> None:
        """Begin to fetch the keys. ``patience`` is what a client is kept waiting for them at most, in seconds."""
        self._judge = judge
        self._keys = keys
        self._patience = patience
        keys.begin_fetch()

    async def authenticate(self, request: Request) -> Verdict:
        """Judge the token of a request, if it has one; fetch the keys first if it is time to."""
        try:
            found = self._judge.find(request)
            return found and await self._judge_by_fresh_keys(*found)
        except UnjudgeableToken as refused:
            return Rejected(str(refused), counts=False)
        except Refused as refused:
            return Rejected(str(refused))

    async def _judge_by_fresh_keys(self, token: BearerToken, header: Header) -> Identified:
        keys = self._keys
        if not keys.is_fresh:
            if keys.trouble is not None and keys.current().keys:
                keys.begin_fetch()  # what has failed before is not waited for by those who can do without
            else:
                await keys.fetched(self._patience)
        try:
            return self._judge.judge(token, header, keys.current())
        except UnknownKey:
            await keys.fetched(self._patience)
        try:
            return self._judge.judge(token, header, keys.current())
        except UnknownKey as unknown:
            if keys.trouble:  # its key may well be among those that could not be fetched
                raise UnjudgeableToken(f"{unknown}; {keys.name}: {keys.trouble}") from None
            raise


def make_strategy(context: Context) -> AuthStrategy:
    """The strategy that the section ``jwt`` describes.

    :raises ConfigError: no token could ever be accepted, or some that should not.
    """
    settings = context.config.section(Jwt)
    keys, algorithms = read_configuration(context)
    cookie = context.config.websocket.token_cookie
    judge = Judge(Verifier(settings, algorithms), settings.max_token_bytes, cookie)
    if not isinstance(keys, RemoteKeys):
        return JwtStrategy(judge, keys)
    # A client may have to wait twice, and has to be told before the server gives up on its strategy.
    return RemoteJwtStrategy(judge, keys, min(settings.jwks_timeout, context.config.websocket.open_timeout / 4))

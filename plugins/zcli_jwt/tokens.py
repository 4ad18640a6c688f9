"""Checking one token: signature, validity and claims.

Messages of PyJWT are not passed on, because they may quote the token. This module has its own message for each kind of
error. Names from a token's header are quoted, shortened and escaped.
"""

from __future__ import annotations

import json
import math
import re
import time
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jwt
from jwt import exceptions

from zcli_jwt.keys import Key, KeySet

if TYPE_CHECKING:
    from zcli_jwt.settings import Jwt

#: The compact form (RFC 7515, 7.1) and nothing else. PyJWT ignores characters that are not in the alphabet.
_COMPACT = re.compile(rb"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")
#: Maximum length of an identity in characters: the limit of ``sub`` in OpenID Connect Core, section 2.
MAX_IDENTITY = 255

#: Seconds after which the exact age of an expired token does not matter: ten years.
_LONG_AGO = 10 * 366 * 86400.0

#: Larger numbers of seconds may exceed the precision of a float.
_NEVER = 2**53

_NO_AUDIENCE = "the token has an audience (aud) but jwt.audience is not set"
_CAUSES: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.ImmatureSignatureError, "the token is not valid yet (nbf or iat)"),
    (exceptions.InvalidIssuerError, "the token is from another issuer"),
    (exceptions.InvalidIssuedAtError, "the token's iat must be a number"),
    (exceptions.DecodeError, "the token is malformed"),
)


class InvalidToken(Exception):  # noqa: N818 - a rejected token is not a program error
    """The token is rejected. The message is the cause for the log."""


class UnknownKey(InvalidToken):
    """The token names an unknown key. A newer key set may contain it."""


class TokenHeader(NamedTuple):
    """The header fields that are used. ``jku``, ``x5u``, ``jwk`` and ``x5c`` are ignored: keys are configured."""

    algorithm: str
    kid: str | None


def is_jwt(token: bytes) -> bool:
    """Return whether a token is formatted as a JWT: three parts of base64url, separated by dots."""
    return _COMPACT.fullmatch(token) is not None


class Verifier:
    """Verifies tokens according to the settings. The caller provides the keys."""

    def __init__(self, settings: Jwt, algorithms: tuple[str, ...]) -> None:
        self._algorithms = algorithms
        self._audience = settings.audience
        self._issuer = settings.issuer
        self._leeway = settings.leeway
        self._close_at_expiry = settings.close_at_expiry
        self._identity = settings.identity_claim
        required = {*settings.required_claims, settings.identity_claim}
        self._options: Any = {"require": sorted(required)}

    def read_header(self, token: bytes) -> TokenHeader:
        """Return the header of a token in JWT format. The signature is not verified yet. Raises InvalidToken."""
        header = _read_object(token[: token.index(b".")], "header")
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in self._algorithms:
            accepted = " or ".join(self._algorithms)
            raise InvalidToken(f"the token's algorithm must be {accepted}, got {_shown(algorithm)}")
        if "crit" in header:  # RFC 7515, 4.1.11: tokens with unknown critical extensions must be rejected
            raise InvalidToken("the token requires an extension (crit), but no extension is supported")
        if kid is not None and not isinstance(kid, str):
            raise InvalidToken("the token's kid must be a string")
        return TokenHeader(algorithm, kid)

    def choose_key(self, keys: KeySet, header: TokenHeader) -> Key:
        """Return the one key that the header names.

        Raises:
            UnknownKey: No key matches. A newer key set may contain it.
            InvalidToken: Several keys match, or the named key is for another algorithm.
        """
        named = keys.candidates(header.kid)
        fitting = [key for key in named if key.algorithm == header.algorithm]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise InvalidToken(f"the token matches {len(fitting)} keys; its kid must name one of them")
        if header.kid is None:
            raise UnknownKey(f"no key for {header.algorithm} is known")
        if named:
            raise InvalidToken(f"the key {_shown(header.kid)} is not for {header.algorithm}")
        raise UnknownKey(f"the token names the unknown key {_shown(header.kid)}")

    def verify(self, token: bytes, key: Key) -> Mapping[str, Any]:
        """Return the claims of a token whose signature and times are valid. Raises InvalidToken."""
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                key.material,
                algorithms=[key.algorithm],
                options=self._options,
                audience=self._audience or None,
                issuer=self._issuer,
                leeway=self._leeway,
            )
        except Exception as error:  # noqa: BLE001 - a very large number makes it raise undocumented errors
            raise InvalidToken(self._cause(error, token, key)) from None
        _read_object(token.split(b".")[1], "claims")  # refuses duplicate names, of which PyJWT takes the last
        return claims

    def identity(self, claims: Mapping[str, Any]) -> str:
        """Return the client's name. Raises InvalidToken if the claim is not a printable string."""
        identity = claims[self._identity]
        if not isinstance(identity, str):
            raise InvalidToken(f"the token's {self._identity} must be a string")
        if not identity.strip() or len(identity) > MAX_IDENTITY or not identity.isprintable():
            raise InvalidToken(f"the token's {self._identity} must have 1 to {MAX_IDENTITY} printable characters")
        return identity

    def expires_at(self, claims: Mapping[str, Any]) -> float | None:
        """Return when verified claims expire, in seconds since the epoch; None if they do not.

        The connection stays open for ``jwt.leeway`` seconds more, because the token itself is accepted for as long.
        """
        if not self._close_at_expiry or "exp" not in claims:
            return None
        # PyJWT accepts everything that int() accepts, and has compared it with the clock.
        return float(min(int(claims["exp"]), _NEVER)) + self._leeway

    def _cause(self, error: Exception, token: bytes, key: Key) -> str:
        """Return the cause for the log; it contains no part of the error's message."""
        if isinstance(error, exceptions.InvalidSignatureError):
            return "the token's signature is invalid" + (f" for the key {_shown(key.kid)}" if key.kid else "")
        if isinstance(error, exceptions.ExpiredSignatureError):  # its signature is valid
            try:
                ago = time.time() - float(_read_object(token.split(b".")[1], "claims")["exp"])
            except OverflowError:
                ago = math.inf
            return f"the token expired {ago:.0f} s ago" if ago < _LONG_AGO else "the token expired long ago"
        if isinstance(error, exceptions.MissingRequiredClaimError):
            return f"the token has no {error.claim}"  # a name from the settings
        if isinstance(error, exceptions.InvalidAudienceError):
            return "the token is for another audience" if self._audience else _NO_AUDIENCE
        for kind, cause in _CAUSES:
            if isinstance(error, kind):
                return cause
        return f"the token is invalid ({type(error).__name__})"


# Strict JSON -----------------------------------------------------------------------------------------------------


def _read_object(part: bytes, what: str) -> dict[str, Any]:
    """Decode the JSON object in a part of a token; refuse duplicate names, which two parsers may read differently."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            raise InvalidToken(f"the token's {what} contains a duplicate name")
        return found

    try:
        text = urlsafe_b64decode(part + b"=" * (-len(part) % 4)).decode()
        value = json.loads(text, object_pairs_hook=unique, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidToken(f"the token's {what} cannot be decoded")
    return value


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not valid JSON")


def _shown(value: Any) -> str:
    """Return a value of the client for the log: escaped and shortened."""
    text = ascii(value) if isinstance(value, str) else f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:60]}..."

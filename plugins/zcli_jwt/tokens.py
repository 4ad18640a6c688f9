"""One token: is it genuine, is it for us and now, and what does it say?

Nothing that PyJWT says of a token is passed on, for its errors may quote it: what is refused is told in words of our
own, by the kind of the error. Of a token's header, names are quoted, short and escaped.
"""

from __future__ import annotations

import binascii
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

#: The compact form (RFC 7515, 7.1) and nothing else. PyJWT skips what is not in the alphabet.
_COMPACT = re.compile(rb"[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*\.[A-Za-z0-9_-]*")
#: As OpenID Connect has it for ``sub`` (Core, 2).
MAX_IDENTITY = 255

#: Seconds from which it does not matter how long a token has expired.
_LONG_AGO = 10 * 366 * 86400.0

#: A larger number of seconds may be more than a float can hold.
_NEVER = 2**53

_NO_AUDIENCE = "the token is for somebody (aud), and jwt.audience does not say who we are"
_CAUSES: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.InvalidSignatureError, "the token is not signed with the key {key}"),
    (exceptions.ImmatureSignatureError, "the token is not valid yet (nbf or iat)"),
    (exceptions.InvalidIssuerError, "the token is from another issuer"),
    (exceptions.InvalidIssuedAtError, "the token's iat is no time"),
    (exceptions.DecodeError, "the token is malformed"),
)


class Refused(Exception):  # noqa: N818 - it becomes a verdict
    """The token will not do; the message is the cause for the log."""


class UnknownKey(Refused):
    """The token names a key that is not known, or not yet."""


class Header(NamedTuple):
    """What matters of a token's header. ``jku``, ``x5u``, ``jwk`` and ``x5c`` do not: keys are configured."""

    algorithm: str
    kid: str | None


def is_jwt(token: bytes) -> bool:
    """Whether it has the shape of a signed token: three parts of base64url with dots between."""
    return _COMPACT.fullmatch(token) is not None


class Verifier:
    """What a token has to be like, whatever key it is signed with."""

    def __init__(self, settings: Jwt, algorithms: tuple[str, ...]) -> None:
        self._algorithms = algorithms
        self._audience = settings.audience
        self._issuer = settings.issuer
        self._leeway = settings.leeway
        self._close_at_expiry = settings.close_at_expiry
        self._identity = settings.identity_claim
        required = {*settings.required_claims, settings.identity_claim}
        self._options: Any = {"require": sorted(required)}

    def read_header(self, token: bytes) -> Header:
        """The header of a token that :func:`is_jwt`. Nothing of it is proved. Raises Refused."""
        header = _read_object(token[: token.index(b".")], "header")
        algorithm, kid = header.get("alg"), header.get("kid")
        if algorithm not in self._algorithms:
            accepted = ", ".join(self._algorithms)
            raise Refused(f"the token's algorithm is {_shown(algorithm)}; accepted is {accepted}")
        if "crit" in header:  # RFC 7515, 4.1.11: whoever does not know what is critical has to reject
            raise Refused("the token demands an extension (crit)")
        if kid is not None and not isinstance(kid, str):
            raise Refused("the token's kid is no text")
        return Header(algorithm, kid)

    def choose_key(self, keys: KeySet, header: Header) -> Key:
        """The one key that the header means. Raises Refused; UnknownKey if a newer set of keys might have it."""
        named = keys.candidates(header.kid)
        fitting = [key for key in named if key.algorithm == header.algorithm]
        if len(fitting) == 1:
            return fitting[0]
        if fitting:
            raise Refused(f"the token does not tell which of {len(fitting)} keys it is signed with (kid)")
        if header.kid is None:
            raise UnknownKey(f"no key for {header.algorithm} is known")
        if named:
            raise Refused(f"the key {_shown(header.kid)} is not for {header.algorithm}")
        raise UnknownKey(f"the token is signed with the key {_shown(header.kid)}, which is not known")

    def verify(self, token: bytes, key: Key) -> Mapping[str, Any]:
        """The claims of a token that is genuine and valid. Raises Refused."""
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
        except Exception as error:  # noqa: BLE001 - a number beyond all bounds makes it raise what it does not announce
            raise Refused(self._cause(error, token, key)) from None
        _read_object(token.split(b".")[1], "claims")  # for names that are given twice, of which PyJWT takes the last
        return claims

    def identity(self, claims: Mapping[str, Any]) -> str:
        """The client's name by its claims. Raises Refused if that is none."""
        identity = claims[self._identity]
        if not isinstance(identity, str):
            raise Refused(f"the token's {self._identity} is no text")
        if not identity.strip() or len(identity) > MAX_IDENTITY or not identity.isprintable():
            raise Refused(f"the token's {self._identity} is no name: 1 to {MAX_IDENTITY} printable characters")
        return identity

    def expires_at(self, claims: Mapping[str, Any]) -> float | None:
        """When verified claims stop being accepted, in seconds since the epoch; None if they never do.

        As the token would be accepted for ``jwt.leeway`` seconds more, so is the connection.
        """
        if not self._close_at_expiry or "exp" not in claims:
            return None
        # PyJWT takes whatever int() takes, and has compared that with the clock.
        return float(min(int(claims["exp"]), _NEVER)) + self._leeway

    def _cause(self, error: Exception, token: bytes, key: Key) -> str:
        if isinstance(error, exceptions.ExpiredSignatureError):  # its signature was right
            try:
                ago = time.time() - float(_read_object(token.split(b".")[1], "claims")["exp"])
            except OverflowError:
                ago = math.inf
            return f"the token expired {ago:.0f} s ago" if ago < _LONG_AGO else "the token expired long ago"
        if isinstance(error, exceptions.MissingRequiredClaimError):
            return f"the token has no {error.claim}"  # one of ours: it is what was asked for
        if isinstance(error, exceptions.InvalidAudienceError):
            return "the token is for another audience" if self._audience else _NO_AUDIENCE
        for kind, cause in _CAUSES:
            if isinstance(error, kind):
                return cause.format(key="" if key.kid is None else _shown(key.kid)).rstrip()
        return f"the token is no valid one ({type(error).__name__})"


# JSON, strictly --------------------------------------------------------------------------------------------------


def _read_object(part: bytes, what: str) -> dict[str, Any]:
    """The JSON object in a part of a token. A name given twice is refused: it lets two readers read two tokens."""
    try:
        text = urlsafe_b64decode(part + b"=" * (-len(part) % 4)).decode()
        value = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_number)
    except _Twice:
        raise Refused(f"a name stands twice in the token's {what}") from None
    except (ValueError, binascii.Error, RecursionError):
        raise Refused(f"the token's {what} cannot be read") from None
    if not isinstance(value, dict):
        raise Refused(f"the token's {what} cannot be read")
    return value


class _Twice(Exception):  # noqa: N818
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Twice
    return found


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _shown(value: Any) -> str:
    """A value of a stranger's, for the log."""
    text = ascii(value) if isinstance(value, str) else f"no text but {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:60]}..."

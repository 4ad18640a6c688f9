"""Keys that signatures are verified with: one, or a set of them from a PEM file or a JSON Web Key Set."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import ECAlgorithm, RSAAlgorithm
from jwt.exceptions import PyJWTError

#: Smaller RSA keys are not to be used (RFC 7518, 3.3); far larger ones would let a key set make us slow.
RSA_BITS = range(2048, 8193)
#: Nobody publishes as many keys as fit in there.
MAX_JWKS_BYTES = 256 * 1024
#: The members of a JSON Web Key that are public, by its type. Nothing else of it is looked at.
_PUBLIC = {"RSA": ("kty", "n", "e"), "EC": ("kty", "crv", "x", "y")}
_READERS: dict[str, Callable[[Any], Any]] = {"RSA": RSAAlgorithm.from_jwk, "EC": ECAlgorithm.from_jwk}


class InvalidKey(Exception):  # noqa: N818 - it becomes a ConfigError or a line of the log
    """A key, or a file or answer with keys, that will not do; the message says why and holds nothing of it."""


class Key(NamedTuple):
    """One key, and the only algorithm that it verifies: what a token says about that is never believed."""

    algorithm: str
    #: Bytes for HS256, else a public key of cryptography's.
    material: Any
    kid: str | None = None

    def __repr__(self) -> str:
        return f"<Key {self.kid!r} for {self.algorithm}>"


class KeySet:
    """The keys that are known at one time.

    ``ignored`` has a sentence for each that was offered and is of no use.
    """

    def __init__(self, keys: Iterable[Key], ignored: Iterable[str] = ()) -> None:
        self.keys = tuple(keys)
        self.ignored = tuple(ignored)

    def candidates(self, kid: str | None) -> list[Key]:
        """The keys that a token with this ``kid`` may mean: those of the name, else those that have no name."""
        if kid is None:
            return list(self.keys)
        return [key for key in self.keys if key.kid == kid] or [key for key in self.keys if key.kid is None]

    def __repr__(self) -> str:
        # A name is the key set's to choose: it must not be able to write a line of a log.
        shown = [f"{ascii(key.kid)[:60]} ({key.algorithm})" for key in self.keys[:20]]
        return f"<KeySet {', '.join(shown)}{' ...' if len(self.keys) > 20 else ''}>"


def read_public_key(data: bytes) -> KeySet:
    """The one public key in a PEM file. Raises InvalidKey."""
    if b"PRIVATE KEY-----" in data:
        raise InvalidKey(
            "it holds a private key, which belongs with whoever makes the tokens and nowhere else; "
            "'openssl pkey -in KEY -pubout' gives the public one"
        )
    if b"CERTIFICATE-----" in data:
        raise InvalidKey("it holds a certificate; 'openssl x509 -in CERTIFICATE -pubkey -noout' gives its public key")
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidKey("it holds no public key in PEM format") from None
    return KeySet([_checked(key, None)])


def read_jwks(data: bytes) -> KeySet:
    """The keys of a JSON Web Key Set (RFC 7517, 5) that sign with RS256 or ES256.

    The others are ignored, with the reason: symmetric and private ones too, for a set of keys is public.

    :raises InvalidKey: it is no such set, or there is no key of use in it.
    """
    if len(data) > MAX_JWKS_BYTES:
        raise InvalidKey(f"it has more than {MAX_JWKS_BYTES} bytes")
    try:
        offered = json.loads(data)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError):
        offered = None
    if not isinstance(offered, list):
        raise InvalidKey('it is no JSON Web Key Set: {"keys": [...]}')
    found, ignored = [], []
    for number, item in enumerate(offered, 1):
        try:
            found.append(_read_jwk(item))
        except InvalidKey as reason:
            kid = item.get("kid") if isinstance(item, dict) else None
            ignored.append(f"key {number}{f' ({ascii(kid)[:60]})' if kid else ''}: {reason}")
    if not found:
        raise InvalidKey(f"it has no key for RS256 or ES256 ({'; '.join(ignored[:5]) or 'it is empty'})")
    return KeySet(found, ignored)


def _read_jwk(item: Any) -> Key:
    if not isinstance(item, dict):
        raise InvalidKey("it is no JSON object")
    kty, kid = item.get("kty"), item.get("kid")
    if kty not in ("RSA", "EC"):
        raise InvalidKey("it is symmetric, and a set of keys is no secret" if kty == "oct" else "it is of another type")
    if "d" in item:
        raise InvalidKey("it is a private key that somebody made public; it has to be replaced at its source")
    operations = item.get("key_ops", ["verify"])
    if item.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        raise InvalidKey("it is not for signatures")
    if kid is not None and not isinstance(kid, str):
        raise InvalidKey("its kid is no text")
    try:
        material = _READERS[kty]({name: item[name] for name in _PUBLIC[kty]})
    except (PyJWTError, KeyError, ValueError, TypeError, AttributeError, UnsupportedAlgorithm):
        raise InvalidKey("its numbers are none") from None
    key = _checked(material, kid)
    if item.get("alg", key.algorithm) != key.algorithm:
        raise InvalidKey("it is for another algorithm")
    return key


def _checked(material: Any, kid: str | None) -> Key:
    if isinstance(material, RSAPublicKey):
        if material.key_size not in RSA_BITS:
            raise InvalidKey(f"it is an RSA key of {material.key_size} bits; one has {RSA_BITS[0]} to {RSA_BITS[-1]}")
        return Key("RS256", material, kid)
    if isinstance(material, EllipticCurvePublicKey):
        if not isinstance(material.curve, SECP256R1):
            raise InvalidKey(f"it is on the curve {material.curve.name}; ES256 takes P-256")
        return Key("ES256", material, kid)
    raise InvalidKey("it is neither an RSA key nor one on the curve P-256")

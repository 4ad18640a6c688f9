"""Keys that verify signatures: one key, or several from a PEM file or a JSON Web Key Set."""

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

#: Allowed sizes of an RSA key, in bits. Smaller keys are forbidden (RFC 7518, 3.3); larger ones are slow.
RSA_BITS = range(2048, 8193)
#: Largest key set, in bytes; real ones are far smaller.
MAX_JWKS_BYTES = 256 * 1024
#: The public members of a JSON Web Key, by its type. The other members are not read.
_PUBLIC = {"RSA": ("kty", "n", "e"), "EC": ("kty", "crv", "x", "y")}
_READERS: dict[str, Callable[[Any], Any]] = {"RSA": RSAAlgorithm.from_jwk, "EC": ECAlgorithm.from_jwk}


class InvalidKey(Exception):  # noqa: N818 - it becomes a ConfigError or a line of the log
    """A key, or a file or response with keys, that cannot be used. The message says why and contains no key."""


class Key(NamedTuple):
    """One key and the only algorithm that it verifies, whatever a token says."""

    algorithm: str
    #: The bytes of the secret for HS256, or else a public key of the package cryptography.
    material: Any
    kid: str | None = None

    def __repr__(self) -> str:
        return f"<Key {self.kid!r} for {self.algorithm}>"


class KeySet:
    """The keys that are known at one time."""

    def __init__(self, keys: Iterable[Key], ignored: Iterable[str] = ()) -> None:
        """Keep the keys; ``ignored`` has a sentence for each key that was found and cannot be used."""
        self.keys = tuple(keys)
        self.ignored = tuple(ignored)

    def current(self) -> KeySet:
        """Return this key set: it is a :class:`.key_file.KeySource` that does not change."""
        return self

    def candidates(self, kid: str | None) -> list[Key]:
        """Return the keys that a token with this ``kid`` may mean: those with the name, or else those without one."""
        if kid is None:
            return list(self.keys)
        return [key for key in self.keys if key.kid == kid] or [key for key in self.keys if key.kid is None]

    def __repr__(self) -> str:
        # The names come from the key set and must not be able to forge a line of a log.
        shown = [f"{ascii(key.kid)[:60]} ({key.algorithm})" for key in self.keys[:20]]
        return f"<KeySet {', '.join(shown)}{' ...' if len(self.keys) > 20 else ''}>"


def read_public_key(data: bytes) -> KeySet:
    """Read the one public key of a PEM file. Raises InvalidKey."""
    if b"PRIVATE KEY-----" in data:
        raise InvalidKey(
            "the file contains a private key, which only the issuer of the tokens may have; "
            "'openssl pkey -in KEY -pubout' prints the public key"
        )
    if b"CERTIFICATE-----" in data:
        raise InvalidKey(
            "the file contains a certificate; 'openssl x509 -in CERTIFICATE -pubkey -noout' prints its public key"
        )
    try:
        key = load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidKey("no public key in PEM format found") from None
    return KeySet([_checked(key, None)])


def read_jwks(data: bytes) -> KeySet:
    """Read the keys of a JSON Web Key Set (RFC 7517, 5) for RS256 and ES256.

    All other keys are ignored with a reason, also symmetric and private ones, because a key set is public.

    Raises:
        InvalidKey: It is not a key set, or contains no usable key.
    """
    if len(data) > MAX_JWKS_BYTES:
        raise InvalidKey(f"larger than {MAX_JWKS_BYTES} bytes")
    try:
        offered = json.loads(data)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError):
        offered = None
    if not isinstance(offered, list):
        raise InvalidKey('not a JSON Web Key Set: expected {"keys": [...]}')
    found, ignored = [], []
    for number, item in enumerate(offered, 1):
        try:
            found.append(_read_jwk(item))
        except InvalidKey as reason:
            kid = item.get("kid") if isinstance(item, dict) else None
            ignored.append(f"key {number}{f' ({ascii(kid)[:60]})' if kid else ''} ignored: {reason}")
    if not found:
        raise InvalidKey(f"no key for RS256 or ES256 found ({'; '.join(ignored[:5]) or 'the key set is empty'})")
    return KeySet(found, ignored)


def _read_jwk(item: Any) -> Key:
    if not isinstance(item, dict):
        raise InvalidKey("not a JSON object")
    kty, kid = item.get("kty"), item.get("kid")
    if kty not in ("RSA", "EC"):
        raise InvalidKey("a symmetric key, and a key set is public" if kty == "oct" else "unsupported key type (kty)")
    if "d" in item:
        raise InvalidKey("a private key was published; replace the key at its source")
    operations = item.get("key_ops", ["verify"])
    if item.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        raise InvalidKey("not for verifying signatures (use, key_ops)")
    if kid is not None and not isinstance(kid, str):
        raise InvalidKey("kid must be a string")
    try:
        material = _READERS[kty]({name: item[name] for name in _PUBLIC[kty]})
    except (PyJWTError, KeyError, ValueError, TypeError, AttributeError, UnsupportedAlgorithm):
        raise InvalidKey("invalid key parameters") from None
    key = _checked(material, kid)
    if item.get("alg", key.algorithm) != key.algorithm:
        raise InvalidKey("for another algorithm (alg)")
    return key


def _checked(material: Any, kid: str | None) -> Key:
    if isinstance(material, RSAPublicKey):
        if material.key_size not in RSA_BITS:
            raise InvalidKey(f"an RSA key must have {RSA_BITS[0]} to {RSA_BITS[-1]} bits, got {material.key_size}")
        return Key("RS256", material, kid)
    if isinstance(material, EllipticCurvePublicKey):
        if not isinstance(material.curve, SECP256R1):
            raise InvalidKey(f"the curve must be P-256 (ES256), got {material.curve.name}")
        return Key("ES256", material, kid)
    raise InvalidKey("the key must be an RSA key or a key on the curve P-256")

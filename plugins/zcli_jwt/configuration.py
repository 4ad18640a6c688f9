"""From the section ``jwt`` to keys and algorithms. Unusable and unsafe settings are refused here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jwt.algorithms import HMACAlgorithm
from jwt.exceptions import InvalidKeyError

from zcli_core.errors import ConfigError
from zcli_jwt.key_file import KeyFile, KeySource
from zcli_jwt.keys import InvalidKey, Key, KeySet, read_jwks, read_public_key
from zcli_jwt.remote_keys import RemoteKeys
from zcli_jwt.settings import ALGORITHMS, Jwt

if TYPE_CHECKING:
    from zcli_core.config import Config
    from zcli_core.plugins.contract import Context

#: The settings that name the key. Exactly one must be set.
KEYS = ("secret", "public_key_file", "jwks_file", "jwks_url")
_SHORTEST_SECRET = 32  # bytes, as many as the hash has (RFC 7518, 3.2)


#: The keys that verify tokens, and the algorithms of these keys.
Verification = tuple[KeySource, tuple[str, ...]]


def read_configuration(context: Context) -> Verification:
    """Return the keys and the accepted algorithms.

    Raises:
        ConfigError: No key or more than one is set, the key cannot be used, or the algorithms do not match it.
    """
    config, settings = context.config, context.config.section(Jwt)
    if not settings.identity_claim:
        raise ConfigError(f"{_where(config, 'identity_claim')} must not be empty; set the name of a claim, such as sub")
    name = _key_setting(config, settings)
    try:
        keys, possible = _READERS[name](context, getattr(settings, name))
    except InvalidKey as problem:
        shown = "" if name == "secret" else f" {getattr(settings, name)}:"
        raise ConfigError(f"{_where(config, name)}:{shown} {problem}") from None
    return keys, _algorithms(config, settings, name, possible)


def _key_setting(config: Config, settings: Jwt) -> str:
    """Return the name of the one setting that names the key."""
    given = [name for name in KEYS if getattr(settings, name) is not None]
    if not given:
        raise ConfigError(
            f"websocket.auth ({config.explain('websocket.auth').origin}) uses JSON Web Tokens, but no key is set, so "
            f"no client could connect; set one of {', '.join(f'jwt.{name}' for name in KEYS)}, for example in "
            f"{config.env_file_in_use}"
        )
    if len(given) > 1:
        raise ConfigError(
            f"{' and '.join(_where(config, name) for name in given)} are set; set only one of them, because a token "
            "must not choose the key that verifies it"
        )
    return given[0]


def _algorithms(config: Config, settings: Jwt, name: str, possible: tuple[str, ...]) -> tuple[str, ...]:
    others = [algorithm for algorithm in settings.algorithms if algorithm not in possible]
    if others:
        raise ConfigError(
            f"{_where(config, 'algorithms')} contains {' and '.join(others)}, but the key of {_where(config, name)} is "
            f"for {' or '.join(possible)}"
        )
    return settings.algorithms or possible


def _where(config: Config, name: str) -> str:
    return f"jwt.{name} ({config.explain(f'jwt.{name}').origin})"


# The four kinds of keys ------------------------------------------------------------------------------------------


def _secret(_: Context, text: str) -> Verification:
    secret = text.encode("utf-8", "surrogateescape")
    if len(secret) < _SHORTEST_SECRET:
        raise InvalidKey(
            f"a secret for HS256 must have at least {_SHORTEST_SECRET} bytes, got {len(secret)} (RFC 7518, 3.2); a "
            "shorter one can be guessed from a token; the command 'zcli token' makes one"
        )
    if _is_a_key(secret):
        raise InvalidKey(
            "it is a key in PEM, SSH or JWK format; put a public key into a file and set jwt.public_key_file or "
            "jwt.jwks_file instead"
        )
    return KeySet([Key("HS256", secret)]), ("HS256",)


def _is_a_key(secret: bytes) -> bool:
    """Return whether the secret is a public key by mistake: every owner of the key could then sign tokens."""
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except InvalidKeyError:
        return True
    return b'"kty"' in secret  # older versions of PyJWT accept it


def _public_key_file(context: Context, path: Path) -> Verification:
    source = KeyFile(path, read_public_key, context.log)
    return source, (source.current().keys[0].algorithm,)


def _jwks_file(context: Context, path: Path) -> Verification:
    return KeyFile(path, read_jwks, context.log), _ASYMMETRIC


def _jwks_url(context: Context, url: str) -> Verification:
    from zcli_jwt.fetching import fetch

    config, settings = context.config, context.config.section(Jwt)
    keys = RemoteKeys(
        url.partition("?")[0],
        lambda: read_jwks(fetch(url, config, settings.jwks_timeout)),
        settings.jwks_refresh,
        settings.jwks_interval,
        settings.jwks_max_age,
        context.log,
    )
    return keys, _ASYMMETRIC


_ASYMMETRIC = tuple(name for name in ALGORITHMS if name != "HS256")
_READERS: dict[str, Callable[[Context, Any], Verification]] = {
    "secret": _secret,
    "public_key_file": _public_key_file,
    "jwks_file": _jwks_file,
    "jwks_url": _jwks_url,
}

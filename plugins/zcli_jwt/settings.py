"""The section ``jwt``: the key that verifies tokens, and the claims that a token must have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zcli_core.config.settings import Section, setting

if TYPE_CHECKING:
    from pathlib import Path

#: The supported signature algorithms (RFC 7518, 3.1); ``none`` is not one of them.
ALGORITHMS = ("HS256", "RS256", "ES256")


def _algorithms(value: Any) -> str | None:
    return None if set(value) <= set(ALGORITHMS) else f"a list of {', '.join(ALGORITHMS)}"


def _fetchable(value: Any) -> str | None:
    """Return what is expected instead of an unsafe URL.

    Keys that come over plain HTTP could be replaced on the way, and a password in the URL would be logged with it.
    """
    if value is None:
        return None
    import ipaddress
    from urllib.parse import urlsplit

    expected = "a URL that begins with https:// and has no user or password in it (http:// on this machine only)"
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        return expected
    # A space or a control character would be sent as a part of the request.
    if not host or "@" in parts.netloc or not value.isascii() or not value.isprintable() or " " in value:
        return expected
    if parts.scheme == "https":
        return None
    try:
        local = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        local = False
    return None if parts.scheme == "http" and local else expected


class Jwt(Section, name="jwt"):
    """The JSON Web Tokens that admit a client. Exactly one of the four key settings must be set."""

    secret: str | None = setting(
        None, "secret for verifying JSON Web Tokens signed with HS256, at least 32 bytes", secret=True
    )
    public_key_file: Path | None = setting(
        None, "PEM file of the public key for verifying RS256 or ES256 tokens; reloaded when it changes", security=True
    )
    jwks_file: Path | None = setting(
        None, "file with public keys as a JSON Web Key Set (RFC 7517); reloaded when it changes", security=True
    )
    jwks_url: str | None = setting(
        None, "https:// URL of a JSON Web Key Set with the public keys", check=_fetchable, security=True
    )
    jwks_refresh: float = setting(
        300.0, "interval at which the keys at jwt.jwks_url are fetched again, in seconds", above=0, restricts=True
    )
    jwks_interval: float = setting(
        10.0,
        "shortest time between two fetches of jwt.jwks_url, in seconds, even if tokens name unknown keys",
        above=0,
        restricts=True,
    )
    jwks_max_age: float = setting(
        21600.0,
        "how long keys of jwt.jwks_url stay in use if they cannot be fetched again, in seconds",
        above=0,
        security=True,
    )
    jwks_timeout: float = setting(5.0, "timeout of a fetch of jwt.jwks_url, in seconds", above=0, restricts=True)
    algorithms: tuple[str, ...] = setting(
        (), "accepted signature algorithms of JSON Web Tokens: HS256, RS256, ES256; if unset, those that fit the key",
        check=_algorithms, security=True,
    )  # fmt: skip
    issuer: str | None = setting(
        None, "issuer (claim iss) that a JSON Web Token must have; any issuer if unset", security=True
    )
    audience: tuple[str, ...] = setting(
        (),
        "accepted audiences (claim aud) of JSON Web Tokens; if unset, tokens that name an audience are refused",
        security=True,
    )
    leeway: float = setting(
        0.0,
        "tolerated clock difference for the claims exp, nbf and iat, in seconds",
        minimum=0,
        maximum=3600,
        restricts=True,
    )
    required_claims: tuple[str, ...] = setting(("exp",), "claims that every JSON Web Token must have", security=True)
    identity_claim: str = setting(
        "sub", "claim of a JSON Web Token that holds the identity of the client", security=True
    )
    close_at_expiry: bool = setting(
        True,
        "close a WebSocket connection (1008) when the JSON Web Token that admitted its client expires",
        security=True,
    )
    max_token_bytes: int = setting(
        8192, "longest JSON Web Token that is checked, in bytes", minimum=256, restricts=True
    )

"""The section ``jwt``: which tokens are genuine, and whose they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zcli_core.config.settings import Section, setting

if TYPE_CHECKING:
    from pathlib import Path

#: The signature algorithms that there are to choose from (RFC 7518, 3.1). ``none`` is none of them.
ALGORITHMS = ("HS256", "RS256", "ES256")


def _algorithms(value: Any) -> str | None:
    return None if set(value) <= set(ALGORITHMS) else f"names out of {', '.join(ALGORITHMS)}"


def _fetchable(value: Any) -> str | None:
    """A key that came over plain HTTP is anybody's, and a password in a URL would be shown with it."""
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
    # A blank or a control character would be sent as a part of the request.
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
    """Which JSON Web Tokens admit a client; one of the four keys has to be set."""

    secret: str | None = setting(None, "the secret that HS256 tokens are signed with, 32 bytes or more", secret=True)
    public_key_file: Path | None = setting(
        None,
        "PEM file of the public key that RS256 or ES256 tokens are verified with; read again when it changes",
        security=True,
    )
    jwks_file: Path | None = setting(
        None, "file with public keys as a JSON Web Key Set (RFC 7517); read again when it changes", security=True
    )
    jwks_url: str | None = setting(None, "https:// address of a JSON Web Key Set", check=_fetchable, security=True)
    jwks_refresh: float = setting(
        300.0, "seconds after which the keys at jwks_url are fetched again", above=0, restricts=True
    )
    jwks_interval: float = setting(
        10.0, "seconds between two fetches, however many tokens name a key that is not known", above=0, restricts=True
    )
    jwks_max_age: float = setting(
        21600.0,
        "seconds after which fetched keys are not used any more if they cannot be fetched again",
        above=0,
        security=True,
    )
    jwks_timeout: float = setting(5.0, "seconds that a fetch may take", above=0, restricts=True)
    algorithms: tuple[str, ...] = setting(
        (), "signature algorithms that are accepted, out of HS256, RS256 and ES256; by default those of the key",
        check=_algorithms, security=True,
    )  # fmt: skip
    issuer: str | None = setting(None, "the iss that a token must have; any will do if unset", security=True)
    audience: tuple[str, ...] = setting(
        (), "the aud of which a token must have one; tokens for any audience are refused if unset", security=True
    )
    leeway: float = setting(
        0.0, "seconds that clocks may differ by, for exp, nbf and iat", minimum=0, maximum=3600, restricts=True
    )
    required_claims: tuple[str, ...] = setting(("exp",), "claims that a token must have", security=True)
    identity_claim: str = setting("sub", "the claim that names the client", security=True)
    close_at_expiry: bool = setting(
        True,
        "close a WebSocket connection (1008) when the JSON Web Token that admitted its client expires",
        security=True,
    )
    max_token_bytes: int = setting(8192, "longest token that is looked at, in bytes", minimum=256, restricts=True)

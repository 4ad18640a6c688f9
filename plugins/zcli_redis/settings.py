"""The settings of Redis: single settings, or REDIS_URL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zcli_core.config.settings import Composite, setting
from zcli_core.services.parts.settings import ServiceSettings


def parse_url(text: str) -> Mapping[str, Any]:
    """Return the settings in a URL: ``redis://[user@]host[:port][/database]``, ``rediss://`` for TLS, ``unix://path``.

    A password in it is ignored. The schemes are those that redis-py registered with IANA.

    Raises:
        ValueError: it is not a valid URL.
    """
    from urllib.parse import parse_qs, unquote, urlsplit

    parts = urlsplit(text)
    query = parse_qs(parts.query)
    # An unescaped "/", "?" or "#" in a password would make a part of it look like a host.
    if "@" in parts.path + parts.query + parts.fragment:
        raise ValueError("the part before @ is not escaped")
    database = query.get("db", [""])[0] or (parts.path.strip("/") if parts.scheme != "unix" else "")
    found: dict[str, Any] = {
        "user": unquote(parts.username) if parts.username else None,
        "database": int(database) if database else None,
    }
    if parts.scheme == "unix" and parts.path:
        return {**found, "host": unquote(parts.path)}
    if parts.scheme not in ("redis", "rediss", "valkey", "valkeys"):
        raise ValueError("the scheme must be redis, rediss, valkey, valkeys or unix")
    if parts.password is not None and not parts.hostname:
        raise ValueError("no host")
    tls = parts.scheme.endswith("s") and parts.scheme != "redis"
    return {**found, "host": parts.hostname or "127.0.0.1", "port": parts.port, "tls": tls}


class Redis(
    ServiceSettings,
    name="services.redis",
    composites=(
        Composite(
            "REDIS_URL",
            "a URL such as redis://127.0.0.1:6379/0, with special characters in a password escaped",
            ("host", "port", "user", "database", "tls"),
            parse_url,
        ),
    ),
):
    """Redis or Valkey."""

    port: int = setting(6379, "TCP port of Redis", minimum=1, maximum=65535)
    user: str | None = setting(None, "Redis ACL user to connect as")
    database: int = setting(0, "number of the Redis database", minimum=0)
    tls: bool = setting(
        False, "connect to Redis with TLS; if off, TLS is tried only after Redis refuses an unencrypted connection"
    )
    local_password: bool = setting(
        False, "protect a Redis that zCLI starts with a random password; password_file in the connection info holds it",
        security=True,
    )  # fmt: skip

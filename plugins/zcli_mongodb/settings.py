"""The settings of MongoDB: single settings, or MONGODB_URI."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zcli_core.config.settings import Composite, Unusable, setting
from zcli_core.services.parts.settings import ServiceSettings


def parse_uri(text: str) -> Mapping[str, Any]:
    """Return the settings in a connection string: ``mongodb://[user@]host[:port][,more hosts][/database][?options]``.

    The first of several hosts is used, and a password is ignored.
    https://www.mongodb.com/docs/manual/reference/connection-string/

    Raises:
        ValueError: it is not a valid connection string.
        Unusable: it must be resolved with DNS records.
    """
    from urllib.parse import parse_qs, unquote

    scheme, _, rest = text.partition("://")
    if scheme == "mongodb+srv":
        raise Unusable("zCLI does not look up mongodb+srv:// in the DNS; set services.mongodb.host instead")
    if scheme != "mongodb":
        raise ValueError("the scheme must be mongodb")
    authority, _, tail = rest.partition("/")
    credentials, _, hosts = authority.rpartition("@")
    database, _, options = tail.partition("?")
    # An unescaped "/", "?" or "@" in a password would make a part of it look like a host.
    if "@" in credentials or "@" in tail or "?" in authority:
        raise ValueError("the part before @ is not escaped")
    host, port = _first(hosts)
    query = {name.lower(): values[-1] for name, values in parse_qs(options).items()}
    user = unquote(credentials.partition(":")[0])
    return {
        "host": host,
        "port": port,
        "user": user or None,
        "database": unquote(database) or None,
        "tls": {"true": True, "false": False}.get(query.get("tls", query.get("ssl", ""))),
    }


def _first(hosts: str) -> tuple[str, int | None]:
    from urllib.parse import unquote

    first = hosts.partition(",")[0]
    if first.startswith("["):
        host, _, rest = first[1:].partition("]")
        port = rest.removeprefix(":")
    elif first.startswith(("%2F", "%2f")):
        host, port = unquote(first), ""
    else:
        host, _, port = first.partition(":")
    if not host or (port and not (port.isascii() and port.isdigit())):
        raise ValueError("it has no host, or an invalid port")
    return host, int(port) if port else None


class Mongodb(
    ServiceSettings,
    name="services.mongodb",
    composites=(
        Composite(
            "MONGODB_URI",
            "a connection string such as mongodb://127.0.0.1:27017/test, with special characters in a password escaped",
            ("host", "port", "user", "database", "tls"),
            parse_uri,
        ),
    ),
):
    """MongoDB."""

    port: int = setting(27017, "TCP port of MongoDB", minimum=1, maximum=65535)
    user: str | None = setting(None, "MongoDB user to connect as")
    database: str = setting("test", "MongoDB database to connect to")
    tls: bool = setting(
        False, "connect to MongoDB with TLS; if off, TLS is tried only after MongoDB refuses an unencrypted connection"
    )

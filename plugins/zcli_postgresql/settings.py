"""The settings of PostgreSQL. The variables are those of libpq, and DATABASE_URL, which web frameworks use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zcli_core.config.settings import Composite, setting
from zcli_core.services.parts.settings import ServiceSettings


def parse_url(text: str) -> Mapping[str, Any]:
    """Return the settings in a URL: ``postgresql://[user@]host[:port][,more hosts][/database][?host=folder]``.

    The scheme may be ``postgres`` too, or name a driver, as in SQLAlchemy's ``postgresql+psycopg``. A URL of another
    scheme is for another database and sets nothing. The first of several hosts is used, and a password is ignored.
    https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS

    Raises:
        ValueError: it is not a valid URL.
    """
    from urllib.parse import parse_qs, unquote, urlsplit

    scheme, separator, rest = text.partition("://")
    if not separator or not scheme:
        raise ValueError("not a URL")
    if scheme.partition("+")[0].lower() not in ("postgresql", "postgres"):
        return {}
    authority, slash, tail = rest.partition("/")
    # An unescaped "/", "?" or "#" in a password would make a part of it look like a host.
    if "@" in tail.partition("?")[0] or any(mark in authority.rpartition("@")[0] for mark in "?#"):
        raise ValueError("the part before @ is not escaped")
    parts = urlsplit(f"//{authority.partition(',')[0]}{slash}{tail}")
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    host = query.get("host") or unquote(parts.hostname or "")
    port = query.get("port")
    return {
        "host": host.partition(",")[0] or None,
        "port": int(port.partition(",")[0]) if port else parts.port,
        "user": query.get("user") or unquote(parts.username or "") or None,
        "database": query.get("dbname") or unquote(parts.path.strip("/")) or None,
    }


class Postgresql(
    ServiceSettings,
    name="services.postgresql",
    composites=(
        Composite(
            "DATABASE_URL",
            "a URL such as postgresql://127.0.0.1:5432/postgres, with special characters in a password escaped",
            ("host", "port", "user", "database"),
            parse_url,
        ),
    ),
):
    """PostgreSQL."""

    host: str = setting(
        "127.0.0.1", "host name or address of PostgreSQL, or the folder of its Unix socket", variables=("PGHOST",)
    )
    port: int = setting(5432, "TCP port of PostgreSQL", minimum=1, maximum=65535, variables=("PGPORT",))
    user: str = setting("postgres", "PostgreSQL role to connect as", variables=("PGUSER",))
    database: str = setting("postgres", "PostgreSQL database to connect to", variables=("PGDATABASE",))

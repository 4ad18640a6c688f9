"""The section ``bifrost``: models, database, cache, limits, and who may do what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from zcli_core.config.settings import Section, setting

if TYPE_CHECKING:
    from pathlib import Path

_DATABASES = "sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE"


def _database_url(value: Any) -> str | None:
    if value is None or value.startswith(("sqlite:///", "postgresql+psycopg://")):
        return None
    return f"a URL such as {_DATABASES}"


class Bifrost(Section, name="bifrost"):
    """zBifrost: data models that clients of the WebSocket server may read and change."""

    models: Path | Mapping[str, Any] | None = setting(
        None, "models of zBifrost: the path of a YAML file, or a mapping of model names to fields and access rules",
        security=True,
    )  # fmt: skip
    database: str | None = setting(
        None, f"URL of the database of zBifrost, such as {_DATABASES}; if unset, a SQLite file in the folder of the "
        "log, with the name of the log", check=_database_url, secret=True,
    )  # fmt: skip
    cache_ttl: float = setting(
        60.0, "how long zBifrost keeps the result of a read, in seconds, unless a write changes its model before; "
        "0 turns the cache off", minimum=0, maximum=3600,
    )  # fmt: skip
    cache_max: int = setting(
        16 * 1024 * 1024, "most bytes that results in the cache of zBifrost may take in one process; the result that "
        "was used least recently is dropped first", minimum=0,
    )  # fmt: skip
    rows_max: int = setting(
        1000, "most rows that one read of zBifrost returns, and most rows that one create takes", minimum=1,
        maximum=100_000, restricts=True,
    )  # fmt: skip
    result_max: int = setting(
        2 * 1024 * 1024, "largest result of a read of zBifrost, in bytes of JSON; a larger one is refused, and a "
        "larger event tells the client to read again", minimum=1024, restricts=True,
    )  # fmt: skip
    requests_max: int = setting(
        32, "most requests of one client that zBifrost handles at the same time; a further one is refused",
        minimum=1, restricts=True,
    )  # fmt: skip
    subscriptions_max: int = setting(
        100, "most subscriptions of one client of zBifrost at the same time", minimum=0, restricts=True
    )
    query_timeout: float = setting(
        5.0, "how long one statement of zBifrost may run in the database, or wait for a lock there, in seconds",
        above=0, restricts=True,
    )  # fmt: skip
    auth_tier: Literal["none", "zSession", "application", "dual"] = setting(
        "none", "who may use zBifrost: none admits all clients that the WebSocket server admits, zSession an operator "
        "with a token of websocket.tokens, application a user of an application with a key, dual either of them",
        security=True,
    )  # fmt: skip
    operators: Mapping[str, str] = setting(
        {}, "roles of operators in zBifrost, by the identity that websocket.tokens gives them", security=True
    )
    admin_role: str = setting(
        "admin", "role that may clear the cache of zBifrost and change how long results are kept", security=True
    )

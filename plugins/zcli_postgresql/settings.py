"""Where PostgreSQL is. The variables are libpq's own."""

from __future__ import annotations

from zcli_core.config.settings import setting
from zcli_core.contracts.service_settings import ServiceSettings


class Postgresql(ServiceSettings, name="services.postgresql"):
    """PostgreSQL."""

    host: str = setting(
        "127.0.0.1", "name or address to reach it at, or the folder of its Unix socket", variables=("PGHOST",)
    )
    port: int = setting(5432, "TCP port", minimum=1, maximum=65535, variables=("PGPORT",))
    user: str = setting("postgres", "role to connect as", variables=("PGUSER",))
    database: str = setting("postgres", "database to connect to", variables=("PGDATABASE",))

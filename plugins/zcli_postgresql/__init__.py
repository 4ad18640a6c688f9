"""PostgreSQL as a service: its status, starting and stopping it."""

from zcli_core import hookimpl
from zcli_core.plugins.contract import Provider

ZCLI_CONTRACT = 1


@hookimpl
def zcli_settings():  # type: ignore[no-untyped-def]
    """Declare ``services.postgresql``."""
    from zcli_postgresql.settings import Postgresql

    return [Postgresql]


@hookimpl
def zcli_service_backends():  # type: ignore[no-untyped-def]
    """Provide the service. Its backend is imported when it is first used."""
    return [Provider("postgresql", "PostgreSQL, the relational database", _backend, aliases=("postgres", "pg"))]


def _backend(context):  # type: ignore[no-untyped-def]
    from zcli_postgresql.backend import PostgresqlBackend

    return PostgresqlBackend(context)

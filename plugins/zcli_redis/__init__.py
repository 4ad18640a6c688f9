"""Redis and Valkey as a service: its status, starting and stopping it."""

from zcli_core import hookimpl
from zcli_core.plugins.contract import Provider

ZCLI_CONTRACT = 1


@hookimpl
def zcli_settings():  # type: ignore[no-untyped-def]
    """Declare ``services.redis``."""
    from zcli_redis.settings import Redis

    return [Redis]


@hookimpl
def zcli_service_backends():  # type: ignore[no-untyped-def]
    """Provide the service. Its backend is imported when it is first used."""
    return [Provider("redis", "Redis or Valkey, the in-memory store", _backend, aliases=("valkey",))]


def _backend(context):  # type: ignore[no-untyped-def]
    from zcli_redis.backend import RedisBackend

    return RedisBackend(context)

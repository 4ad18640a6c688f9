"""MongoDB as a service: its status, starting and stopping it."""

from zcli_core import hookimpl
from zcli_core.plugins.contract import Provider

ZCLI_CONTRACT = 1


@hookimpl
def zcli_settings():  # type: ignore[no-untyped-def]
    """Declare ``services.mongodb``."""
    from zcli_mongodb.settings import Mongodb

    return [Mongodb]


@hookimpl
def zcli_service_backends():  # type: ignore[no-untyped-def]
    """Provide the service. Its backend is imported when it is first used."""
    return [Provider("mongodb", "MongoDB, the document database", _backend, aliases=("mongo",))]


def _backend(context):  # type: ignore[no-untyped-def]
    from zcli_mongodb.backend import MongodbBackend

    return MongodbBackend(context)

"""NATS as a service: its status, starting and stopping it."""

from zcli_core import hookimpl
from zcli_core.plugins.contract import Provider

ZCLI_CONTRACT = 1


@hookimpl
def zcli_settings():  # type: ignore[no-untyped-def]
    """Declare ``services.nats``."""
    from zcli_nats.service_settings import NatsService

    return [NatsService]


@hookimpl
def zcli_service_backends():  # type: ignore[no-untyped-def]
    """Provide the service. Its backend is imported when it is first used."""
    return [Provider("nats", "NATS, the message broker", _service)]


def _service(context):  # type: ignore[no-untyped-def]
    from zcli_nats.service import NatsBackend

    return NatsBackend(context)

"""NATS: the service ``nats``, and the backplane ``nats``, which carries messages between processes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from zcli_core import hookimpl
from zcli_core.plugins.contract import Context, Provider

if TYPE_CHECKING:
    from zcli_core.backplane.contract import Backplane
    from zcli_core.config.settings import Section
    from zcli_core.services.contract import ServiceBackend

ZCLI_CONTRACT = 1


@hookimpl
def zcli_settings() -> Iterable[type[Section]]:
    """Declare ``backplane.nats`` and ``services.nats``."""
    from zcli_nats.backplane_settings import NatsBackplaneSettings
    from zcli_nats.service_settings import NatsService

    return [NatsBackplaneSettings, NatsService]


def _backplane(context: Context) -> Backplane:
    from zcli_nats.address import read_address
    from zcli_nats.backplane import NatsBackplane

    return NatsBackplane(read_address(context.config), context.config.backplane.namespace)


@hookimpl
def zcli_backplanes() -> Iterable[Provider[Backplane]]:
    """Offer the backplane ``nats``. Its modules are imported when it is selected."""
    return [Provider("nats", "NATS; without counts and presence", _backplane)]


def _service(context: Context) -> ServiceBackend:
    from zcli_nats.service import NatsBackend

    return NatsBackend(context)


@hookimpl
def zcli_service_backends() -> list[Provider[ServiceBackend]]:
    """Provide the service. Its backend is imported when it is first used."""
    return [Provider("nats", "NATS, the message broker", _service)]

"""NATS as the backplane ``nats``, which carries messages between processes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from zcli_core import hookimpl
from zcli_core.plugins.contract import Context, Provider

if TYPE_CHECKING:
    from zcli_core.backplane.contract import Backplane
    from zcli_core.config.settings import Section

ZCLI_CONTRACT = 1


@hookimpl
def zcli_settings() -> Iterable[type[Section]]:
    """Declare ``backplane.nats``."""
    from zcli_nats.backplane_settings import NatsBackplaneSettings

    return [NatsBackplaneSettings]


def _backplane(context: Context) -> Backplane:
    from zcli_nats.address import read_address
    from zcli_nats.backplane import NatsBackplane

    return NatsBackplane(read_address(context.config), context.config.backplane.namespace)


@hookimpl
def zcli_backplanes() -> Iterable[Provider[Backplane]]:
    """Offer the backplane ``nats``. Its modules are imported when it is selected."""
    return [Provider("nats", "NATS; without counts and presence", _backplane)]

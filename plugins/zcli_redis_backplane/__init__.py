"""The backplane ``redis``, which carries messages between processes over Redis or Valkey."""

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
    """Declare ``backplane.redis``."""
    from zcli_redis_backplane.settings import RedisBackplaneSettings

    return [RedisBackplaneSettings]


def _backplane(context: Context) -> Backplane:
    from zcli_redis_backplane.address import read_address
    from zcli_redis_backplane.backplane import RedisBackplane

    settings = context.config.backplane
    return RedisBackplane(read_address(context.config), settings.namespace, settings.presence_timeout)


@hookimpl
def zcli_backplanes() -> Iterable[Provider[Backplane]]:
    """Offer the backplane ``redis``. Its modules are imported when it is selected."""
    return [Provider("redis", "Redis 6.2 or later, or Valkey", _backplane, aliases=("valkey",))]

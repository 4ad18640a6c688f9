"""zBifrost."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from zcli_core import hookimpl
from zcli_core.plugins.contract import Context, Provider

if TYPE_CHECKING:
    import click

    from zcli_core.auth.contract import AuthStrategy
    from zcli_core.config.contract import ConfigLayer
    from zcli_core.config.settings import Section

ZCLI_CONTRACT = 1


@hookimpl
def zcli_settings() -> Iterable[type[Section]]:
    """Declare the section ``bifrost``."""
    from zcli_bifrost.settings import Bifrost

    return [Bifrost]


@hookimpl
def zcli_config_layers() -> Iterable[ConfigLayer]:
    """Offer the layers that make ``bifrost.auth_tier`` hold for the WebSocket server."""
    from zcli_bifrost.access.tier_layer import TierCheckLayer, TierLayer

    return [TierLayer(), TierCheckLayer()]


def _strategy(context: Context) -> AuthStrategy:
    from zcli_bifrost.access.opening import make_strategy

    return make_strategy(context)


@hookimpl
def zcli_auth_strategies() -> Iterable[Provider[AuthStrategy]]:
    """Offer the strategy ``bifrost``."""
    return [Provider("bifrost", "the clients of bifrost.auth_tier: operators, users of an application", _strategy)]


@hookimpl
def zcli_commands(cli: click.Group) -> None:
    """Add ``zcli bifrost``."""
    from zcli_bifrost.commands import command

    cli.add_command(command)

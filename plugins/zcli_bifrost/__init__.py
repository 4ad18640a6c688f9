"""zBifrost: named events between browsers and a script, and data models that browsers may use.

It provides the subsystems ``z.walker`` and ``z.bifrost``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from zcli_core import hookimpl
from zcli_core.plugins.contract import Context, Provider

if TYPE_CHECKING:
    import click

    from zcli_bifrost.server import BifrostServer
    from zcli_bifrost.walker import BifrostWalker
    from zcli_core.auth.contract import AuthStrategy
    from zcli_core.config.contract import ConfigLayer
    from zcli_core.config.settings import Section
    from zcli_core.subsystems.contract import Subsystem, SubsystemContext
    from zcli_core.websocket.contract import PlainResponse, Request

ZCLI_CONTRACT = 1


def _walker(context: SubsystemContext) -> BifrostWalker:
    from zcli_bifrost.walker import BifrostWalker

    return BifrostWalker(context.app)


def _bifrost(context: SubsystemContext) -> BifrostServer:
    from zcli_bifrost.server import BifrostServer

    return BifrostServer(context)


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


@hookimpl
def zcli_subsystems() -> Iterable[Provider[Subsystem]]:
    """Offer ``z.walker`` and ``z.bifrost``."""
    return [
        Provider("walker", "runs the application in the way that zMode says", _walker),
        Provider("bifrost", "named events and data models for browsers, over the WebSocket server", _bifrost),
    ]


@hookimpl
def zcli_websocket_http(request: Request, admits: Callable[[], bool], context: Context) -> PlainResponse | None:
    """Respond with the JavaScript client, ``/bifrost.js``, where zBifrost is served."""
    from zcli_bifrost.client_file import respond

    return respond(request, context.config)

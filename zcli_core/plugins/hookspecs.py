"""Every hook of zCLI, by phase.

A plugin is a module (or any object) named in the entry-point group ``zcli``. It states the contract version it
was written for and implements what it needs of the hooks below, each with as few of the arguments as it likes::

    from zcli_core import hookimpl
    from zcli_core.plugins.contract import Context, Provider

    ZCLI_CONTRACT = 1

    @hookimpl
    def zcli_http_transports():
        return [Provider("mine", "my own transport", make_transport)]

Declaring hooks are called once for every ``zCLI`` object, before anything is made. Running hooks are called when
something happens. If one raises, the error is logged with its plugin's name and changes nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable

    import click

    from zcli_core.app import zCLI
    from zcli_core.auth.contract import AuthStrategy
    from zcli_core.config.contract import ConfigLayer
    from zcli_core.config.settings import Section
    from zcli_core.http.contract import HttpFailure, HttpRequest, HttpResponse, HttpTransport
    from zcli_core.plugins.contract import Context, Provider
    from zcli_core.services.contract import ServiceBackend
    from zcli_core.websocket.connection import ServerConnection
    from zcli_core.websocket.contract import Transport as WebSocketTransport

PROJECT = "zcli"

_F = TypeVar("_F", bound="Callable[..., Any]")

hookspec = pluggy.HookspecMarker(PROJECT)


def declaring(function: _F) -> _F:
    """Mark the specification of a hook that is asked, at the start, what its plugin brings."""
    function.phase = "declaring"  # type: ignore[attr-defined]
    return hookspec(function)


def running(function: _F) -> _F:
    """Mark the specification of a hook that is told what happens."""
    function.phase = "running"  # type: ignore[attr-defined]
    return hookspec(function)


#: Marks a function as the implementation of the hook of its name.
hookimpl = pluggy.HookimplMarker(PROJECT)


# --- declaring ------------------------------------------------------------------------------------------------


@declaring
def zcli_settings() -> Iterable[type[Section]]:  # type: ignore[empty-body]
    """Declare settings sections of the plugin's own.

    :returns: classes derived from :class:`zcli_core.config.settings.Section`. Validation, environment
        variables, ``zcli config`` and suggestions follow from them.
    """


@declaring
def zcli_config_layers() -> Iterable[ConfigLayer]:  # type: ignore[empty-body]
    """Declare configuration layers.

    :returns: objects of :class:`zcli_core.config.contract.ConfigLayer`; ``order`` places each among the
        built-in ones (defaults 0, machine 100, environment 200, .zEnv 300, zSpark 400), higher wins.
    """


@declaring
def zcli_http_transports() -> Iterable[Provider[HttpTransport]]:  # type: ignore[empty-body]
    """Declare HTTP transports; ``http.transport`` selects one by name.

    :returns: providers of :class:`zcli_core.http.contract.HttpTransport`.
    """


@declaring
def zcli_websocket_transports() -> Iterable[Provider[WebSocketTransport]]:  # type: ignore[empty-body]
    """Declare WebSocket transports; ``websocket.transport`` selects one by name.

    :returns: providers of :class:`zcli_core.websocket.contract.Transport`.
    """


@declaring
def zcli_auth_strategies() -> Iterable[Provider[AuthStrategy]]:  # type: ignore[empty-body]
    """Declare auth strategies; ``websocket.auth`` selects some by name, in the order in which they are asked.

    :returns: providers of :class:`zcli_core.auth.contract.AuthStrategy`.
    """


@declaring
def zcli_service_backends() -> Iterable[Provider[ServiceBackend]]:  # type: ignore[empty-body]
    """Declare services that can be asked how they are, and started and stopped; all of them are in use, by name.

    :returns: providers of :class:`zcli_core.services.contract.ServiceBackend`.
    """


@declaring
def zcli_commands(cli: click.Group) -> None:
    """Add subcommands to ``zcli``. Called only by the command line.

    :param cli: the command group; ``cli.add_command(my_command)``.
    """


# --- running --------------------------------------------------------------------------------------------------


@running
def zcli_ready(app: zCLI) -> None:
    """A ``zCLI`` object is complete and about to be handed to the script.

    :param app: that object; its configuration, log and ``comm`` can be used.
    """


@running
def zcli_closing(app: zCLI) -> None:
    """A ``zCLI`` object is about to be closed: by ``close()``, the end of its ``with`` block or of the program.

    :param app: that object, everything still in working order.
    """


@running
def zcli_http_request(request: HttpRequest, context: Context) -> None:
    """An HTTP request is about to be sent. Called once per call, before redirects and retries.

    :param request: its method, URL, headers and body; headers may be added or changed.
    :param context: the configuration and the log of the ``zCLI`` object that sends it.
    """


@running
def zcli_http_response(request: HttpRequest, outcome: HttpResponse | HttpFailure, context: Context) -> None:
    """An HTTP call has ended.

    :param request: the request as it was given to ``zcli_http_request``.
    :param outcome: the response, whatever its status, or the failure that prevented one; both have ``elapsed``.
    :param context: the configuration and the log of the ``zCLI`` object that made the call.
    """


@running
def zcli_websocket_opened(connection: ServerConnection, context: Context) -> None:
    """A WebSocket client has been let in. Called in the event loop's thread: it must not block.

    :param connection: the connection, open; ``on_connect`` and the handler follow.
    :param context: the configuration and the log of the ``zCLI`` object that serves it.
    """


@running
def zcli_websocket_closed(connection: ServerConnection, code: int, reason: str, context: Context) -> None:
    """A WebSocket connection is gone; once for every ``zcli_websocket_opened``. It must not block either.

    :param connection: the connection; nothing can be sent any more.
    :param code: the close code of whoever closed first (RFC 6455, 7.4); 1006 where nobody sent one.
    :param reason: the reason that came with it; for 1006, what happened.
    :param context: the configuration and the log of the ``zCLI`` object that served it.
    """


@running
def zcli_service_changed(name: str, status: dict[str, Any], context: Context) -> None:
    """A service was started, stopped or restarted through this ``zCLI`` object.

    :param name: the service's name, whatever alias was used.
    :param status: how it is now, as ``service_status(name)`` gives it.
    :param context: the configuration and the log of that ``zCLI`` object.
    """

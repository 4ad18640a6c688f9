"""Every hook of zCLI, by phase.

A plugin is a module (or any object) named in the entry-point group ``zcli``. It states the contract version that it
was written for. It implements the hooks that it needs. An implementation names only the arguments that it uses::

    from zcli_core import hookimpl
    from zcli_core.plugins.contract import Context, Provider

    ZCLI_CONTRACT = 1

    @hookimpl
    def zcli_http_transports():
        return [Provider("mine", "my own transport", make_transport)]

Declaring hooks are called once for each ``zCLI`` object, at its start. (``zcli_config_layers`` is called twice if the
plugin is also named in the group ``zcli.first``.) Running hooks are called when something happens. If one raises, zCLI
logs the error with the name of the plugin, and continues. Asking hooks are called until one returns something other
than None. If one raises, zCLI logs the error and asks the next one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable

    import click

    from zcli_core.app import zCLI
    from zcli_core.auth.contract import AuthStrategy
    from zcli_core.backplane.contract import Backplane
    from zcli_core.config.contract import ConfigLayer
    from zcli_core.config.settings import Section
    from zcli_core.errors import BackplaneFailure
    from zcli_core.http.contract import HttpFailure, HttpRequest, HttpResponse, HttpTransport
    from zcli_core.plugins.contract import Context, Provider
    from zcli_core.services.contract import ServiceBackend
    from zcli_core.subsystems.contract import Subsystem
    from zcli_core.types import ServiceStatus
    from zcli_core.websocket.connection import ServerConnection
    from zcli_core.websocket.contract import PlainResponse, Request
    from zcli_core.websocket.contract import Transport as WebSocketTransport
    from zcli_core.websocket.facade import WebSocketServer
    from zcli_core.websocket.running_server import RunningServer

PROJECT = "zcli"

_F = TypeVar("_F", bound="Callable[..., Any]")

hookspec = pluggy.HookspecMarker(PROJECT)


def declaring(function: _F) -> _F:
    """Mark the specification of a hook that is called at the start and returns what its plugin provides."""
    function.phase = "declaring"  # type: ignore[attr-defined]
    return hookspec(function)


def running(function: _F) -> _F:
    """Mark the specification of a hook that is called when something happens."""
    function.phase = "running"  # type: ignore[attr-defined]
    return hookspec(function)


def asking(function: _F) -> _F:
    """Mark the specification of a hook that is called until one implementation returns something other than None."""
    function.phase = "asking"  # type: ignore[attr-defined]
    return hookspec(function)


#: Marks a function as the implementation of the hook that has the function's name.
hookimpl = pluggy.HookimplMarker(PROJECT)


# --- declaring ------------------------------------------------------------------------------------------------


@declaring
def zcli_settings() -> Iterable[type[Section]]:  # type: ignore[empty-body]
    """Declare the settings of the plugin.

    Returns:
        Classes derived from :class:`zcli_core.config.settings.Section`. zCLI derives validation, environment
        variables, ``zcli config`` and suggestions from them.
    """


@declaring
def zcli_config_layers() -> Iterable[ConfigLayer]:  # type: ignore[empty-body]
    """Declare configuration layers.

    Returns:
        Objects of :class:`zcli_core.config.contract.ConfigLayer`. ``order`` places each of them among the builtin
        layers (defaults 0, machine 100, environment 200, .zEnv 300, zSpark 400). A higher order wins.
    """


@declaring
def zcli_http_transports() -> Iterable[Provider[HttpTransport]]:  # type: ignore[empty-body]
    """Declare HTTP transports. The setting ``http.transport`` selects one by name.

    Returns:
        Providers of :class:`zcli_core.http.contract.HttpTransport`.
    """


@declaring
def zcli_websocket_transports() -> Iterable[Provider[WebSocketTransport]]:  # type: ignore[empty-body]
    """Declare WebSocket transports. The setting ``websocket.transport`` selects one by name.

    Returns:
        Providers of :class:`zcli_core.websocket.contract.Transport`.
    """


@declaring
def zcli_auth_strategies() -> Iterable[Provider[AuthStrategy]]:  # type: ignore[empty-body]
    """Declare auth strategies. The setting ``websocket.auth`` selects some by name, in the order in which they run.

    Returns:
        Providers of :class:`zcli_core.auth.contract.AuthStrategy`.
    """


@declaring
def zcli_service_backends() -> Iterable[Provider[ServiceBackend]]:  # type: ignore[empty-body]
    """Declare service backends: how to probe, start and stop a service. All of them are in use, by name.

    Returns:
        Providers of :class:`zcli_core.services.contract.ServiceBackend`.
    """


@declaring
def zcli_backplanes() -> Iterable[Provider[Backplane]]:  # type: ignore[empty-body]
    """Declare backplanes. The setting ``websocket.backplane`` selects one by name.

    Returns:
        Providers of :class:`zcli_core.backplane.contract.Backplane`.
    """


@declaring
def zcli_subsystems() -> Iterable[Provider[Subsystem]]:  # type: ignore[empty-body]
    """Declare subsystems. The name of each becomes an attribute of the ``zCLI`` object, such as ``z.bifrost``.

    A subsystem is made when a script first uses its attribute.

    Returns:
        Providers of :class:`zcli_core.subsystems.contract.Subsystem`. Names must be identifiers, and not those of
        attributes that the object has already.
    """


@declaring
def zcli_commands(cli: click.Group) -> None:
    """Add subcommands to ``zcli``. Only the command line calls this hook.

    Args:
        cli: The command group; ``cli.add_command(my_command)``.
    """


# --- running --------------------------------------------------------------------------------------------------


@running
def zcli_ready(app: zCLI) -> None:
    """Run when a ``zCLI`` object is complete, before the script gets it.

    Args:
        app: The object. Its configuration, log and ``comm`` can be used.
    """


@running
def zcli_closing(app: zCLI) -> None:
    """Run before a ``zCLI`` object is closed: by ``close()``, or at the end of its ``with`` block or of the program.

    Args:
        app: The object. Everything in it still works.
    """


@running
def zcli_http_request(request: HttpRequest, context: Context) -> None:
    """Run before an HTTP request is sent, once for each call: redirects and retries do not run it again.

    Args:
        request: The method, URL, headers and body. Headers may be added or changed.
        context: The configuration and the log of the ``zCLI`` object that sends the request.
    """


@running
def zcli_http_response(request: HttpRequest, outcome: HttpResponse | HttpFailure, context: Context) -> None:
    """Run when an HTTP call has ended.

    Args:
        request: The request that ``zcli_http_request`` got.
        outcome: The response, with any status, or the failure that prevented one. Both have ``elapsed``.
        context: The configuration and the log of the ``zCLI`` object that made the call.
    """


@running
def zcli_websocket_opened(connection: ServerConnection, context: Context) -> None:
    """Run when a WebSocket client is admitted. Runs in the event loop's thread, so it must not block.

    Args:
        connection: The open connection. ``on_connect`` and the handler follow.
        context: The configuration and the log of the ``zCLI`` object that serves the client.
    """


@running
def zcli_websocket_closed(connection: ServerConnection, code: int, reason: str, context: Context) -> None:
    """Run when a WebSocket connection has ended, once for each ``zcli_websocket_opened``. It must not block.

    Args:
        connection: The connection. It cannot send any more.
        code: The close code of the side that closed first (RFC 6455, section 7.4), or 1006 if no side sent one.
        reason: The close reason of that side. With code 1006, the cause.
        context: The configuration and the log of the ``zCLI`` object that served the client.
    """


@running
def zcli_websocket_joined(connection: ServerConnection, room: str, context: Context) -> None:
    """Run when a WebSocket client has joined a room. It must not block.

    Args:
        connection: The client.
        room: The room.
        context: The configuration and the log of the ``zCLI`` object that serves the client.
    """


@running
def zcli_websocket_left(connection: ServerConnection, room: str, context: Context) -> None:
    """Run when a WebSocket client has left a room, or its connection has ended. It must not block.

    Args:
        connection: The client.
        room: The room.
        context: The configuration and the log of the ``zCLI`` object that served the client.
    """


@running
def zcli_websocket_serving(server: RunningServer, context: Context) -> None:
    """Run when the WebSocket server listens, once for each start, in the process that was started.

    With ``websocket.workers`` that process is the supervisor, so ``server`` stands for all workers. It is not run for
    an ASGI application inside another program's server. The server's URL is announced after it. It must not block.

    Args:
        server: The server: its metrics and its state. Its methods may be called from any thread.
        context: The configuration and the log of the ``zCLI`` object that serves.

    Raises:
        ConfigError, ListenError: The plugin cannot do what its settings ask for. The server does not start, and the
            call of :meth:`~zCLI.WebSocketServer.start` raises this error.
    """


@running
def zcli_websocket_ended(server: RunningServer, context: Context) -> None:
    """Run when a server has ended, also if another plugin has stopped its start. It must not block.

    The plugins are called in the reverse order of ``zcli_websocket_serving``, without the one that stopped the start.

    Args:
        server: The server. Its metrics can still be read.
        context: The configuration and the log of the ``zCLI`` object that served.
    """


@running
def zcli_backplane_changed(state: Literal["up", "down"], failure: BackplaneFailure | None, context: Context) -> None:
    """Run when the link to the other processes has been proven by a probe, or is lost. It must not block.

    Args:
        state: ``"up"``: a message has travelled through the engine and come back. ``"down"``: no message arrives.
        failure: Why it is down, or None.
        context: The configuration and the log of the ``zCLI`` object.
    """


@running
def zcli_service_changed(name: str, status: ServiceStatus, context: Context) -> None:
    """Run when this ``zCLI`` object has started, stopped or restarted a service.

    Args:
        name: The name of the service, also if the script used an alias.
        status: The status of the service after the change, as ``service_status(name)`` returns it.
        context: The configuration and the log of the ``zCLI`` object.
    """


# --- asking ---------------------------------------------------------------------------------------------------


@asking
def zcli_websocket_http(
    request: Request, admits: Callable[[], bool], server: WebSocketServer, context: Context
) -> PlainResponse | None:
    """Respond to a plain HTTP request on the WebSocket port, such as for a page or a script.

    It is called for GET and HEAD, except ``/health`` and ``/ready``. It runs in the event loop's thread, so it must not
    block. The request has passed no check of the gate, so every client that reaches the port can send it, also a page
    of another site. zCLI sends no body for HEAD. It adds ``Access-Control-Allow-Origin`` if the request comes from a
    page that may connect, and ``X-Content-Type-Options: nosniff``.

    Args:
        request: The request, with the client's own address if a trusted proxy has forwarded it.
        admits: Returns whether an upgrade with the same address, headers and query would be admitted: by the limits,
            the origin and, with ``websocket.require_auth``, the credential. A wrong credential counts as a failed
            attempt. It returns False for credentials of which only a strategy that waits could decide.
        server: The server of this process, ``z.comm.websocket``: its clients, rooms and counters.
        context: The configuration and the log of the ``zCLI`` object that serves.

    Returns:
        The response, or None to leave the request to the next plugin; without a response, zCLI responds with 426.
    """

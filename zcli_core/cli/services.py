"""``zcli services``: show, start, stop and restart local services."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import click

from zcli_core.cli.output import json_option, make_table, print_error, print_json, print_table
from zcli_core.cli.session import comm

if TYPE_CHECKING:
    from zcli_core.comm import Comm
    from zcli_core.types import ServiceStatus

_COLUMNS = ("service", "state", "address", "version", "login", "detail")
_Row = tuple[str, ...]


@click.group("services", invoke_without_command=True)
@json_option
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """Show the status of all local services.

    \b
    ready        the service answers its protocol and accepts clients
    not ready    it answers, but accepts no clients now, for example while it starts
    stopped      no process listens on its port
    unreachable  no connection to its address could be made
    silent       a process accepts connections and does not answer
    foreign      a server of another protocol answers
    unusable     its plugin failed, or its settings cannot be used
    """
    if ctx.invoked_subcommand is not None:
        return
    facade = comm()
    try:
        if not as_json and sys.stdout.isatty():
            _watch(facade)
            return
        found = facade.service_status()
    finally:
        facade.close()
    if as_json:
        print_json(list(found.values()))
    else:
        print_table(_COLUMNS, [_row(status) for status in found.values()])


def _watch(facade: Comm) -> None:
    """Show the table at once, and fill in each row when its service was probed."""
    from rich.console import Console
    from rich.live import Live

    from zcli_core.services.concurrency import map_concurrently

    rows: dict[str, _Row] = {name: (name, "...", "", "", "", "") for name in facade.services.names}
    with Live(make_table(_COLUMNS, rows.values()), console=Console(highlight=False)) as live:

        def probe(name: str) -> None:
            rows[name] = _row(facade.services.report(name))
            live.update(make_table(_COLUMNS, rows.values()), refresh=True)

        map_concurrently(probe, facade.services.names)


def _row(status: ServiceStatus) -> _Row:
    info = status.get("connection_info")
    login = {True: "needed", False: "not needed", None: ""}[status["needs_auth"]]
    port = "" if status["port"] is None else f":{status['port']}"
    address = f"{info['host']}:{info['port']}" if info else port
    owner = "" if status["owner_trusted"] else f"another user, {status['owner']}, runs it"
    detail = "; ".join(filter(None, (status.get("error"), owner)))
    return (status["service"], status["state"], address, status["version"] or "", login, detail)


_OPTIONS = {
    "data-dir": click.option("--data-dir", type=click.Path(), help="Data folder of a server that zCLI starts."),
    "timeout": click.option("--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds to wait at most."),
    "port": click.option("--port", type=click.IntRange(1, 65535), help="Port; services.NAME.port if not given."),
}


def _options(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the argument NAME, ``--json`` and the named options to a subcommand."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        for option in (json_option, *(_OPTIONS[name] for name in names), click.argument("name")):
            function = option(function)
        return function

    return add


@command.command("status")
@_options("data-dir", "port")
def status(name: str, as_json: bool, **options: Any) -> None:
    """Show the status of the service NAME. The exit status is 0 if it is ready, and otherwise 1."""
    facade = comm()
    try:
        found = facade.services.status(name, **options)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    finally:
        facade.close()
    if as_json:
        print_json(found)
    else:
        print_table(_COLUMNS, [_row(found)])
    sys.exit(0 if found["ready"] else 1)


@command.command("start")
@_options("data-dir", "timeout", "port")
@click.option(
    "--launcher", help="What starts the service: auto, systemd, debian-cluster, homebrew, windows-service or local."
)
def start(name: str, as_json: bool, **options: Any) -> None:
    """Start the service NAME and wait until it is ready. A service that is ready is not changed."""
    _change("start", name, as_json, options)


@command.command("stop")
@_options("data-dir", "timeout", "port")
def stop(name: str, as_json: bool, **options: Any) -> None:
    """Stop the service NAME and wait until it has stopped.

    The launcher that started the service stops it.
    """
    _change("stop", name, as_json, options)


@command.command("restart")
@_options("data-dir", "timeout", "port")
def restart(name: str, as_json: bool, **options: Any) -> None:
    """Restart the service NAME and wait until it is ready.

    The launcher that started the service stops and starts it.
    """
    _change("restart", name, as_json, options)


def _change(action: Literal["start", "stop", "restart"], name: str, as_json: bool, options: dict[str, Any]) -> None:
    """Start, stop or restart a service and show its status; end with status 1 if that failed."""
    from rich.console import Console

    facade = comm()
    try:
        console = Console(stderr=True)
        spinner = "dots" if console.encoding.startswith("utf") else "line"
        with console.status(f"{name}: {action} ...", spinner=spinner):
            done = facade.services.change(action, name, **options)
            status = facade.services.status(name, port=options["port"], data_dir=options["data_dir"])
        failure = facade.services.last_failure
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    finally:
        facade.close()
    if as_json:
        print_json({"done": done, "status": status, "failure": failure})
    elif done:
        print_table(_COLUMNS, [_row(status)])
    if not done:
        print_error(failure)
        sys.exit(1)

"""``zcli services``: which local services run, and starting and stopping them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

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
    """Show which local services run, or how one is; start, stop or restart one.

    \b
    ready        it answers in its own protocol and would serve a client
    not ready    it answers, but is starting up or the like
    stopped      nothing listens there
    unreachable  there is no way to its address
    silent       something accepts connections and does not say what it is
    foreign      another protocol answered there
    unusable     its plugin fails, its settings cannot be used, or two plugins provide it
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
    """Show the table at once and fill in each row when its service has answered."""
    from rich.console import Console
    from rich.live import Live

    from zcli_core.services.probing import at_once

    rows: dict[str, _Row] = {name: (name, "...", "", "", "", "") for name in facade.services.names}
    with Live(make_table(_COLUMNS, rows.values()), console=Console(highlight=False)) as live:

        def ask(name: str) -> None:
            rows[name] = _row(facade.services.report(name))
            live.update(make_table(_COLUMNS, rows.values()), refresh=True)

        at_once(ask, facade.services.names)


def _row(status: ServiceStatus) -> _Row:
    info = status.get("connection_info")
    login = {True: "needed", False: "not needed", None: ""}[status["needs_auth"]]
    port = "" if status["port"] is None else f":{status['port']}"
    address = f"{info['host']}:{info['port']}" if info else port
    stranger = "" if status["owner_trusted"] else f"another user, {status['owner']}, runs it"
    detail = "; ".join(filter(None, (status.get("error"), stranger)))
    return (status["service"], status["state"], address, status["version"] or "", login, detail)


_OPTIONS = {
    "data-dir": click.option("--data-dir", type=click.Path(), help="Data folder of a server that zCLI starts itself."),
    "timeout": click.option("--timeout", type=click.FloatRange(min=0, min_open=True), help="Seconds that it may take."),
    "port": click.option("--port", type=click.IntRange(1, 65535), help="Its port; services.NAME.port if not given."),
}


def _options(*names: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the argument NAME, ``--json`` and the options of these names to a subcommand."""

    def add(function: Callable[..., None]) -> Callable[..., None]:
        for option in (json_option, *(_OPTIONS[name] for name in names), click.argument("name")):
            function = option(function)
        return function

    return add


@command.command("status")
@_options("data-dir", "port")
def status(name: str, as_json: bool, **options: Any) -> None:
    """Show how NAME is. The exit status is 0 if it is ready, and 1 if it is not."""
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
@click.option("--launcher", help="What starts it: auto, systemd, debian-cluster, homebrew, windows-service or local.")
def start(name: str, as_json: bool, **options: Any) -> None:
    """Start NAME and wait until it is ready. One that is ready already is left alone."""
    _change("start", name, as_json, options)


@command.command("stop")
@_options("data-dir", "timeout", "port")
def stop(name: str, as_json: bool, **options: Any) -> None:
    """Stop NAME, the way it was started, and wait until it is gone."""
    _change("stop", name, as_json, options)


@command.command("restart")
@_options("data-dir", "timeout", "port")
def restart(name: str, as_json: bool, **options: Any) -> None:
    """Stop NAME and start it the same way."""
    _change("restart", name, as_json, options)


def _change(action: str, name: str, as_json: bool, options: dict[str, Any]) -> None:
    """Do it, say how the service is now, and end with status 0 if it succeeded and 1 if not."""
    from rich.console import Console

    facade = comm()
    try:
        console = Console(stderr=True)
        spinner = "dots" if console.encoding.startswith("utf") else "line"
        with console.status(f"{name}: {action} ...", spinner=spinner):
            done = getattr(facade.services, action)(name, **options)
            status = facade.services.status(name, port=options["port"], data_dir=options["data_dir"])
        failure = facade.services.last_failure
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    finally:
        facade.close()
    if as_json:
        print_json({"done": done, "status": status, "failure": failure._asdict() if failure else None})
    elif done:
        print_table(_COLUMNS, [_row(status)])
    if not done:
        print_error(failure)
        sys.exit(1)

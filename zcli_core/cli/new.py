"""``zcli new``: begin something of one's own."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from zcli_core.cli.output import print_error, print_text
from zcli_core.cli.scaffold import KINDS, Names, make_files, parse_name, write_files
from zcli_core.cli.session import load_plugins
from zcli_core.config.settings import RESERVED


@click.group("new")
def command() -> None:
    """Begin something of your own."""


@command.command("plugin")
@click.argument("name")
@click.option("--kind", type=click.Choice(list(KINDS)), required=True, help="What it is to provide.")
@click.option(
    "--into",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=".",
    help="The folder to make it in; the working directory if not given.",
)
def plugin(name: str, kind: str, into: Path) -> None:
    """Write a plugin's complete distribution, zcli-NAME, that works as it comes out.

    It builds, installs and passes the contract suite of its kind; its README says what to change first. Nothing that is
    there is overwritten.

    \b
    service    a server that zCLI tells from others, starts and stops
    http       a transport for z.comm.http_get and its like
    websocket  a transport for the WebSocket server
    auth       who may connect to the WebSocket server
    layer      a source of settings
    """
    try:
        names = parse_name(name)
        _require_free(names)
        files = make_files(kind, names)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="'NAME'") from error
    folder = into / names.distribution
    try:
        write_files(files, folder)
    except FileExistsError as error:
        _fail(f"{error}; nothing was written. Take another name, or another folder with --into")
    except OSError as error:
        _fail(f"{folder} cannot be written: {error.strerror or error}; nothing was left behind")
    print_text(f"{folder}: {names.in_classes}, {KINDS[kind]}")
    for path in files:
        print_text(f"  {path}")
    click.echo(
        "\nIts README says what to change first. Next:\n"
        f"  cd {shlex.quote(str(folder))}\n"
        '  python -m pip install -e ".[test]"\n'
        "  python -m pytest\n"
        "  zcli plugins"
    )


def _fail(message: str) -> None:
    print_error(message)
    sys.exit(2)


def _require_free(names: Names) -> None:
    """Raise ValueError where a plugin of that name would stand in somebody's way."""
    if names.identifier in (holders := dict(_taken_names())):
        raise ValueError(f"{names.plain!r} is taken by {holders[names.identifier]}; take another name")


def _taken_names() -> Iterator[tuple[str, str]]:
    """Every name that a plugin's section or offer cannot have here, with what has it."""
    session = load_plugins()
    for key in session.config.settings:
        yield key.removeprefix("services.").partition(".")[0], f"the setting {key}"
    for name in RESERVED:
        yield name, f"z.config.{name}"
    for plugin, layer in session.host.collect("zcli_config_layers", lambda layer: layer.name):
        yield layer.name, f"the configuration layer of {plugin}"
    for record in session.host.records.values():
        for kind, offers in record.offers.items():
            for offer in offers:
                for name in (offer.name, *offer.aliases):
                    yield name, f"the {kind.label} of {record.name}"

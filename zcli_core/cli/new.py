"""``zcli new``: create a plugin project."""

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
from zcli_core.plugins.records import SUBSYSTEM


@click.group("new")
def command() -> None:
    """Create a new project."""


@command.command("plugin")
@click.argument("name")
@click.option("--kind", type=click.Choice(list(KINDS)), required=True, help="What the plugin provides.")
@click.option(
    "--into",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=".",
    help="Where to create its folder; the working directory if not given.",
)
def plugin(name: str, kind: str, into: Path) -> None:
    """Create the folder zcli-NAME with a plugin that works, its tests and its packaging.

    The project can be built and installed, and passes the contract suite of its kind. Its README says what to change
    first. Existing files are not overwritten.

    \b
    service    a local server that zCLI probes, starts and stops
    http       a transport for HTTP calls
    websocket  a transport for the WebSocket server
    auth       a strategy that admits clients to the WebSocket server
    backplane  a link between the WebSocket servers of several processes
    subsystem  an attribute of the zCLI object, such as z.bifrost
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
        _fail(f"{error}; nothing was written. Choose another name, or another folder with --into")
    except OSError as error:
        _fail(f"cannot write {folder}: {error.strerror or error}; nothing was written")
    print_text(f"{folder}: {names.in_classes}, {KINDS[kind]}")
    for path in files:
        print_text(f"  {path}")
    click.echo(
        "\nThe README says what to change first. Next steps:\n"
        f"  cd {shlex.quote(str(folder))}\n"
        '  python -m pip install -e ".[test]"\n'
        "  python -m pytest\n"
        "  zcli plugins"
    )


def _fail(message: str) -> None:
    print_error(message)
    sys.exit(2)


def _require_free(names: Names) -> None:
    """Raise ValueError if an installed plugin, a setting or zCLI uses that name."""
    if names.identifier in (taken := dict(_taken_names())):
        raise ValueError(f"the name {names.plain!r} is used by {taken[names.identifier]}; choose another name")


def _taken_names() -> Iterator[tuple[str, str]]:
    """Yield every name that a section or provider of a new plugin cannot have, and what uses it."""
    session = load_plugins()
    for key in session.config.settings:
        yield key.removeprefix("services.").partition(".")[0], f"the setting {key}"
    for name in RESERVED:
        yield name, f"z.config.{name}"
    for name in SUBSYSTEM.taken or ():
        yield name, f"z.{name}"
    for plugin, layer in session.host.collect("zcli_config_layers", lambda layer: layer.name):
        yield layer.name, f"the configuration layer of {plugin}"
    for record in session.host.records.values():
        for kind, offers in record.providers.items():
            for offer in offers:
                for name in (offer.name, *offer.aliases):
                    yield name, f"the {kind.label} of {record.name}"

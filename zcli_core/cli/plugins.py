"""``zcli plugins``: what is installed, what it provides and how it fares."""

from __future__ import annotations

from typing import Any

import click

from zcli_core.cli.output import json_option, print_json, print_table
from zcli_core.cli.session import load_plugins
from zcli_core.description import describe_plugins


@click.command("plugins")
@json_option
def command(as_json: bool) -> None:
    """List the installed plugins: what each provides, which hooks it implements, and its state.

    \b
    active     it takes part
    available  it is loaded, but the configuration selects nothing that it provides
    disabled   plugins.disable names it; it was not imported
    broken     it cannot be used; the cause is shown
    """
    session = load_plugins()
    plugins = describe_plugins(session.host, session.config)
    if as_json:
        print_json([item._asdict() for item in plugins])
    else:
        print_table(
            ("plugin", "state", "distribution", "version", "provides", "hooks"),
            [(p.name, p.state, p.distribution, p.version, _provided(p.provides), ", ".join(p.hooks)) for p in plugins],
        )
        for item in plugins:
            if item.cause:
                click.echo(f"\n{item.name} is broken: {item.cause}")
    for warning in session.warnings:
        click.echo(f"zcli: {warning}", err=True)
    if session.error is not None:
        click.echo(f"zcli: the configuration cannot be used, so nothing is active: {session.error}", err=True)


def _provided(provides: list[dict[str, Any]]) -> str:
    return ", ".join(f"{item['kind']} {item['name']}" for item in provides)

"""``zcli ports``: which ports are available, and which processes hold the others."""

from __future__ import annotations

import sys

import click

from zcli_core.cli.output import json_option, print_json, print_table


@click.command("ports")
@click.argument("ports", nargs=-1, required=True, type=click.IntRange(1, 65535), metavar="PORT...")
@click.option("--host", default="127.0.0.1", show_default=True, help="The host whose ports are checked.")
@json_option
def command(ports: tuple[int, ...], host: str, as_json: bool) -> None:
    """Show which ports are available.

    For a port in use, the process that holds it is shown if the system reports it. The exit status is 0 if all ports
    are available, and otherwise 1.
    """
    from zcli_core.net.ports import port_holder, port_state

    try:
        states = [port_state(port, host) for port in ports]
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    holders = [port_holder(state.port, state.host) if state.status == "in use" else None for state in states]
    if as_json:
        found = zip(states, holders, strict=True)
        print_json([{**vars(state), "available": state.available, "holder": holder} for state, holder in found])
    else:
        rows = zip(states, holders, strict=True)
        print_table(
            ("port", "status", "held by", "detail"),
            [(str(state.port), state.status, str(holder or ""), state.detail) for state, holder in rows],
        )
    sys.exit(0 if all(state.available for state in states) else 1)

"""``zcli doctor``: what is wrong with this machine's zCLI, and what to do about it."""

from __future__ import annotations

import sys

import click

from zcli_core.cli.checks import examine
from zcli_core.cli.output import json_option, print_json, print_table, say
from zcli_core.cli.session import load_plugins, plugins_print_elsewhere


@click.command("doctor")
@json_option
def command(as_json: bool) -> None:
    """Check this machine, its plugins and the configuration in force here.

    Nothing is changed and no secret is shown. The exit status is 0 if all is well, warnings aside, and 1 if not.
    """
    session = load_plugins()
    with plugins_print_elsewhere():
        findings = list(examine(session))
    wrong = sum(finding.state == "wrong" for finding in findings)
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        print_table(("check", "state", "finding"), findings)
        warned = sum(finding.state == "warning" for finding in findings)
        say("")
        say(f"{_count(wrong, 'problem')}, {_count(warned, 'warning')}")
    sys.exit(1 if wrong else 0)


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"

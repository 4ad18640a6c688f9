"""``zcli reference``: every hook, setting and contract, as a page of Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from zcli_core.cli.output import writing
from zcli_core.cli.session import load_plugins, plugins_print_elsewhere
from zcli_core.plugins.host import PluginHost

if TYPE_CHECKING:
    from zcli_core.config.settings import Setting


@click.command("reference")
@click.option("--own", is_flag=True, help="Only what zcli-core itself brings, whatever else is installed or set here.")
def command(own: bool) -> None:
    """Print the reference of what is installed here, as Markdown: what plugins provide, hooks, settings, contracts.

    The page docs/reference/settings-and-hooks.md of zCLI's repository is `zcli reference --own`.
    """
    from zcli_core.cli.reference_page import make_page

    if own:
        host, settings = _own()
    else:
        session = load_plugins()
        host, settings = session.host, dict(session.config.settings)
    with plugins_print_elsewhere():
        page = make_page(host, settings)
    with writing():
        click.echo(page, nl=False)


def _own() -> tuple[PluginHost, dict[str, Setting]]:
    from zcli_core.assembly import add_plugins_settings, core_settings
    from zcli_core.plugins.discovery import find_entry_points

    host = PluginHost(point for point in find_entry_points() if point.distribution == "zcli-core")
    settings = core_settings()
    with plugins_print_elsewhere():
        host.load()
        add_plugins_settings(host, settings)
        host.collect_providers()
    return host, settings

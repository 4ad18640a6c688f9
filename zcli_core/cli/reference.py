"""``zcli reference``: every provider, hook, setting and variable, as a page of Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from zcli_core.cli.output import writing
from zcli_core.cli.session import load_plugins, plugin_output_to_stderr
from zcli_core.plugins.host import PluginHost

if TYPE_CHECKING:
    from zcli_core.config.settings import Setting


@click.command("reference")
@click.option(
    "--own", is_flag=True, help="Only the plugins of zcli-core; ignore other plugins and all settings of this machine."
)
def command(own: bool) -> None:
    """Print a reference of plugins, hooks and settings.

    The output is Markdown, for the plugins that are installed. `zcli reference --own` makes the page
    docs/reference/settings-and-hooks.md of zCLI's repository.
    """
    from zcli_core.cli.reference_page import make_page

    if own:
        host, settings = own_plugins_and_settings()
    else:
        session = load_plugins()
        host, settings = session.host, dict(session.config.settings)
    with plugin_output_to_stderr():
        page = make_page(host, settings)
    with writing():
        click.echo(page, nl=False)


def own_plugins_and_settings() -> tuple[PluginHost, dict[str, Setting]]:
    """Load the plugins of zcli-core; return them and the settings that they and the core declare."""
    from zcli_core.assembly import add_plugins_settings, core_settings
    from zcli_core.plugins.discovery import find_entry_points

    host = PluginHost(point for point in find_entry_points() if point.distribution == "zcli-core")
    settings = core_settings()
    with plugin_output_to_stderr():
        host.load()
        add_plugins_settings(host, settings)
        host.collect_providers()
    return host, settings

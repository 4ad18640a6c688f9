"""The command group, and the subcommands that plugins add to it."""

from __future__ import annotations

import importlib
import sys

import click

from zcli_core import __version__
from zcli_core.cli.output import print_error, use_any_console
from zcli_core.cli.session import load_plugins, plugin_output_to_stderr
from zcli_core.errors import ConfigError
from zcli_core.plugins.loading import describe_error

#: Subcommand -> the module that holds it, imported when it is run.
_COMMANDS = {
    name: name
    for name in ("config", "doctor", "http", "new", "plugins", "ports", "reference", "services", "token", "ws")
}


class _Commands(click.Group):
    """The built-in subcommands, then those of plugins. Plugins are asked only where the answer depends on them."""

    def __init__(self) -> None:
        super().__init__(
            name="zcli",
            help="Look into zCLI: which plugins it found, which settings are in force, and what its parts do.",
            context_settings={"help_option_names": ["-h", "--help"]},
        )
        self._asked_plugins = False

    def list_commands(self, ctx: click.Context) -> list[str]:
        self._ask_plugins()
        return sorted({*_COMMANDS, *self.commands})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _COMMANDS:
            command: click.Command = importlib.import_module(f"zcli_core.cli.{_COMMANDS[cmd_name]}").command
            return command
        self._ask_plugins()
        return super().get_command(ctx, cmd_name)

    def _ask_plugins(self) -> None:
        if self._asked_plugins:
            return
        self._asked_plugins = True
        ask = load_plugins().host.caller("zcli_commands", _report)
        if ask is not None:
            with plugin_output_to_stderr():
                ask(self)


def _report(plugin: str, error: BaseException) -> None:
    print_error(f"the plugin {plugin} failed in its hook zcli_commands: {describe_error(error)}")


def make_command() -> click.Command:
    """Return the command ``zcli``, which asks the plugins that are installed now."""
    return click.version_option(__version__, prog_name="zcli")(_Commands())


def main() -> None:
    """Run the command; ``python -m zCLI`` is the same. Exit status 2: the configuration cannot be used."""
    use_any_console()
    try:
        make_command().main(prog_name="zcli")
    except ConfigError as error:  # of a part that is made when a subcommand first uses it
        print_error(error)
        sys.exit(2)

"""The command ``zcli``: its own subcommands, and those that plugins add."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import click

from zcli_core import __version__
from zcli_core.cli.output import print_error, use_any_console
from zcli_core.cli.session import load_plugins, plugin_output_to_stderr
from zcli_core.errors import ConfigError
from zcli_core.plugins.loading import describe_error
from zcli_core.suggestions import suggestion

#: Subcommand -> the module that holds it, imported when it is run.
_COMMANDS = {
    name: name
    for name in ("config", "doctor", "http", "new", "plugins", "ports", "reference", "services", "token", "ws")
}


class _Commands(click.Group):
    """The builtin subcommands and those of plugins. Plugins are loaded only for other names than builtin ones."""

    def __init__(self) -> None:
        super().__init__(
            name="zcli",
            help="Inspect plugins and settings; use HTTP, ports, WebSockets and local services from a terminal.",
            context_settings={"help_option_names": ["-h", "--help"]},
        )
        self._has_plugin_commands = False

    def list_commands(self, ctx: click.Context) -> list[str]:
        self._add_plugin_commands()
        return sorted({*_COMMANDS, *self.commands})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in _COMMANDS:
            command: click.Command = importlib.import_module(f"zcli_core.cli.{_COMMANDS[cmd_name]}").command
            return command
        self._add_plugin_commands()
        return super().get_command(ctx, cmd_name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        if not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"unknown command {args[0]!r}{suggestion(args[0], self.list_commands(ctx))}")
        return super().resolve_command(ctx, args)

    def _add_plugin_commands(self) -> None:
        if self._has_plugin_commands:
            return
        self._has_plugin_commands = True
        call_hook = load_plugins().host.caller("zcli_commands", _report)
        if call_hook is not None:
            with plugin_output_to_stderr():
                call_hook(self)


def _report(plugin: str, error: BaseException) -> None:
    print_error(f"the plugin {plugin} failed in its hook zcli_commands: {describe_error(error)}")


def make_command() -> click.Command:
    """Return the command ``zcli`` for the plugins that are installed now."""
    return click.version_option(__version__, prog_name="zcli")(_Commands())


def main() -> None:
    """Run the command. The exit status is 2 if the configuration cannot be used."""
    use_any_console()
    try:
        make_command().main(prog_name="zcli")
    except ConfigError as error:  # raised by a part that a subcommand uses first
        print_error(error)
        sys.exit(2)

"""What the commands of plugins share: the configuration of a script in this folder, and output as text or JSON.

A plugin adds a command in its hook ``zcli_commands``. The module of the command imports this one; the module of the
plugin imports neither, so that a script does not load them::

    @hookimpl
    def zcli_commands(cli):
        from zcli_mine.commands import command

        cli.add_command(command)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zcli_core.cli.output import json_option, print_error, print_json, print_table, print_text
from zcli_core.cli.session import command_log, load
from zcli_core.plugins.contract import Context

__all__ = ["json_option", "load_context", "print_error", "print_json", "print_table", "print_text"]


def load_context(settings: Mapping[str, Any] | None = None) -> Context:
    """Return the configuration that a script in this folder would have, and a log for the command.

    Warnings about the configuration go to stderr. If the configuration is invalid, the program ends with status 2. The
    log shows security warnings only, because the command reports everything else itself.

    Args:
        settings: What the script would give to ``zCLI``: settings that options of the command stand for.
    """
    _, config = load(zspark=settings)
    return Context(config, command_log())

"""What a subcommand works with: the plugins and the configuration, as a script in this folder would have them."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import TYPE_CHECKING, NamedTuple

from zcli_core.assembly import assemble
from zcli_core.cli.output import print_error
from zcli_core.comm import Comm
from zcli_core.config import Config
from zcli_core.errors import ConfigError
from zcli_core.plugins.host import PluginHost
from zcli_core.printable import print_line
from zcli_core.system.trusted import UntrustedProblem

if TYPE_CHECKING:
    from zcli_core.config.contract import Entry
    from zcli_core.plugins.host import Observer


class Session(NamedTuple):
    """The plugin host and the configuration, with what to warn of.

    Where ``error`` says that the configuration cannot be used, ``config`` is what could be made out of it.
    """

    host: PluginHost
    config: Config
    warnings: list[str]
    error: ConfigError | None
    #: What the layers gave, as they gave it.
    entries: list[Entry]


def load_plugins(observe: Observer | None = None) -> Session:
    """Load what is installed. A configuration that cannot be used is reported in the session, not raised."""
    host = PluginHost(observe=observe)
    with plugin_output_to_stderr():
        config, problems, warnings, entries = assemble(host, {})
    return Session(host, config, warnings, ConfigError(problems) if problems else None, entries)


def plugin_output_to_stderr() -> contextlib.AbstractContextManager[object]:
    """While plugins are asked: what one prints goes to stderr, for our own output may be JSON for a program."""
    return contextlib.redirect_stdout(sys.stderr)


def load(*, to_show: bool = False) -> tuple[PluginHost, Config]:
    """Load what is installed and configured; ends the program with status 2 if the configuration cannot be used.

    ``to_show``: the command only shows the configuration. A file that is not trusted is reported, and is not used.
    """
    session = load_plugins()
    for warning in session.warnings:
        print_error(warning)
    if session.error is not None:
        print_error(f"{session.error}")
        if not (to_show and all(isinstance(problem, UntrustedProblem) for problem in session.error.problems)):
            sys.exit(2)
    return session.host, session.config


class _SecurityWarnings(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if hasattr(record, "zcli_security"):
            print_line(f"zcli: {record.getMessage()}", sys.stderr)


def comm() -> Comm:
    """The facade, for a subcommand that uses it. Its log shows security warnings: the subcommand says what happened."""
    host, config = load()
    log = logging.getLogger("zcli.command")
    if not log.handlers:
        log.addHandler(_SecurityWarnings())
    log.propagate = False
    return Comm(config, host, log)

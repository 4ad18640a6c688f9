"""The plugins and the configuration of a subcommand: those that a script in this folder would have."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

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
    """The plugin host, the configuration and the warnings about them.

    If ``error`` is set, ``config`` lacks the values that cannot be used.
    """

    host: PluginHost
    config: Config
    warnings: list[str]
    error: ConfigError | None
    #: The entries of all layers, not converted.
    entries: list[Entry]


def load_plugins(observe: Observer | None = None, zspark: Mapping[str, Any] | None = None) -> Session:
    """Load the installed plugins and the configuration. An invalid configuration is reported in ``error``."""
    host = PluginHost(observe=observe)
    with plugin_output_to_stderr():
        config, problems, warnings, entries = assemble(host, zspark or {})
    return Session(host, config, warnings, ConfigError(problems) if problems else None, entries)


def plugin_output_to_stderr() -> contextlib.AbstractContextManager[object]:
    """Send to stderr what plugins print, because the output of the command may be JSON for a program."""
    return contextlib.redirect_stdout(sys.stderr)


def load(*, to_show: bool = False, zspark: Mapping[str, Any] | None = None) -> tuple[PluginHost, Config]:
    """Load the plugins and the configuration; end the program with status 2 if the configuration is invalid.

    Args:
        to_show: The command only shows the configuration, so it continues if a file is not trusted. The file is
            reported and not used.
        zspark: Settings that options of the command stand for.
    """
    session = load_plugins(zspark=zspark)
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
    """Return the facade for a subcommand."""
    host, config = load()
    return Comm(config, host, command_log())


def command_log() -> logging.Logger:
    """Return the log of a subcommand. It shows only security warnings; the subcommand reports the rest."""
    log = logging.getLogger("zcli.command")
    if not log.handlers:
        log.addHandler(_SecurityWarnings())
    log.propagate = False
    return log

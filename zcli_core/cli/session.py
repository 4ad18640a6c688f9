"""What a subcommand works with: the plugins and the configuration, as a script in this folder would have them."""

from __future__ import annotations

import logging
import sys
from typing import NamedTuple

import click

from zcli_core.comm import Comm
from zcli_core.config import Config
from zcli_core.config.assembly import configure
from zcli_core.errors import ConfigError
from zcli_core.host import PluginHost


class Session(NamedTuple):
    """The plugin host and, unless ``error`` says why not, the configuration."""

    host: PluginHost
    config: Config | None
    warnings: list[str]
    error: ConfigError | None


def load_plugins() -> Session:
    """Load what is installed. A configuration that cannot be used is reported in the session, not raised."""
    host = PluginHost()
    try:
        config, warnings = configure(host, {})
    except ConfigError as error:
        return Session(host, None, [], error)
    return Session(host, config, warnings, None)


def load() -> tuple[PluginHost, Config]:
    """Load what is installed and configured; ends the program with status 2 if the configuration cannot be used."""
    session = load_plugins()
    for warning in session.warnings:
        click.echo(f"zcli: {warning}", err=True)
    if session.config is None:
        click.echo(f"zcli: {session.error}", err=True)
        sys.exit(2)
    return session.host, session.config


def comm() -> Comm:
    """The facade, for a subcommand that uses it. Its log is silent: the subcommand says what happened."""
    host, config = load()
    log = logging.getLogger("zcli.command")
    log.addHandler(logging.NullHandler())
    log.propagate = False
    return Comm(config, host, log)

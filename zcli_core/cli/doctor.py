"""``zcli doctor``: checks of this machine, each a function that yields findings and changes nothing.

A setting that cannot be used is wrong if a layer set it. An unusable default is a warning, because it matters only when
a script uses it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import click

from zcli_core import __version__
from zcli_core.cli.backplane_check import check_backplane
from zcli_core.cli.file_checks import foreign_files, readable_secrets
from zcli_core.cli.output import json_option, print_json, print_table, print_text
from zcli_core.cli.session import load_plugins, plugin_output_to_stderr
from zcli_core.comm import Comm
from zcli_core.config.sections import Application
from zcli_core.errors import ConfigError
from zcli_core.net.pem_files import key_warning
from zcli_core.plugins.contract import Context
from zcli_core.plugins.loading import describe_error
from zcli_core.plugins.records import AUTH_STRATEGY, BACKPLANE, KINDS
from zcli_core.system.folders import user_log_folder
from zcli_core.system.installation import OURS, install_again
from zcli_core.system.safe_files import ForeignPathError, open_folder, open_to_append

if TYPE_CHECKING:
    from zcli_core.cli.session import Session
    from zcli_core.config import Config
    from zcli_core.plugins.records import Kind
    from zcli_core.services.services import Services
    from zcli_core.types import ServiceStatus

State = Literal["ok", "warning", "wrong"]
#: The newest Python that zCLI is tested on.
_NEWEST = (3, 13)
_LOG = "zcli.doctor"
#: How many accounts a finding names; it only counts the others.
_MAX_NAMED_USERS = 5


class Finding(NamedTuple):
    """The result of a check. ``detail`` says in a sentence what was found and what to do."""

    check: str
    state: State
    detail: str


_Findings = Iterator[tuple[State, str]]


@click.command("doctor")
@json_option
def command(as_json: bool) -> None:
    """Check this machine, its plugins and its configuration.

    The configuration is the one in force in the current folder. Nothing is changed, and no secret is shown. The exit
    status is 1 if a check found something wrong, and otherwise 0. Warnings do not change it.
    """
    session = load_plugins()
    with plugin_output_to_stderr():
        findings = list(examine(session))
    wrong = sum(finding.state == "wrong" for finding in findings)
    if as_json:
        print_json(findings)
    else:
        print_table(("check", "state", "finding"), findings)
        warned = sum(finding.state == "warning" for finding in findings)
        print_text("")
        print_text(f"{_count(wrong, 'problem')}, {_count(warned, 'warning')}")
    sys.exit(1 if wrong else 0)


def _count(number: int, what: str) -> str:
    return f"{number or 'no'} {what}{'' if number == 1 else 's'}"


def examine(session: Session) -> Iterator[Finding]:
    """Run every check and yield each finding once. A check that raises is reported as wrong; the others still run.

    What was a warning is yielded again if a later check finds it wrong.
    """
    reported: set[tuple[State, str]] = set()
    for name, check in _CHECKS:
        with _captured_warnings() as warnings:
            try:
                found: list[tuple[State, str]] = list(check(session))
            except ConfigError as error:  # in settings that no check has used before
                found = [("wrong", problem) for problem in error.problems]
            except (Exception, SystemExit) as error:  # noqa: BLE001 - a check may call a plugin
                found = [("wrong", f"the check failed: {describe_error(error)}")]
        logged: list[tuple[State, str]] = [("warning", message) for message in warnings]
        for state, detail in logged + found:
            if state == "ok" or reported.isdisjoint({(state, detail), ("wrong", detail)}):
                reported.add((state, detail))
                yield Finding(name, state, "; ".join(line.strip() for line in detail.split("\n")))


def _python(session: Session) -> _Findings:
    shown = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] > _NEWEST:
        yield "warning", f"Python {shown}; zCLI {__version__} is tested up to {'.'.join(map(str, _NEWEST))}"
    else:
        yield "ok", f"Python {shown}"


def _installation(session: Session) -> _Findings:
    points = [record.entry_point for record in session.host.records.values()]
    versions = {point.version for point in points if point.distribution == OURS}
    if not versions:
        yield ("wrong", f"no plugin of {OURS} is installed; install it again: {install_again(OURS)}")
    elif versions != {__version__}:
        what = f"{OURS} {', '.join(sorted(versions))} is installed, but version {__version__} is running"
        yield "warning", f"{what}; install it again: {install_again(OURS)}"
    else:
        yield "ok", f"{OURS} {__version__}"


def _plugins(session: Session) -> _Findings:
    records = session.host.records.values()
    loaded = sum(record.state == "loaded" for record in records)
    disabled = [record.name for record in records if record.state == "disabled"]
    for record in records:
        if record.state == "broken":
            what_to_do = f"upgrade or uninstall {record.entry_point.distribution}, or disable it with plugins.disable"
            yield "wrong", f"the plugin {record} is broken: {record.cause}; {what_to_do}"
    yield "ok", f"{loaded} loaded" + (f", disabled: {', '.join(disabled)}" if disabled else "")


def _configuration(session: Session) -> _Findings:
    for problem in session.error.problems if session.error else ():
        yield "wrong", problem
    for warning in session.warnings:
        yield "warning", warning
    yield from readable_secrets(session)
    yield from foreign_files(session)
    if session.error is None:
        yield "ok", f"{len(session.config.settings)} settings, deployment {session.config.deployment}"


def _providers(session: Session) -> _Findings:
    """Create each provider that the configuration selects; auth strategies only if the server would use them.

    The backplane has a check of its own.

    Most scripts turn ``require_auth`` on in zSpark, which this command does not read. So the token strategy is also
    created if a token is set, because it reports a token that is too short.
    """
    config = session.config
    for kind in KINDS:
        try:
            if kind.setting is not None and kind != BACKPLANE and (kind != AUTH_STRATEGY or _uses_strategies(config)):
                yield from _create_selected(session, kind)
        except ConfigError as error:  # the setting that selects the provider is invalid
            misspelt = config.misspelt_in("websocket")  # the check of the WebSocket server reports it
            yield from (("wrong", problem) for problem in error.problems if problem not in misspelt)
    for kind in KINDS:
        for name, offers in session.host.providers(kind).items() if kind.setting is None else ():
            if len(offers) > 1:
                try:
                    session.host.choose(kind, config, name)
                except ConfigError as error:
                    yield "wrong", str(error)


def _uses_strategies(config: Config) -> bool:
    settings = config.websocket
    has_token = "token" in settings.auth and (settings.token is not None or bool(settings.tokens))
    return settings.require_auth or has_token


def _create_selected(session: Session, kind: Kind) -> _Findings:
    from zcli_core.plugins.selection import make, require_installed, selected_names

    reported = session.error.problems if session.error else ()
    for name in selected_names(kind, session.config):
        severity = _severity(session.config, str(kind.setting))
        try:
            require_installed(session.host, kind, name, session.config)
            severity = "wrong"  # it is installed, so a failure is not a matter of choice
            record, thing = make(session.host, kind, name, Context(session.config, logging.getLogger(_LOG)))
        except ConfigError as error:
            yield from ((severity, problem) for problem in error.problems if problem not in reported)
        else:
            yield "ok", f"{kind.label} {name}, of the plugin {record}"
            close = getattr(thing, "close", None)
            if callable(close):
                close()


def _log_file(session: Session) -> _Findings:
    application = session.config.section(Application)
    folder = application.logger_path or user_log_folder()
    if folder is None:
        yield "warning", "no log file is written, because this user has no home folder; set logger_path to a folder"
        return
    wanted = Path(folder).absolute()
    existing = next(folder for folder in (wanted, *wanted.parents) if folder.exists())
    problem = _write_problem(existing, wanted / f"{application.title}.log" if application.title else None)
    if problem is None:
        yield "ok", f"{wanted}{'' if existing == wanted else ', which zCLI will create'}"
    else:
        origin = session.config.explain("logger_path").origin
        yield "wrong", f"the log cannot be written to {wanted} ({origin}): {problem}; set logger_path to another folder"


def _write_problem(folder: Path, file: Path | None) -> str | None:
    """Return why this user cannot create files in a folder, or write to a file if it exists; None if both work."""
    from tempfile import TemporaryFile

    if not folder.is_dir():
        return f"{folder} is not a folder"
    place = folder
    try:
        if os.name == "posix":
            os.close(open_folder(folder))  # like the log, follow no link of another user
        with TemporaryFile(dir=folder):
            pass
        if file is not None and file.exists():
            place = file
            os.close(open_to_append(file) if os.name == "posix" else os.open(file, os.O_APPEND | os.O_WRONLY))
    except ForeignPathError as error:
        return error.strerror
    except OSError as error:
        return f"{place}: {error.strerror}"
    return None


def _websocket(session: Session) -> _Findings:
    """Check TLS, origins and address as the server does before it opens its port."""
    from zcli_core.websocket.server_setup import make_setup, warn_if_open

    log = logging.getLogger(_LOG)
    try:
        setup = make_setup(session.config, None, None, None, log)
        warn_if_open(session.config, setup.endpoint, log)
    except (ConfigError, ValueError) as error:
        yield from (("wrong", problem) for problem in getattr(error, "problems", (str(error),)))
        return
    if setup.endpoint.tls is None:
        yield "ok", "ws://, without TLS (websocket.ssl_enabled is off)"
    else:
        yield "ok", f"wss://, {_certificate_summary(session.config, setup.endpoint.tls)}"


def _certificate_summary(config: Config, context: object) -> str:
    import ssl
    import time

    from zcli_core.websocket.tls import check_validity, configured_files

    files = configured_files(config)
    assert files is not None
    assert isinstance(context, ssl.SSLContext)
    end = check_validity(context, files.certificate)
    expiry = "unknown" if end is None else time.strftime("%Y-%m-%d", time.gmtime(end))
    return f"the certificate {files.certificate} matches its key; expiry date: {expiry}"


def _port(session: Session) -> _Findings:
    from zcli_core.net.ports import port_holder, port_state

    settings = session.config.websocket
    if settings.unix_path is not None:
        yield "ok", f"the server listens on the Unix socket {settings.unix_path}, not on a port"
        return
    if settings.port == 0:
        yield "ok", "the server picks a free port, because websocket.port is 0"
        return
    state = port_state(settings.port, settings.host)
    if (state.available and not state.privileged) or (state.status == "in use" and settings.reuse_port):
        yield "ok", state.detail
        return
    holder = port_holder(settings.port, settings.host) if state.status == "in use" else None
    by = f", held by {holder}" if holder else ""
    advice = "stop it or set websocket.port, unless it is your own server" if by else "set websocket.port or .host"
    yield _severity(session.config, "websocket.port"), f"{state.detail}{by}; {advice}"


def _limits(session: Session) -> _Findings:
    from zcli_core.cli.limit_checks import check_limits

    yield from check_limits(session.config)


def _services(session: Session) -> _Findings:
    """Probe all services. A stopped service is not a problem."""
    from zcli_core.services.concurrency import map_concurrently

    comm = Comm(session.config, session.host, logging.getLogger(_LOG))
    try:
        services = comm.services
        yield from map_concurrently(lambda name: _service(services, name), services.names)
    finally:
        comm.close()


def _service(services: Services, name: str) -> tuple[State, str]:
    try:
        status = services.status(name)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - it calls a plugin
        return "wrong", str(error) if isinstance(error, ConfigError) else f"{name}: {describe_error(error)}"
    if not status["owner_trusted"]:
        text = f"another user, {status['owner']}, runs the server on port {status['port']} and can read all data sent"
        return "warning", f"{name}: {text} to it; start_service refuses to use it"
    if status["ready"]:
        ready = f"{name} is ready on port {status['port']}"
        others = _other_users(status)
        return ("warning", f"{ready} and needs no login, so {others} can use it") if others else ("ok", ready)
    # A script that connects to the service would reach the other server.
    return ("warning" if status["state"] in ("foreign", "silent") else "ok"), f"{name}: {status['error']}"


def _private_keys(session: Session) -> _Findings:
    """Check that other users cannot read ``websocket.ssl_key`` and the client keys of all sections."""
    settings = session.config.settings
    warnings: list[str | None] = []
    for name in settings:
        section, _, attribute = name.rpartition(".")
        certificate = attribute.replace("_key", "_cert")
        if attribute not in ("ssl_key", "client_key") or f"{section}.{certificate}" not in settings:
            continue
        for setting in (attribute, certificate):
            with contextlib.suppress(ConfigError):  # the check of the configuration reports it
                file = getattr(session.config.get(section), setting)
                warnings.append(None if file is None else key_warning(f"{section}.{setting}", file))
    if any(warnings):
        yield from (("warning", warning) for warning in warnings if warning)
    else:
        yield "ok", "no private key can be read by all users"


def _other_users(status: ServiceStatus) -> str:
    """Name the other users of this machine that can use a local service without a login; empty if there are none."""
    from zcli_core.services.owners import other_people

    # The owner is known only of servers on this machine.
    if status["needs_auth"] is not False or status["owner"] is None or status["connection_info"]["host"][:1] == "/":
        return ""
    people = other_people()
    more = f" and {len(people) - _MAX_NAMED_USERS} more" if len(people) > _MAX_NAMED_USERS else ""
    return f"every user of this machine ({', '.join(people[:_MAX_NAMED_USERS])}{more})" if people else ""


def _backplane(session: Session) -> _Findings:
    try:
        yield from check_backplane(session, logging.getLogger(_LOG))
    except ConfigError as error:
        severity = _severity(session.config, str(BACKPLANE.setting))
        yield from ((severity, problem) for problem in error.problems)


def _severity(config: Config, key: str) -> State:
    return "warning" if config.explain(key).layer == "defaults" else "wrong"


@contextlib.contextmanager
def _captured_warnings() -> Iterator[list[str]]:
    """Collect the messages of level WARNING and above in the log that checks pass to other code."""
    messages: list[str] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    log = logging.getLogger(_LOG)
    log.propagate = False
    collector = Collector(logging.WARNING)
    log.addHandler(collector)
    try:
        yield messages
    finally:
        log.removeHandler(collector)


_CHECKS: tuple[tuple[str, Callable[[Session], _Findings]], ...] = (
    ("Python", _python),
    ("installation", _installation),
    ("plugins", _plugins),
    ("configuration", _configuration),
    ("providers", _providers),
    ("log file", _log_file),
    ("private keys", _private_keys),
    ("WebSocket", _websocket),
    ("WebSocket port", _port),
    ("limits", _limits),
    ("services", _services),
    ("backplane", _backplane),
)

"""``zcli plugins``: the installed plugins, which of them a setting selects, and how long they take to load."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from zcli_core.cli.output import json_option, print_error, print_json, print_table, print_text, show
from zcli_core.cli.session import Session, load_plugins

if TYPE_CHECKING:
    from zcli_core.config import Explanation
    from zcli_core.plugins.explanation import Candidate, ChoiceExplanation


_EXPLANATION = """\
Wall-clock milliseconds of one start, in this process. The import of a plugin includes the libraries that no plugin
before it has imported. Hooks are the declaring hooks. Selected providers are imported and created when they are first
used, so they are not included."""


@click.command("plugins")
@click.option(
    "--why",
    metavar="KEY",
    help="Show which plugin a setting (websocket.transport), a service (redis) or a subsystem (bifrost) uses.",
)
@click.option("--timings", is_flag=True, help="Show how long importing each plugin and calling its hooks took.")
@json_option
def command(why: str | None, timings: bool, as_json: bool) -> None:
    """List the installed plugins, what they provide, and their state.

    \b
    active       in use
    available    loaded, but the configuration selects none of its providers
    installable  needs a package that is not installed; the command is shown
    disabled     named by plugins.disable, and not imported
    broken       cannot be used; the cause is shown
    """
    if why is not None and timings:
        raise click.UsageError("give --why or --timings, not both")
    if timings:
        _show_timings(as_json)
    elif why is not None:
        _show_why(why, as_json)
    else:
        _show_all(as_json)


# --- the list ---


def _show_all(as_json: bool) -> None:
    from zcli_core.plugins.explanation import describe_plugins

    session = load_plugins()
    plugins = describe_plugins(session.host, None if session.error else session.config)
    if as_json:
        print_json(plugins)
    else:
        print_table(
            ("plugin", "state", "distribution", "version", "provides", "hooks"),
            [(p.name, p.state, p.distribution, p.version, _provided(p.provides), ", ".join(p.hooks)) for p in plugins],
        )
        for item in plugins:
            if item.cause:
                print_text("")
                print_text(f"{item.name} is broken: {item.cause}")
    _print_problems(session)


def _provided(provides: list[dict[str, Any]]) -> str:
    return ", ".join(
        f"{item['kind']} {item['name']}{_missing_hint(item['missing'], item['install'])}" for item in provides
    )


def _missing_hint(missing: list[str] | tuple[str, ...], install: str | None) -> str:
    """Return the command that installs missing modules, in brackets; empty if nothing is missing."""
    return f" ({install or 'it needs ' + ' and '.join(missing)})" if missing else ""


def _print_problems(session: Session) -> None:
    for warning in session.warnings:
        print_error(warning)
    if session.error is not None:
        print_error(f"no plugin is active, because the configuration cannot be used: {session.error}")


# --- why ---


def _show_why(key: str, as_json: bool) -> None:
    """Show a choice. The exit status is 1 if the selected provider cannot be used, 2 if ``key`` selects none."""
    from zcli_core.plugins.explanation import explain_choice

    session = load_plugins()
    try:
        found = explain_choice(session.host, session.config, key)
    except ValueError as error:
        print_error(error)
        sys.exit(2)
    if as_json:
        print_json(found)
    else:
        _print_why(found)
    further = [p for p in (session.error.problems if session.error else ()) if p not in found.problems]
    for problem in (*session.warnings, *found.problems, *further):
        print_error(problem)
    sys.exit(1 if found.problems else 0)


def _print_why(found: ChoiceExplanation) -> None:
    if found.setting is None:
        print_text(f"{found.key}: a {found.kind}")
    else:
        print_text(f"{found.key} = {show(found.setting.value)}")
        _print_source("set by", found.setting)
    if found.preference is not None:
        _print_source("preferred", found.preference, f"plugins.prefer = {show(found.preference.value)}, ")
    for item in found.chosen:
        _print_line("chosen", _line(item))
    for item in found.others:
        _print_line("installable" if item.missing else "installed", _line(item))


def _print_source(label: str, setting: Explanation, before: str = "") -> None:
    _print_line(label, f"{before}{setting.layer}: {setting.origin}")
    for value, layer, origin in setting.shadowed:
        _print_line("shadows", f"{show(value)} from {layer}: {origin}")


def _print_line(label: str, text: str) -> None:
    print_text(f"  {label:<11} {text}")


def _line(item: Candidate) -> str:
    aliases = f" (or {', '.join(item.aliases)})" if item.aliases else ""
    source = f"plugin {item.plugin} of {item.distribution} {item.version}".rstrip()
    return f"{item.name}{aliases}: {item.summary}; {source}{_missing_hint(item.missing, item.install)}"


# --- timings ---


def _show_timings(as_json: bool) -> None:
    from zcli_core.plugins.tracing import Timings

    timings = Timings()
    session = load_plugins(timings)
    results = timings.results()
    if as_json:
        print_json(results)
    else:
        print_table(
            ("plugin", "import ms", "hooks ms", "total ms", "share", "hooks"),
            [
                (
                    item.plugin,
                    f"{item.import_ms:.2f}",
                    f"{sum(item.hooks_ms.values()):.2f}",
                    f"{item.total_ms:.2f}",
                    f"{item.share:.0%}",
                    ", ".join(f"{hook} {milliseconds:.2f}" for hook, milliseconds in item.hooks_ms.items()),
                )
                for item in results
            ],
        )
        print_text("")
        print_text(_EXPLANATION, keep="\n")
    _print_problems(session)

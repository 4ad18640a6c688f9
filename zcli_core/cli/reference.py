"""``zcli reference``: every provider, hook, setting and variable, as a page of Markdown.

The same declarations give the same page on every machine and every Python.
"""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from zcli_core.assembly import check_layer
from zcli_core.cli.output import writing
from zcli_core.cli.session import load_plugins, plugin_output_to_stderr
from zcli_core.config.conversion import describe
from zcli_core.config.names import OTHER_VARIABLES, OVERLAYS
from zcli_core.plugins import hookspecs
from zcli_core.plugins.host import PluginHost
from zcli_core.plugins.loading import HOOKS
from zcli_core.plugins.records import KINDS, Kind
from zcli_core.plugins.selection import pip_command

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


_INTRODUCTION = """\
# Settings and hooks

The command `zcli reference` makes this page from the declarations in the code. On your machine it prints the same page
with the plugins that are installed there."""
_PHASES = {
    "declaring": "zCLI calls these once for each `zCLI` object, at its start. If one raises, its plugin is disabled.",
    "running": "zCLI calls these when something happens. If one raises, zCLI logs the error with the name of the "
    "plugin, and continues.",
    "asking": "zCLI calls these until one returns something other than None. If one raises, zCLI logs the error with "
    "the name of the plugin, and asks the next one.",
}
_LAYER_KIND = Kind(
    "configuration layer",
    "zcli_config_layers",
    None,
    "zcli_core.config.contract.ConfigLayer",
    "zcli_core.testing.ConfigLayerContract",
)
#: The head of a section in a docstring (Google style).
_SECTION = re.compile(r"^(Args|Returns|Raises):\n", re.MULTILINE)


def make_page(host: PluginHost, settings: Mapping[str, Setting]) -> str:
    """Return the page for the plugins of a host, after their declaring hooks were called, and for these settings."""
    parts = [_INTRODUCTION, *_providers(host), *_hooks(), *_settings(settings.values()), *_variables()]
    return "\n\n".join(parts) + "\n"


# --- what plugins provide ---


def _providers(host: PluginHost) -> Iterator[str]:
    yield "## What plugins provide"
    yield _table(
        ("kind", "hook", "selected by", "contract", "contract suite"),
        [
            (
                kind.label,
                _code(kind.hook),
                _code(kind.setting) if kind.setting else "all are in use",
                _code(kind.contract),
                _code(kind.suite),
            )
            for kind in (*KINDS, _LAYER_KIND)
        ],
    )
    yield from (
        f"### {_capital(kind.plural)}\n\n"
        + _table(
            ("name", "description", "plugin", "to install"),
            [
                (
                    " or ".join(map(_code, (provider.name, *provider.aliases))),
                    _escaped(provider.summary),
                    _code(record.name),
                    _code(pip_command(provider) or "") if provider.needs else "",
                )
                for record in host.records.values()
                for provider in record.providers.get(kind, ())
            ],
        )
        for kind in KINDS
    )
    layers = sorted(host.collect("zcli_config_layers", check_layer), key=lambda found: (found[1].order, found[1].name))
    yield "### Configuration layers, lowest order first"
    yield _table(
        ("order", "name", "plugin", "description"),
        [(str(layer.order), layer.name, _code(plugin), _first_paragraph(type(layer))) for plugin, layer in layers],
    )


# --- hooks ---


def _hooks() -> Iterator[str]:
    yield "## Hooks"
    for phase, text in _PHASES.items():
        yield f"### {_capital(phase)} hooks"
        yield text
        for name in HOOKS:
            function = getattr(hookspecs, name)
            if function.phase == phase:
                yield _hook(name, function)


def _hook(name: str, function: Any) -> str:
    # As written in the source: annotations are text here.
    signature = inspect.signature(function)
    arguments = ", ".join(f"{item.name}: {item.annotation}" for item in signature.parameters.values())
    text, *sections = _SECTION.split(inspect.getdoc(function) or "")
    items = [item for head, body in zip(sections[::2], sections[1::2], strict=True) for item in _items(head, body)]
    lines = [f"#### `{name}({arguments}) -> {signature.return_annotation}`", "", _markdown(text)]
    return "\n".join([*lines, *(["", *items] if items else [])])


def _items(head: str, body: str) -> Iterator[str]:
    """Return a section of a docstring as items of a list."""
    if head == "Returns":
        yield f"- returns: {_markdown(body)}"
        return
    for item in re.split(r"\n(?=\S)", textwrap.dedent(body).strip()):
        names, _, text = item.partition(":")
        shown = ", ".join(f"`{name}`" for name in names.split(", "))
        yield f"- {'raises ' if head == 'Raises' else ''}{shown}: {_markdown(text)}"


# --- settings ---


def _settings(settings: Iterable[Setting]) -> Iterator[str]:
    yield "## Settings"
    yield (
        "In the environment and in `.zEnv`, a variable sets a setting. All other layers use its key. zCLI never shows "
        "the value of a secret. Settings marked (restricts) limit what others may do. If the name of such a setting or "
        "of a secret is misspelt, the part that it belongs to does not start."
    )
    sections: dict[type, list[Setting]] = {}
    for setting in settings:
        sections.setdefault(setting.section, []).append(setting)
    for section, members in sections.items():
        yield f"### {_code(members[0].section.section_name) or 'At the top'}"
        yield f"{_first_paragraph(section)} Declared by {_code(members[0].provider)}."
        yield _table(
            ("setting", "description", "type", "default", "variables"), [_setting_row(setting) for setting in members]
        )


def _setting_row(setting: Setting) -> tuple[str, ...]:
    names = [*setting.variables, *(f"{name} (with others)" for name in setting.composites)]
    mark = " (secret)" if setting.secret else " (restricts)" if setting.restricts else ""
    return (
        _code(setting.key),
        _escaped(setting.declaration.help) + mark,
        describe(setting),
        _default(setting.default),
        ", ".join(_code(name) for name in names),
    )


def _default(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, (tuple, Mapping)):
        items = value if isinstance(value, tuple) else [f"{name}={item}" for name, item in value.items()]
        return _code(", ".join(items)) or "none"
    return _code(str(value).lower() if isinstance(value, bool) else str(value))


def _variables() -> Iterator[str]:
    yield "### Other variables"
    variables = {
        **OTHER_VARIABLES,
        f"ZCLI_{OVERLAYS.upper()}": 'overlays for deployments, as JSON: `{"Production": {"http": {"timeout": 20}}}`',
    }
    yield _table(("variable", "description"), [(_code(name), what) for name, what in variables.items()])


# --- Markdown ---


def _first_paragraph(documented: type) -> str:
    return _markdown((inspect.getdoc(documented) or "").partition("\n\n")[0])


def _markdown(text: str) -> str:
    """A docstring's text on one line, with its roles and literals as Markdown writes them."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    return _escaped(" ".join(text.replace("``", "`").split()))


def _escaped(text: str) -> str:
    """Text in which Markdown and HTML give a meaning only to what is between backticks."""
    pieces = text.split("`")
    pieces[::2] = [piece.replace("<", "&lt;").replace("*", r"\*") for piece in pieces[::2]]
    return "`".join(pieces)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [_row(columns), _row(["---"] * len(columns)), *map(_row, rows)]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

"""The page: Markdown, the same for the same declarations on every machine and every Python."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from zcli_core.assembly import check_layer
from zcli_core.cli.reference_source import as_markdown, escaped, first_paragraph, read_module
from zcli_core.config.conversion import describe
from zcli_core.config.layering import OTHER_VARIABLES, OVERLAYS
from zcli_core.plugins import hookspecs
from zcli_core.plugins.choice import pip_command
from zcli_core.plugins.loading import HOOKS
from zcli_core.plugins.records import KINDS

if TYPE_CHECKING:
    from zcli_core.config.settings import Setting
    from zcli_core.plugins.host import PluginHost

_INTRODUCTION = """\
# Settings and hooks

The command `zcli reference` makes this page from the declarations in the code. On your machine it prints the same page
with the plugins that are installed there."""
_PHASES = {
    "declaring": "Called once for every `zCLI` object, before anything is made. One that fails costs its plugin its "
    "place.",
    "running": "Called when something happens. One that raises is logged with its plugin's name and changes nothing "
    "else.",
}
_LAYER_KIND = (
    "configuration layer",
    "zcli_config_layers",
    None,
    "zcli_core.config.contract.ConfigLayer",
    "zcli_core.testing.ConfigLayerContract",
)
#: The modules that a plugin's author imports, in the order of the page.
CONTRACTS = (
    "zcli_core.plugins.contract",
    "zcli_core.config.contract",
    "zcli_core.http.contract",
    "zcli_core.http.messages",
    "zcli_core.http.parts.proxies",
    "zcli_core.websocket.contract",
    "zcli_core.auth.contract",
    "zcli_core.auth.parts",
    "zcli_core.services.contract",
    "zcli_core.services.parts.launch",
    "zcli_core.services.parts.settings",
    "zcli_core.net.headers",
    "zcli_core.net.origins",
)
_FIELD = re.compile(r"^:(param (?P<name>\w+)|returns|raises (?P<error>\w+)):", re.MULTILINE)


def make_page(host: PluginHost, settings: Mapping[str, Setting]) -> str:
    """The whole reference for the plugins of a host, which are loaded and have been asked, and these settings."""
    parts = [_INTRODUCTION, *_providers(host), *_hooks(), *_settings(settings.values()), *_variables(), *_contracts()]
    return "\n\n".join(parts) + "\n"


# --- what plugins provide ---


def _providers(host: PluginHost) -> Iterator[str]:
    yield "## What plugins provide"
    yield _table(
        ("kind", "hook", "selected by", "contract", "contract suite"),
        [
            (
                label,
                _code(hook),
                _code(setting) if setting else "all are in use",
                _code(contract),
                _code(suite),
            )
            for label, hook, setting, contract, suite in (*KINDS, _LAYER_KIND)
        ],
    )
    yield from (
        f"### {_capital(kind.plural)}\n\n"
        + _table(
            ("name", "what", "plugin", "to be installed"),
            [
                (
                    " or ".join(map(_code, (provider.name, *provider.aliases))),
                    escaped(provider.summary),
                    _code(record.name),
                    _code(pip_command(provider) or "") if provider.needs else "",
                )
                for record in host.records.values()
                for provider in record.offers.get(kind, ())
            ],
        )
        for kind in KINDS
    )
    layers = sorted(host.collect("zcli_config_layers", check_layer), key=lambda found: (found[1].order, found[1].name))
    yield "### Configuration layers, the lowest first"
    yield _table(
        ("order", "name", "plugin", "what"),
        [
            (str(layer.order), layer.name, _code(plugin), first_paragraph(inspect.getdoc(type(layer))))
            for plugin, layer in layers
        ],
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
    text = inspect.getdoc(function) or ""
    first = _FIELD.search(text)
    lines = [f"#### `{name}({arguments}) -> {signature.return_annotation}`", ""]
    lines.append(as_markdown(text[: first.start()] if first else text))
    fields = _fields(text)
    return "\n".join([*lines, *(["", *fields] if fields else [])])


def _fields(text: str) -> list[str]:
    """What ``:param x:``, ``:returns:`` and ``:raises E:`` say, as a list."""
    found = list(_FIELD.finditer(text))
    ends = [following.start() for following in found[1:]] + [len(text)]
    lines = []
    for field, end in zip(found, ends, strict=True):
        name, error = field["name"], field["error"]
        label = f"`{name}`" if name else f"raises `{error}`" if error else "gives"
        lines.append(f"- {label}: {as_markdown(text[field.end() : end])}")
    return lines


# --- settings ---


def _settings(settings: Iterable[Setting]) -> Iterator[str]:
    yield "## Settings"
    yield (
        "A variable sets it in the environment and in `.zEnv`; in every other layer it goes by its key. The value of a "
        "secret is shown nowhere. A setting that restricts limits what others may do: a misspelt name of it stops the "
        "part that it belongs to. So does one of a secret."
    )
    sections: dict[type, list[Setting]] = {}
    for setting in settings:
        sections.setdefault(setting.section, []).append(setting)
    for section, members in sections.items():
        yield f"### {_code(members[0].section.section_name) or 'At the top'}"
        yield f"{first_paragraph(inspect.getdoc(section))} Declared by {_code(members[0].provider)}."
        yield _table(
            ("setting", "what", "takes", "default", "variables"),
            [_setting_row(setting) for setting in members],
        )


def _setting_row(setting: Setting) -> tuple[str, ...]:
    names = [*setting.variables, *(f"{name} (with others)" for name in setting.composites)]
    mark = " (secret)" if setting.secret else " (restricts)" if setting.restricts else ""
    return (
        _code(setting.key),
        escaped(setting.declaration.help) + mark,
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
    yield "### Variables that are no settings"
    variables = {
        **OTHER_VARIABLES,
        f"ZCLI_{OVERLAYS.upper()}": 'overlays for deployments, as JSON: `{"Production": {"http": {"timeout": 20}}}`',
    }
    yield _table(("variable", "what"), [(_code(name), what) for name, what in variables.items()])


# --- contracts ---


def _contracts() -> Iterator[str]:
    yield "## Contracts"
    yield "What a plugin hands in, and what it is handed. Import each from its module."
    for module in CONTRACTS:
        document = read_module(module)
        yield f"### `{document.name}`"
        yield document.text
        for item in document.contents:
            is_class = item.declaration.startswith("class ")
            yield f"#### {_code(item.declaration if is_class else item.name)}"
            if not is_class:
                yield _code(item.declaration)
            yield item.text
            if item.members:
                yield "\n".join(f"- {_code(m.declaration)}{f': {m.text}' if m.text else ''}" for m in item.members)


# --- Markdown ---


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [_row(columns), _row(["---"] * len(columns)), *map(_row, rows)]
    return "\n".join(lines)


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"

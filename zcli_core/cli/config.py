"""``zcli config``: which values are in force and where each was set; the JSON Schema (2020-12) of the machine file."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args, get_origin

import click

from zcli_core.cli.output import json_option, print_error, print_json, print_table, print_text, show
from zcli_core.cli.session import load, load_plugins
from zcli_core.config import Config, Explanation
from zcli_core.config.conversion import describe
from zcli_core.config.names import OVERLAYS
from zcli_core.config.settings import Setting, alternatives, is_document, without_none
from zcli_core.suggestions import suggestion


@click.command("config")
@click.argument("key", required=False)
@json_option
@click.option("--schema", is_flag=True, help="Print the JSON Schema of zConfig.machine.yaml instead, for editors.")
def command(key: str | None, as_json: bool, schema: bool) -> None:
    """Show the settings in force and where each was set.

    Values of lower layers are shown, too. KEY is a setting (websocket.port) or a section (websocket). Without KEY, all
    settings are shown. The values of secrets are never shown.
    """
    if schema:
        if key is not None:
            raise click.UsageError("--schema takes no KEY: the schema is that of the whole file")
        print_json(make_schema(load_plugins().config.settings.values()))
        return
    _, config = load(to_show=True)
    keys = _matching(config, key)
    explanations = [config.explain(name) for name in keys]
    if as_json:
        found = [_as_json(config, item) for item in explanations]
        print_json(found[0] if keys == [key] else found)
    elif keys == [key]:
        _print_one(config, explanations[0])
    else:
        print_table(
            ("setting", "value", "layer", "origin", "shadows"),
            [(e.key, show(e.value), e.layer, e.origin, _shadows(e)) for e in explanations],
        )


def _matching(config: Config, key: str | None) -> list[str]:
    names = list(config.settings)
    if key is None:
        return names
    if key in config.settings:
        return [key]
    below = [name for name in names if name.startswith(f"{key}.")]
    if not below:
        sections = {name.rpartition(".")[0] for name in names} - {""}
        print_error(f"unknown setting {key!r}{suggestion(key, [*sections, *names])}")
        sys.exit(2)
    return below


def _shadows(explanation: Explanation) -> str:
    return "; ".join(
        f"{show(value)} ({origin})" for value, layer, origin in explanation.shadowed if layer != "defaults"
    )


def _print_one(config: Config, explanation: Explanation) -> None:
    setting = config.settings[explanation.key]
    print_text(f"{explanation.key} = {show(explanation.value)}")
    print_text(f"  set by     {explanation.layer}: {explanation.origin}")
    for value, layer, origin in explanation.shadowed:
        print_text(f"  shadows    {show(value)} from {layer}: {origin}")
    print_text(f"  what       {setting.declaration.help}")
    print_text(f"  takes      {describe(setting)}")
    print_text(f"  variables  {', '.join((*setting.variables, *setting.composites))}")


def _as_json(config: Config, explanation: Explanation) -> dict[str, Any]:
    setting = config.settings[explanation.key]
    return {
        **explanation._asdict(),
        "help": setting.declaration.help,
        "takes": describe(setting),
        "variables": [*setting.variables, *setting.composites],
    }


_TYPES = {bool: "boolean", int: "integer", float: "number"}


def make_schema(settings: Iterable[Setting]) -> dict[str, Any]:
    """Return the schema: what the file may set, in each section and for each deployment.

    A value may be null, which sets nothing. A key with a dot (``http.timeout: 5``) is valid but not checked. Secrets
    are marked as ``writeOnly`` and have no default.
    """
    root = _mapping("Settings for every script on this computer.")
    for setting in settings:
        place = root
        for name in setting.section.section_name.split(".") if setting.section.section_name else ():
            place = place["properties"].setdefault(name, _mapping(""))
        if setting.section.section_name:
            place["description"] = " ".join((setting.section.__doc__ or "").partition("\n\n")[0].split())
        place["properties"][setting.attribute] = _value(setting)
    overlays = _mapping("Settings for one deployment only, by its name.")
    for deployment in root["properties"]["deployment"]["enum"]:
        if deployment is not None:
            overlays["properties"][deployment] = {"$ref": "#/$defs/settings"}
    definition = {**root, "properties": dict(root["properties"])}
    root["properties"][OVERLAYS] = overlays
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **root, "$defs": {"settings": definition}}


def _mapping(description: str) -> dict[str, Any]:
    return {
        "description": description,
        "type": ["object", "null"],
        "properties": {},
        "patternProperties": {r"\.": True},
        "additionalProperties": False,
    }


def _value(setting: Setting) -> dict[str, Any]:
    declared, declaration = without_none(setting.type), setting.declaration
    found: dict[str, Any] = {"description": declaration.help}
    if len(alternatives(declared)) > 1:
        found["type"] = [*(_TYPES.get(one, "string") for one in alternatives(declared)), "null"]
    elif get_origin(declared) is Literal:
        found["enum"] = [*get_args(declared), None]
    elif get_origin(declared) is tuple:
        found |= {"type": ["array", "string", "null"], "items": {"type": "string"}}
    elif get_origin(declared) is Mapping:
        found |= {"type": ["object", "string", "null"], "additionalProperties": {"type": "string"}}
    elif is_document(declared):
        found["type"] = ["object", "string", "null"]
    else:
        found["type"] = [_TYPES.get(declared, "string"), "null"]
    limits = {"minimum": declaration.minimum, "maximum": declaration.maximum, "exclusiveMinimum": declaration.above}
    found |= {name: limit for name, limit in limits.items() if limit is not None}
    if setting.secret:
        found["writeOnly"] = True
    elif setting.default is not None:
        found["default"] = list(setting.default) if isinstance(setting.default, tuple) else setting.default
    return found

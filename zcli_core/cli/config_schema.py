"""The JSON Schema (2020-12) of the machine file ``zConfig.machine.yaml``, from the declarations of the settings."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args, get_origin

from zcli_core.config.names import OVERLAYS
from zcli_core.config.settings import Setting, without_none

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
    if get_origin(declared) is Literal:
        found["enum"] = [*get_args(declared), None]
    elif get_origin(declared) is tuple:
        found |= {"type": ["array", "string", "null"], "items": {"type": "string"}}
    elif get_origin(declared) is Mapping:
        found |= {"type": ["object", "string", "null"], "additionalProperties": {"type": "string"}}
    else:
        found["type"] = [_TYPES.get(declared, "string"), "null"]
    limits = {"minimum": declaration.minimum, "maximum": declaration.maximum, "exclusiveMinimum": declaration.above}
    found |= {name: limit for name, limit in limits.items() if limit is not None}
    if setting.secret:
        found["writeOnly"] = True
    elif setting.default is not None:
        found["default"] = list(setting.default) if isinstance(setting.default, tuple) else setting.default
    return found

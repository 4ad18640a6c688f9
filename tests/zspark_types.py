"""Prints ``zcli_core/zspark.py``, the type of zSpark, from the declarations of the settings.

``python tests/zspark_types.py > zcli_core/zspark.py`` renews it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from textwrap import wrap
from typing import Any, Literal, get_args, get_origin

from zcli_core.cli.reference import own_plugins_and_settings
from zcli_core.config.settings import Setting, alternatives, is_document

_HEAD = '''\
"""The type of zSpark: the settings that a script may give to ``zCLI``, with those of zCLI's own plugins.

Made by ``python tests/zspark_types.py > zcli_core/zspark.py`` from the declarations of the settings; do not edit it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict
'''
_TAIL = '''

class Deployments(TypedDict, total=False):
    """Settings for one deployment only, by its name."""

    Development: Settings
    Testing: Settings
    Production: Settings


class ZSpark(Settings, total=False):
    """The settings that a script gives to ``zCLI``; ``zcli config`` lists them with their values.

    >>> zSpark: ZSpark = {"title": "my-script", "http": {"timeout": 5}}

    None as a value means that the script does not set the setting. A setting of a third-party plugin is not a key of
    this type; ``zCLI`` also accepts any other mapping.
    """

    deployments: Deployments
    """Settings for one deployment only: ``{"Production": {"http": {"timeout": 20}}}``."""
'''
_TYPES = {bool: "bool", int: "int", float: "float", str: "str", Path: "str | Path"}


def make_module() -> str:
    """Return the text of the module."""
    sections: dict[str, list[Setting]] = {}
    for setting in own_plugins_and_settings()[1].values():
        sections.setdefault(setting.section.section_name, []).append(setting)
    # Sections below another come first, because it names their classes.
    order = sorted(sections, key=lambda name: (name == "", -name.count(".")))
    below = {name: [other for other in sections if other and other.rpartition(".")[0] == name] for name in order}
    return "\n\n".join([_HEAD, *(_make_class(name, sections[name], below[name]) for name in order)]) + _TAIL


def _make_class(section: str, settings: Iterable[Setting], below: Iterable[str]) -> str:
    settings = list(settings)
    text = (settings[0].section.__doc__ or "").strip().partition("\n\n")[0]
    lines = [f"class {_class_name(section)}(TypedDict, total=False):", f'    """{" ".join(text.split())}"""', ""]
    for setting in settings:
        lines += _field(setting.attribute, f"{_type(setting)} | None", setting.declaration.help)
    for name in below:
        lines += [f"    {name.rpartition('.')[2]}: {_class_name(name)}"]
    return "\n".join(lines) + "\n"


def _field(name: str, type_: str, text: str) -> list[str]:
    # A docstring below a field is what editors show for it.
    docstring = wrap(f'"""{text}"""'.replace("\\", r"\\"), 116)
    return [f"    {name}: {type_}", *(f"    {line}" for line in docstring)]


def _class_name(section: str) -> str:
    return "".join(part.capitalize() for part in section.replace("_", ".").split(".")) + "Settings"


def _type(setting: Setting) -> str:
    return " | ".join(map(_type_text, alternatives(setting.type)))


def _type_text(declared: Any) -> str:
    origin = get_origin(declared)
    if origin is Literal:
        choices = ", ".join(f'"{choice}"' for choice in get_args(declared))
        return f"Literal[{choices}]"
    if origin is tuple:
        return "Collection[str]"
    if is_document(declared):
        return "str | Path | Mapping[str, Any]"
    return "Mapping[str, str]" if origin is Mapping else _TYPES[declared]


if __name__ == "__main__":
    sys.stdout.write(make_module())

"""The body of a response as ``zcli http`` shows it: JSON indented and coloured, control characters escaped."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

import click

from zcli_core.cli.output import encode_json
from zcli_core.printable import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from zcli_core.http.contract import HttpResponse

#: A larger body is not indented, because that takes seconds.
_MAX_INDENTED = 1024 * 1024
#: Deeper levels are not indented further, because a small body could become gigabytes of spaces.
_MAX_DEPTH = 25
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{},:]|[^\s\[\]{},:"]+')
_TEXT_TYPES = re.compile(r"text/|application/(.*\+)?(json|xml|javascript|yaml|x-www-form-urlencoded)\b", re.IGNORECASE)


def readable_text(response: HttpResponse) -> str | None:
    """Return a body as text, or None if it is binary, such as an image."""
    text = response.text
    if "\ufffd" in text:  # some bytes are invalid in the charset
        if not _TEXT_TYPES.match(response.headers.get("content-type", "")):
            return None
        text = response.content.decode(response.apparent_encoding, "replace")
    return None if "\0" in text else text


def for_terminal(text: str) -> str:
    """Return the text of a body for a terminal, without the line break at its end.

    JSON is indented. The digits of its numbers, repeated names and the order of names are kept. Colours are left out if
    the environment variable ``NO_COLOR`` is set or ``TERM`` is ``dumb``.
    """
    if len(text) <= _MAX_INDENTED and _is_json(text):
        in_colour = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        return _indented(_TOKEN.findall(text), _painted if in_colour else _plain)
    return printable(text.replace("\r\n", "\n"), keep="\n\t").rstrip("\n")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _indented(parts: list[str], shown: Callable[[str, bool], str]) -> str:
    depth = 0
    written = []
    for place, part in enumerate(parts):
        following = parts[place + 1] if place + 1 < len(parts) else ""
        if part in ("[", "{"):
            depth += 1
            written.append(part if following in ("]", "}") else part + _new_line(depth))
        elif part in ("]", "}"):
            depth -= 1
            written.append(part if parts[place - 1] in ("[", "{") else _new_line(depth) + part)
        elif part in (",", ":"):
            written.append("," + _new_line(depth) if part == "," else ": ")
        else:
            written.append(shown(part, following == ":"))
    return "".join(written)


def _new_line(depth: int) -> str:
    return "\n" + "    " * min(depth, _MAX_DEPTH)


def _plain(part: str, is_name: bool) -> str:
    # Escapes of characters that can be printed are decoded, and characters that cannot be printed are escaped.
    return encode_json(json.loads(part), indent=None) if part.startswith('"') else part


def _painted(part: str, is_name: bool) -> str:
    style: dict[str, Any] = {"fg": "cyan"}
    if part.startswith('"'):
        style = {"fg": "blue", "bold": True} if is_name else {"fg": "green"}
    elif part in ("true", "false", "null"):
        style = {"fg": "magenta"}
    return click.style(_plain(part, is_name), **style)

"""A new plugin's distribution, made from the templates.

A template is a folder of real files of a plugin called *skeleton*. What is in ``common`` goes into every distribution;
each other folder is a kind's own. Making a distribution replaces that word, in paths and texts, and a few values in
``<<...>>``; a file that is in both is the common one, with the kind's own in the place of its line ``<<kind>>``.
"""

from __future__ import annotations

import keyword
import os
import re
import secrets
import shutil
import unicodedata
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from zcli_core import __version__

_TEMPLATES = Path(__file__).parent / "templates"
_COMMON = "common"
_PREFIX = re.compile(r"zcli[-_]", re.IGNORECASE)
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_LONGEST_NAME = 50
_KIND_LINE = re.compile(r"^.*<<kind>>.*\n", re.MULTILINE)

#: What each kind of plugin is, in one clause that follows its name.
KINDS: Mapping[str, str] = {
    "service": "a service that zCLI asks how it is, starts and stops",
    "http": "an HTTP transport for zCLI",
    "websocket": "a WebSocket transport for zCLI",
    "auth": "an auth strategy for zCLI's WebSocket server",
    "layer": "a layer of zCLI's configuration",
}


class Names(NamedTuple):
    """The forms of a plugin's name: ``message-queue`` is ``message_queue`` in code and ``MessageQueue`` as a class."""

    plain: str

    @property
    def distribution(self) -> str:
        """What pip installs: ``zcli-message-queue``."""
        return f"zcli-{self.plain}"

    @property
    def identifier(self) -> str:
        """What configuration and code call it: ``message_queue``."""
        return self.plain.replace("-", "_")

    @property
    def package(self) -> str:
        """What is imported: ``zcli_message_queue``."""
        return f"zcli_{self.identifier}"

    @property
    def in_classes(self) -> str:
        """What its classes begin with: ``MessageQueue``."""
        return "".join(part[:1].upper() + part[1:] for part in self.plain.split("-"))


def parse_name(text: str) -> Names:
    """The names that follow from what somebody typed; ``zcli-`` in front may be there or not.

    :raises ValueError: it is no name for a plugin; the message says what is wrong and suggests another.
    """
    plain = _PREFIX.sub("", text, count=1) if _PREFIX.match(text) else text
    if not _NAME.fullmatch(plain):
        near = _nearest_name(plain)
        raise ValueError(
            f"{text!r} is no name for a plugin: it takes lower-case letters, digits and single hyphens between them, "
            "and begins with a letter" + (f"; how about {near!r}?" if near else "")
        )
    if len(plain) > _LONGEST_NAME:
        raise ValueError(f"the name has {len(plain)} characters; a plugin's has at most {_LONGEST_NAME}")
    names = Names(plain)
    if keyword.iskeyword(plain):
        raise ValueError(f"{plain!r} is a word of Python's own, and could not stand in z.config.{plain}")
    if find_spec(names.package) is not None:
        raise ValueError(f"there is a package {names.package} in this Python already; take another name")
    return names


def _nearest_name(text: str) -> str | None:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    plain = re.sub(r"[^a-z0-9]+", "-", plain).strip("-0123456789")[:_LONGEST_NAME].strip("-")
    return plain if _NAME.fullmatch(plain) and not keyword.iskeyword(plain) else None


def make_files(kind: str, names: Names) -> dict[str, str]:
    """The texts of the distribution's files by their paths, with ``/`` between folders.

    :raises ValueError: a class of the plugin would have the name of one that its own code uses.
    """
    common, own = _read(_COMMON), _read(kind)
    texts = {path: _join(common.get(path), own.get(path, "")) for path in sorted({*common, *own})}
    _require_distinct_classes(texts, names)
    values = {
        "zcli-skeleton": names.distribution,
        "skeleton": names.identifier,
        "Skeleton": names.in_classes,
        "SKELETON": names.identifier.upper(),
        "<<summary>>": f"{names.in_classes}: {KINDS[kind]}",
        "<<core_version>>": __version__,
    }
    pattern = re.compile("|".join(map(re.escape, values)))

    def fill(text: str) -> str:
        return pattern.sub(lambda found: values[found[0]], text)

    return {fill(path): fill(text) for path, text in texts.items()}


def _read(folder: str) -> dict[str, str]:
    return {
        file.relative_to(_TEMPLATES / folder).as_posix(): file.read_text(encoding="utf-8")
        for file in _files(_TEMPLATES / folder)
    }


def _files(folder: Path) -> Iterator[Path]:
    # Installers compile whatever ends with .py.
    return (file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts)


def _join(common: str | None, own: str) -> str:
    return own if common is None else _KIND_LINE.sub(lambda _: own, common)


def _require_distinct_classes(texts: Mapping[str, str], names: Names) -> None:
    words = {word for path, text in texts.items() if path.endswith(".py") for word in re.findall(r"\w+", text)}
    for word in sorted(words):
        own = word.replace("Skeleton", names.in_classes)
        if own != word and own in words:
            raise ValueError(
                f"a plugin called {names.plain!r} would have a class {own}, which its code knows as another"
            )


def write_files(files: Mapping[str, str], folder: Path) -> None:
    """Write a new folder, all of it or nothing.

    :raises FileExistsError: something of that name is there, or came while this was writing; it is left as it is.
    :raises OSError: it cannot be written; nothing is left behind.
    """
    if os.path.lexists(folder):
        raise FileExistsError(f"{folder} is there already")
    fresh = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    fresh.mkdir()
    try:
        for path, text in files.items():
            file = fresh / path
            file.parent.mkdir(parents=True, exist_ok=True)
            # The folder's owner may put a link to another folder in our place: what is there is not overwritten.
            with file.open("x", encoding="utf-8", newline="\n") as stream:
                stream.write(text)
        _move(fresh, folder)
    except BaseException:  # also Ctrl+C
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _move(fresh: Path, folder: Path) -> None:
    """Give the folder its name, unless that is taken: renaming replaces no file and no folder that holds anything."""
    try:
        fresh.rename(folder)
    except OSError as error:
        if os.path.lexists(folder):
            raise FileExistsError(f"{folder} is there already") from error
        raise

"""Create the project of a new plugin from the templates.

A template is a folder with the files of a plugin called *skeleton*. Every project gets the files of ``common`` and
those of its kind. The word *skeleton* in paths and texts is replaced, and the values in ``<<...>>``. If a file is in
both folders, the file of the kind replaces the line ``<<kind>>`` of the common file.
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

#: A description of each kind of plugin, to follow the name of the plugin.
KINDS: Mapping[str, str] = {
    "service": "a service that zCLI probes, starts and stops",
    "http": "an HTTP transport for zCLI",
    "websocket": "a WebSocket transport for zCLI",
    "auth": "an auth strategy for zCLI's WebSocket server",
    "backplane": "a backplane for zCLI's WebSocket server",
    "subsystem": "a subsystem of zCLI, as an attribute of the object",
    "layer": "a layer of zCLI's configuration",
}


class Names(NamedTuple):
    """The forms of a plugin's name: ``message-queue`` is ``message_queue`` in code and ``MessageQueue`` as a class."""

    plain: str

    @property
    def distribution(self) -> str:
        """The name of the distribution: ``zcli-message-queue``."""
        return f"zcli-{self.plain}"

    @property
    def identifier(self) -> str:
        """The name in configuration and code: ``message_queue``."""
        return self.plain.replace("-", "_")

    @property
    def package(self) -> str:
        """The name of the package: ``zcli_message_queue``."""
        return f"zcli_{self.identifier}"

    @property
    def in_classes(self) -> str:
        """The prefix of its classes: ``MessageQueue``."""
        return "".join(part[:1].upper() + part[1:] for part in self.plain.split("-"))


def parse_name(text: str) -> Names:
    """Return the names of a plugin from the text that the user typed, with or without ``zcli-`` in front.

    Raises:
        ValueError: The text is not a valid name. The message says why and suggests another.
    """
    plain = _PREFIX.sub("", text, count=1) if _PREFIX.match(text) else text
    if not _NAME.fullmatch(plain):
        near = _nearest_name(plain)
        raise ValueError(
            f"a plugin's name must be lower-case letters, digits and single hyphens, and begin with a letter, "
            f"got {text!r}" + (f"; did you mean {near!r}?" if near else "")
        )
    if len(plain) > _LONGEST_NAME:
        raise ValueError(f"a plugin's name must have at most {_LONGEST_NAME} characters, got {len(plain)}")
    names = Names(plain)
    if keyword.iskeyword(plain):
        raise ValueError(f"{plain!r} is a keyword of Python, so z.config.{plain} is invalid; choose another name")
    if find_spec(names.package) is not None:
        raise ValueError(f"a package {names.package} is already installed; choose another name")
    return names


def _nearest_name(text: str) -> str | None:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    plain = re.sub(r"[^a-z0-9]+", "-", plain).strip("-0123456789")[:_LONGEST_NAME].strip("-")
    return plain if _NAME.fullmatch(plain) and not keyword.iskeyword(plain) else None


def make_files(kind: str, names: Names) -> dict[str, str]:
    """Return the texts of the project's files by path, with ``/`` between folders.

    Raises:
        ValueError: A class of the plugin would have the name of a class that its code imports.
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
    # Installers compile the templates, because their names end with .py.
    return (file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts)


def _join(common: str | None, own: str) -> str:
    return own if common is None else _KIND_LINE.sub(lambda _: own, common)


def _require_distinct_classes(texts: Mapping[str, str], names: Names) -> None:
    words = {word for path, text in texts.items() if path.endswith(".py") for word in re.findall(r"\w+", text)}
    for word in sorted(words):
        own = word.replace("Skeleton", names.in_classes)
        if own != word and own in words:
            raise ValueError(
                f"a plugin named {names.plain!r} would define {own}, which its code imports; choose another name"
            )


def write_files(files: Mapping[str, str], folder: Path) -> None:
    """Write a new folder, completely or not at all.

    Raises:
        FileExistsError: The folder exists. It is not changed.
        OSError: The folder cannot be written. No files remain.
    """
    if os.path.lexists(folder):
        raise FileExistsError(f"{folder} already exists")
    fresh = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    fresh.mkdir()
    try:
        for path, text in files.items():
            file = fresh / path
            file.parent.mkdir(parents=True, exist_ok=True)
            # The owner of the parent folder may replace ours by a link, so existing files are not overwritten.
            with file.open("x", encoding="utf-8", newline="\n") as stream:
                stream.write(text)
        _move(fresh, folder)
    except BaseException:  # also Ctrl+C
        shutil.rmtree(fresh, ignore_errors=True)
        raise


def _move(fresh: Path, folder: Path) -> None:
    """Rename the folder to its final name. rename() does not replace a file or a folder that is not empty."""
    try:
        fresh.rename(folder)
    except OSError as error:
        if os.path.lexists(folder):
            raise FileExistsError(f"{folder} already exists") from error
        raise

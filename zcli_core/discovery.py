"""Finding installed plugins without importing anything of theirs.

``importlib.metadata`` would do, at 30 ms of start-up; the file it reads is simple and ours to read, in under 3 ms.
Format: https://packaging.python.org/en/latest/specifications/entry-points/
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Iterator
from typing import NamedTuple

GROUP = "zcli"
#: Plugins named here too are loaded before the configuration is read.
FIRST_GROUP = "zcli.first"


class EntryPoint(NamedTuple):
    """One plugin as its distribution's metadata names it."""

    name: str
    value: str
    distribution: str
    version: str
    first: bool = False


def find_entry_points(path: Iterable[str] | None = None) -> list[EntryPoint]:
    """Every entry point in the group ``zcli`` on ``path`` (default ``sys.path``), sorted by name.

    Where one distribution is found twice, the first on the path counts, as for an import.
    """
    found: list[EntryPoint] = []
    seen: set[str] = set()
    for distribution, version, text in _distributions(sys.path if path is None else path):
        normalised = re.sub("[-_.]+", "-", distribution).lower()
        if normalised in seen:
            continue
        seen.add(normalised)
        if f"[{GROUP}]" not in text:
            continue
        groups = _parse(text)
        first = {name for name, _ in groups.get(FIRST_GROUP, ())}
        shown = distribution.replace("_", "-")
        found += [EntryPoint(n, value, shown, version, n in first) for n, value in groups.get(GROUP, ())]
    return sorted(found, key=lambda point: (point.name, point.distribution))


def _distributions(path: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """(name, version, text of entry_points.txt or "") of every distribution on the path, nearest first."""
    for folder in dict.fromkeys(path):
        try:
            names = os.listdir(folder or ".")
        except NotADirectoryError:
            yield from _zipped_distributions(folder)
            continue
        except (OSError, ValueError):
            continue
        for name in names:
            stem, dot, kind = name.rpartition(".")
            if dot and kind.lower() in ("dist-info", "egg-info"):
                distribution, _, version = stem.partition("-")
                # Old egg-info folders append the Python version: name-1.0-py3.11.egg-info
                yield distribution, version.partition("-")[0], _read(folder or ".", name)


def _read(folder: str, name: str) -> str:
    try:
        with open(os.path.join(folder, name, "entry_points.txt"), encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return ""


def _zipped_distributions(file: str) -> Iterator[tuple[str, str, str]]:
    from importlib.metadata import distributions

    try:
        for item in distributions(path=[file]):
            yield item.metadata["Name"] or "", item.version, item.read_text("entry_points.txt") or ""
    except Exception:  # noqa: BLE001 - whatever is wrong with that file, it is no plugin of ours
        return


def _parse(text: str) -> dict[str, list[tuple[str, str]]]:
    groups: dict[str, list[tuple[str, str]]] = {}
    group: list[tuple[str, str]] = []
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith("[") and line.endswith("]"):
            group = groups.setdefault(line[1:-1].strip(), [])
        elif line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            group.append((name.strip(), value.partition("[")[0].strip()))
    return groups

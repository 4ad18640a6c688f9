"""What tests of installations share: real metadata and modules in a folder on ``sys.path``, and who may read it."""

from __future__ import annotations

import importlib
import os
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

_HEAD = "from zcli_core import hookimpl\nfrom zcli_core.plugins.contract import Provider\nZCLI_CONTRACT = 1\n"


class Site:
    """A folder of installed distributions."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()

    def distribution(self, name: str, entry_points: str, version: str = "1.0", *, kind: str = "dist-info") -> Path:
        """Write the metadata of a distribution; ``entry_points`` is its ``entry_points.txt``."""
        info = self.folder / f"{name.replace('-', '_')}-{version}.{kind}"
        info.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (info / ("METADATA" if kind == "dist-info" else "PKG-INFO")).write_text(metadata)
        (info / "entry_points.txt").write_text(textwrap.dedent(entry_points))
        importlib.invalidate_caches()
        return info

    def module(self, name: str, code: str) -> None:
        """Write a module."""
        (self.folder / f"{name}.py").write_text(textwrap.dedent(code))
        importlib.invalidate_caches()

    def plugin(self, name: str, code: str, *, distribution: str | None = None, first: bool = False) -> None:
        """Install a plugin in a distribution of its own. ``code`` may use ``hookimpl`` and ``Provider``."""
        again = f"[zcli.first]\n{name} = {name}\n" if first else ""
        self.distribution(distribution or f"dist-{name}", f"[zcli]\n{name} = {name}\n{again}")
        self.module(name, _HEAD + textwrap.dedent(code))

    def forget_modules(self) -> None:
        """Take everything that was imported from here out of ``sys.modules``."""
        for file in self.folder.glob("*.py"):
            sys.modules.pop(file.stem, None)


def http_transport(name: str, aliases: str = "()") -> str:
    """A plugin's code that offers an HTTP transport of that name; what it makes is its own name."""
    return f"""
        @hookimpl
        def zcli_http_transports():
            return [Provider({name!r}, "of a test", lambda context: __name__, aliases={aliases})]
        """


def clean_environment(environment: Mapping[str, str], home: Path) -> dict[str, str]:
    """That environment without anything that configures zCLI, and with another home."""
    ours = ("ZCLI_", "WEBSOCKET_", "XDG_")
    return {**{k: v for k, v in environment.items() if not k.startswith(ours)}, "HOME": str(home)}


def others_may_read(path: str) -> bool:
    """Return whether an ordinary user may enter a folder: a test that becomes one needs the packages of its Python."""
    folders = [Path(path).resolve(), *Path(path).resolve().parents]
    return all(folder.stat().st_mode & 0o005 == 0o005 for folder in folders)


#: For a test that changes its user.
needs_to_become_somebody_else = pytest.mark.skipif(
    not hasattr(os, "getuid") or os.getuid() != 0 or not others_may_read(sys.prefix),
    reason="only root can change the user, and only if others may read the packages of this Python",
)

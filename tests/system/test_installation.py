"""Every command ``pip install`` in messages, documents, demos and templates names an existing package or file.

An attacker who registers a name that a message tells users to install could run code on their machines.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from documents import ROOT
from installations import Site

from zcli_core.assembly import assemble
from zcli_core.plugins.host import PluginHost
from zcli_core.plugins.records import KINDS, SERVICE
from zcli_core.system.installation import install_again
from zcli_core.testing.contract import make_context

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 or later reads pyproject.toml")

_PLACES = ("zCLI", "zcli_core", "plugins", "Demos", "docs", "*.md")
_SUFFIXES = (".py", ".md", ".toml", ".yml")
_COMMAND = re.compile(r"\bpip (?:install|download|wheel)((?: +(?:'[^'\n]+'|\"[^\"\n]+\"|[^\s'\"`()|&;,]+))+)")
_ARGUMENT = re.compile(r"'[^']+'|\"[^\"]+\"|[^\s'\"]+")
#: Packages of others that users need besides our own dependencies.
_TOOLS = frozenset({"build", "twine", "pytest"})
#: What code fills in. Tests below look at what comes out.
_FILLED_IN = ("{provider.install}", "{option}", "{source}", "{python}")


def _project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def _requirements() -> set[str]:
    """The requirements of the project and its extras."""
    project = _project()
    return {*project["dependencies"], *(text for extra in project["optional-dependencies"].values() for text in extra)}


def _name(requirement: str) -> str:
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower()


def _known() -> set[str]:
    return ({_name(text) for text in _requirements()} | _TOOLS) - {_project()["name"]}


def _commands() -> Iterator[tuple[str, str]]:
    """Yield the place of each command, and each item that it installs."""
    for place in _PLACES:
        for found in ROOT.glob(place):
            for file in [found] if found.is_file() else sorted(found.rglob("*")):
                if file.suffix in _SUFFIXES and file.is_file():
                    for match in _COMMAND.finditer(file.read_text(encoding="utf-8")):
                        for item in _ARGUMENT.findall(match[1]):
                            yield str(file.relative_to(ROOT)), item.strip("\"'.:\\")


def test_pip_commands_name_known_packages_or_files() -> None:
    """A known item is a dependency, a folder, a file, or a part that code fills in."""
    commands = list(_commands())
    assert len(commands) > 15
    known = _known()
    for where, item in commands:
        is_place = item.startswith((".", "/", "$", "[")) or "/" in item or not item
        assert is_place or item.startswith("-") or item in _FILLED_IN or _name(item) in known, (where, item)


def test_pip_hints_of_plugins_match_the_extras(isolated: Path) -> None:
    """The packages have the bounds of ``pyproject.toml``."""
    host = PluginHost()
    assemble(host, {})
    context = make_context()
    requirements = {text.partition(";")[0] for text in _requirements()}
    hints = set()
    for kind in KINDS:
        for offers in host.providers(kind).values():
            hints |= {offer.provider.install for offer in offers}
            if kind == SERVICE:
                hints |= {host.make(SERVICE, context, offers[0].provider.name).install.pip}
    assert hints - {None} <= requirements
    assert len(hints) > 5


@pytest.mark.parametrize(
    ("recorded", "source"),
    [
        ({"url": "file://{folder}", "dir_info": {"editable": True}}, "{folder}"),
        ({"url": "https://host/zcli.whl", "archive_info": {}}, "https://host/zcli.whl"),
        ({"url": "https://host/zcli", "vcs_info": {"vcs": "git", "commit_id": "a"}}, "git+https://host/zcli"),
        ({"url": "file:///no/such/folder", "dir_info": {}}, None),
        (None, None),
    ],
    ids=["folder", "wheel", "repository", "folder that is gone", "not recorded"],
)
def test_install_again_names_the_source(
    site: Site, tmp_path: Path, recorded: dict[str, Any] | None, source: str | None
) -> None:
    """Without a recorded source, another distribution came from an index, by its name."""
    site.plugin("zcli_other", "", distribution="zcli-other")
    folder = tmp_path / "a b"
    folder.mkdir()
    if recorded is not None:
        text = json.dumps(recorded).replace("{folder}", folder.as_uri().removeprefix("file://"))
        next(site.folder.glob("zcli_other*.dist-info")).joinpath("direct_url.json").write_text(text)
    expected = "zcli-other" if source is None else f"'{folder}'" if source == "{folder}" else source
    assert install_again("zcli-other") == f"pip install --force-reinstall {expected}"


def test_install_again_never_names_zcli_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not on an index, so the command has the folder, or there is no command."""
    import zcli_core.system.installation

    assert install_again("zcli-core").startswith("pip install --force-reinstall /")
    monkeypatch.setattr(zcli_core.system.installation, "_recorded_source", lambda distribution: None)
    assert install_again("zcli-core") == f"pip install --force-reinstall {ROOT}"
    monkeypatch.setattr(zcli_core.system.installation, "__file__", "/site-packages/zcli_core/system/installation.py")
    assert install_again("zcli-core") == "install zcli-core again from its original source"

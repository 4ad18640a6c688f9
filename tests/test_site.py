"""The site of the documentation is built without warnings, and everything public is on it."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest
from documents import ROOT, blocks

import zCLI
from zcli_core.assembly import assemble
from zcli_core.cli.main import make_command
from zcli_core.plugins import hookspecs
from zcli_core.plugins.host import PluginHost

HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("zcli_"))
HOOK_PAGE = "docs/reference/hooks.md"
#: So that the site is built once.
on_one_worker = pytest.mark.xdist_group("site")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site; a warning, such as one of a link that leads nowhere, fails the build."""
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    return folder


def _page(site: Path, name: str) -> str:
    return (site / f"{name}.html").read_text(encoding="utf-8")


@on_one_worker
@pytest.mark.slow
def test_site_names_everything_public(site: Path, isolated: Path) -> None:
    """Each exported name has an anchor; each setting, hook and command is on its page."""
    api = _page(site, "reference/api")
    names = [name for name in zCLI.__all__ if name != "__version__"]
    assert [name for name in names if f'id="zCLI.{name}"' not in api] == []
    settings = _page(site, "reference/settings-and-hooks")
    keys = assemble(PluginHost(), {}).config.settings
    assert [key for key in keys if f"<code>{key}</code>" not in settings] == []
    assert [name for name in HOOKS if f'id="{name}"' not in _page(site, "reference/hooks")] == []
    commands = html.unescape(_page(site, "reference/commands"))
    shown = set(re.findall(r'<h\d id="[^"]+">([^<]+)<', commands))
    assert [path for path in _command_paths(make_command()) if path not in shown] == []


def _command_paths(command: click.Command, path: str = "zcli") -> list[str]:
    """Return the names of all commands below one, each with those above it."""
    if not isinstance(command, click.Group):
        return [path]
    context = click.Context(command)
    names = command.list_commands(context)
    return [
        each
        for name in names
        for each in _command_paths(command.get_command(context, name) or command, f"{path} {name}")
    ]


@on_one_worker
@pytest.mark.slow
def test_site_loads_nothing_from_elsewhere(site: Path) -> None:
    """No page has a script, style, font or picture of another host."""
    outside = [
        f"{page.relative_to(site)}: {address}"
        for page in site.rglob("*.html")
        for address in re.findall(
            r'<(?:script|link|img)\b[^>]*?(?:src|href)="(https?://[^"]+)"', page.read_text("utf-8")
        )
    ]
    assert outside == []


@pytest.mark.parametrize("name", HOOKS)
def test_hook_page_has_an_example_of_each(name: str) -> None:
    """A Python block in the hook's section implements it; ``tests/test_docs.py`` executes the page."""
    text = (ROOT / HOOK_PAGE).read_text(encoding="utf-8")
    start = text.index(f"\n## `{name}`")
    end = text.find("\n## ", start + 1)
    lines = range(text.count("\n", 0, start), text.count("\n", 0, end if end != -1 else len(text)))
    examples = [block.code for block in blocks(HOOK_PAGE) if block.language == "python" and block.line in lines]
    assert any(f"@hookimpl\ndef {name}(" in code for code in examples)

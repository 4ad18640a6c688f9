"""Each promise in ``docs/security.md`` names the tests that prove it, and each named test exists."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

from documents import ROOT

from zcli_core.assembly import assemble
from zcli_core.cli.output import show
from zcli_core.plugins.host import PluginHost

PAGE = "docs/security.md"
PROMISES, LIMITS = "**They cannot:**", "**They can:**"
_NOTE = re.compile(r"\[\^([\w-]+)\]")


def _text() -> tuple[str, str]:
    """Return the page, and its list of tests."""
    text, _, tests = (ROOT / PAGE).read_text(encoding="utf-8").partition("\n## Tests\n")
    return text, tests


def _notes() -> dict[str, list[str]]:
    """Return the tests of each note."""
    found = re.findall(r"^\[\^([\w-]+)\]:\n((?:    `[^`]+`\n)+)", _text()[1] + "\n", re.MULTILINE)
    return {name: re.findall(r"`([^`]+)`", tests) for name, tests in found}


def _items(mark: str) -> list[str]:
    """Return the items of all lists below a mark."""
    found = []
    for part in _text()[0].split(f"{mark}\n\n")[1:]:
        items = re.split(r"\n(?!  )", part)
        found += [item for item in items[: next(i for i, item in enumerate(items) if item[:2] != "- ")] if item]
    return found


@functools.cache
def _tests(path: str) -> frozenset[str]:
    """Return the functions and methods of a file as in node ids, without importing the file."""
    if not path.startswith(("tests/", "zcli_core/testing/")) or not (ROOT / path).is_file():
        return frozenset()
    body = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    classes = [item for item in body if isinstance(item, ast.ClassDef)]
    methods = {f"{item.name}::{method}" for item in classes for method in _functions(item.body)}
    return frozenset(_functions(body) | methods)


def _functions(body: list[ast.stmt]) -> set[str]:
    return {item.name for item in body if isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef))}


def _exists(node: str) -> bool:
    path, _, name = node.partition("::")
    return name in _tests(path)


def test_security_page_proves_each_promise() -> None:
    """Each item that says what others cannot do has a note."""
    promises = _items(PROMISES)
    assert len(promises) > 40
    assert [promise for promise in promises if not _NOTE.search(promise)] == []
    assert len(_items(LIMITS)) > 15


def test_security_page_notes_are_defined_and_used() -> None:
    """Each note is defined and used, and the definitions are in the order of the page."""
    assert list(_notes()) == list(dict.fromkeys(_NOTE.findall(_text()[0])))


def test_security_page_names_tests_that_exist() -> None:
    """Each test that the page names exists."""
    nodes = {node for nodes in _notes().values() for node in nodes}
    assert [node for node in nodes if not node.rpartition("::")[2].startswith("test_")] == []
    assert [node for node in nodes if not _exists(node)] == []


def test_security_page_defaults_are_those_declared(isolated: Path) -> None:
    """The defaults in the table of settings are those of the program."""
    config = assemble(PluginHost(), {}).config
    stated = re.findall(r"^\| `([\w.]+): ([^`]+)` \(default\)", _text()[0], re.MULTILINE)
    assert len(stated) >= 3
    assert [(key, show(config.get(key))) for key, _ in stated] == stated


def test_security_page_names_settings_that_exist(isolated: Path) -> None:
    """Each setting that the page names exists."""
    config = assemble(PluginHost(), {}).config
    sections = {key.rpartition(".")[0].partition(".")[0] for key in config.settings} - {""}
    named = re.findall(rf"`((?:{'|'.join(sorted(sections))})\.[a-z_.]+)", _text()[0])
    assert named
    assert set(named) <= set(config.settings)

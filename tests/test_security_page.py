"""``docs/security.md``: every promise names the tests that prove it, and every named test exists."""

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
    """The page, and its list of tests."""
    text, _, tests = (ROOT / PAGE).read_text(encoding="utf-8").partition("\n## Tests\n")
    return text, tests


def _notes() -> dict[str, list[str]]:
    """The tests of each note."""
    found = re.findall(r"^\[\^([\w-]+)\]:\n((?:    `[^`]+`\n)+)", _text()[1] + "\n", re.MULTILINE)
    return {name: re.findall(r"`([^`]+)`", tests) for name, tests in found}


def _items(mark: str) -> list[str]:
    """The points of all lists below a mark."""
    found = []
    for part in _text()[0].split(f"{mark}\n\n")[1:]:
        points = re.split(r"\n(?!  )", part)
        found += [point for point in points[: next(i for i, point in enumerate(points) if point[:2] != "- ")] if point]
    return found


@functools.cache
def _tests(path: str) -> frozenset[str]:
    """The functions and methods of a file, as node ids have them. Nothing is imported."""
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
    """A point that says what others cannot do ends with a note or holds one for each part."""
    promises = _items(PROMISES)
    assert len(promises) > 40
    assert [promise for promise in promises if not _NOTE.search(promise)] == []
    assert len(_items(LIMITS)) > 15


def test_security_page_notes_are_defined_and_used() -> None:
    """In the order of the page."""
    assert list(_notes()) == list(dict.fromkeys(_NOTE.findall(_text()[0])))


def test_security_page_names_tests_that_exist() -> None:
    """Whoever renames a test renames it there."""
    nodes = {node for nodes in _notes().values() for node in nodes}
    assert [node for node in nodes if not node.rpartition("::")[2].startswith("test_")] == []
    assert [node for node in nodes if not _exists(node)] == []


def test_security_page_defaults_are_those_declared(isolated: Path) -> None:
    """In the table of settings."""
    config = assemble(PluginHost(), {}).config
    stated = re.findall(r"^\| `([\w.]+): ([^`]+)` \(default\)", _text()[0], re.MULTILINE)
    assert len(stated) >= 3
    assert [(key, show(config.get(key))) for key, _ in stated] == stated


def test_security_page_names_settings_that_exist(isolated: Path) -> None:
    """A setting in code quotes is one, with its section."""
    config = assemble(PluginHost(), {}).config
    sections = {key.rpartition(".")[0].partition(".")[0] for key in config.settings} - {""}
    named = re.findall(rf"`((?:{'|'.join(sorted(sections))})\.[a-z_.]+)", _text()[0])
    assert named
    assert set(named) <= set(config.settings)

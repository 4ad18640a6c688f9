"""The page of settings and hooks is what the code declares, and ``zcli reference`` adds what is installed."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from installations import Site, clean_environment

from zcli_core.assembly import core_settings
from zcli_core.cli import reference_source as source
from zcli_core.cli.reference_page import CONTRACTS
from zcli_core.plugins import hookspecs
from zcli_core.plugins.records import KINDS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "settings-and-hooks.md"
COMMAND = "python -m zCLI reference --own > docs/reference/settings-and-hooks.md"

pytestmark = pytest.mark.usefixtures("isolated")


def _reference(*arguments: str, **variables: str) -> str:
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-m", "zCLI", "reference", *arguments],
        env={**clean_environment(os.environ, Path.cwd()), "PYTHONPATH": path, "PYTHONUTF8": "1", **variables},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_committed_page_is_what_the_code_declares() -> None:
    """Whoever changes a declaration renews it."""
    if _reference("--own") != PAGE.read_text(encoding="utf-8"):
        pytest.fail(f"{PAGE.name} is not what the code declares; renew it: {COMMAND}")


def test_the_committed_page_does_not_depend_on_whose_machine_it_is_made_on(site: Site) -> None:
    """Other plugins, settings and blocked plugins change what is shown for them, and not the page."""
    site.plugin(
        "zcli_mine",
        '''
        print("hello from an import")
        from zcli_core.config.settings import Section, setting

        class Mine(Section, name="mine"):
            """Settings <of> mine."""
            keys: tuple[str, ...] = setting(("a", "b"), "keys | locks of *all* doors", secret=True)

        @hookimpl
        def zcli_settings(): return [Mine]

        @hookimpl
        def zcli_websocket_transports():
            return [Provider("mine", "of a <test>", print, needs=("nothing_that_there_is",), install="mine[it]")]
        ''',
    )
    variables = {"ZCLI_PLUGINS_DISABLE": "zcli_redis", "WEBSOCKET_PORT": "9000"}
    assert _reference("--own", **variables) == PAGE.read_text(encoding="utf-8")
    here = _reference(**variables)
    assert "### `mine`\n\nSettings &lt;of> mine. Declared by `zcli_mine`." in here
    assert (
        r"| `mine.keys` | keys \| locks of \*all\* doors (secret) | a list of texts (in a variable: a comma list or "
        "JSON) | `a, b` | `ZCLI_MINE_KEYS` |" in here
    )
    assert "| `mine` | of a &lt;test> | `zcli_mine` | `pip install 'mine[it]'` |" in here
    assert "services.redis" not in here
    assert here.startswith("# Settings and hooks\n")


def test_every_hook_setting_and_contract_is_on_the_page() -> None:
    """With each argument of a hook, and each public class of a contract."""
    page = PAGE.read_text(encoding="utf-8")
    for name in (name for name in vars(hookspecs) if name.startswith("zcli_")):
        section = page.partition(f"#### `{name}(")[2].partition("\n#### ")[0]
        spec = getattr(hookspecs, name)
        assert section, name
        for argument in spec.__code__.co_varnames[: spec.__code__.co_argcount]:
            assert f"\n- `{argument}`: " in section, (name, argument)
    for key in core_settings():
        assert f"\n| `{key}` | " in page
    for name in CONTRACTS:
        assert f"\n### `{name}`\n" in page
        found = importlib.import_module(name)
        for attribute, value in vars(found).items():
            if isinstance(value, type) and value.__module__ == name and not attribute.startswith("_"):
                assert f"\n#### `class {attribute}" in page, (name, attribute)


@pytest.mark.parametrize("name", [name for name in vars(hookspecs) if name.startswith("zcli_")])
def test_every_hook_has_a_phase(name: str) -> None:
    """It is declared with it."""
    assert getattr(hookspecs, name).phase in ("declaring", "running")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.label)
def test_the_contract_of_each_kind_is_where_the_page_says(kind: object) -> None:
    """A name that leads nowhere would be worse than none."""
    module, _, name = kind.contract.rpartition(".")  # type: ignore[attr-defined]
    assert isinstance(getattr(importlib.import_module(module), name), type)


def test_what_is_declared_is_read_without_importing_it(site: Site) -> None:
    """Signatures as they are written, comments that document, Markdown that means nothing by accident."""
    site.module(
        "declared",
        '''
        """A module
        of :class:`~some.where.Thing` and :func:`other.thing`, ``<b>`` & <i>.

        More.
        """
        raise AssertionError("imported")
        #: A list:
        #:
        #: - ``a``: one
        #:   and a half
        #: - b
        Listed = dict[
            str, int
        ]
        hidden = 1
        #: Hidden too.
        _hidden = 1
        class _Hidden: ...
        class Shape(Base, Generic[T], name="x"):
            """What it is. And more."""
            #: How high,
            #: in metres.
            height: float = 1.0
            width: float
            plain = 1
            _hidden: int = 2
            def __init__(self, height: float, /, *rest: int, width=2, **options: Any) -> None: ...
            @property
            def area(self) -> float:
                """Its area. In m²."""
            async def move(self, *, by: tuple[int, int] = (0, 0)) -> None:
                """Move it."""
            def _hide(self): ...
        class Colour(enum.Enum):
            RED = 1
            #: Like grass.
            GREEN = 2
        def make(a, b=1): ...
        ''',
    )
    found = source.read_module("declared")
    assert found.text == "A module of `Thing` and `other.thing`, `<b>` & &lt;i>."
    listed, shape, colour, make = found.contents
    assert listed == ("Listed", "Listed = dict[ str, int ]", "A list:\n\n- `a`: one and a half\n- b", [])
    assert shape[:3] == ("Shape", 'class Shape(Base, Generic[T], name="x")', "What it is. And more.")
    assert shape.members == [
        ("height: float = 1.0", "How high, in metres."),
        ("width: float", ""),
        ("Shape(height: float, *rest: int, width=2, **options: Any)", ""),
        ("area: float", "Its area."),
        ("async move(*, by: tuple[int, int] = (0, 0)) -> None", "Move it."),
    ]
    assert colour.members == [("RED = 1", ""), ("GREEN = 2", "Like grass.")]
    assert make == ("make", "make(a, b=1)", "", [])
    with pytest.raises(ImportError, match="the source of itertools cannot be read"):
        source.read_module("itertools")

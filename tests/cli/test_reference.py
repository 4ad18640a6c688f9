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


def test_reference_file_is_current() -> None:
    """The committed page is what the code declares."""
    if _reference("--own") != PAGE.read_text(encoding="utf-8"):
        pytest.fail(f"{PAGE.name} is not what the code declares; renew it: {COMMAND}")


def test_reference_own_ignores_the_machine(site: Site) -> None:
    """Other plugins, settings and disabled plugins change ``zcli reference``, but not ``zcli reference --own``."""
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
        r"| `mine.keys` | keys \| locks of \*all\* doors (secret) | a list of strings (in a variable: separated by "
        "commas, or JSON) | `a, b` | `ZCLI_MINE_KEYS` |" in here
    )
    assert "| `mine` | of a &lt;test> | `zcli_mine` | `pip install 'mine[it]'` |" in here
    assert "services.redis.port" not in here
    assert here.startswith("# Settings and hooks\n")


def test_reference_has_every_hook_and_setting() -> None:
    """The page lists each hook with each of its arguments, and each setting."""
    page = PAGE.read_text(encoding="utf-8")
    for name in (name for name in vars(hookspecs) if name.startswith("zcli_")):
        section = page.partition(f"#### `{name}(")[2].partition("\n#### ")[0]
        spec = getattr(hookspecs, name)
        assert section, name
        for argument in spec.__code__.co_varnames[: spec.__code__.co_argcount]:
            assert f"\n- `{argument}`: " in section, (name, argument)
        if spec.__annotations__["return"] != "None":
            assert "\n- returns: " in section, name
    for key in core_settings():
        assert f"\n| `{key}` | " in page


@pytest.mark.parametrize("name", [name for name in vars(hookspecs) if name.startswith("zcli_")])
def test_hook_has_a_phase(name: str) -> None:
    """The phase is declaring or running."""
    assert getattr(hookspecs, name).phase in ("declaring", "running", "asking")


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.label)
def test_contract_of_a_kind_can_be_imported(kind: object) -> None:
    """The contract that the page names for a kind of provider exists."""
    module, _, name = kind.contract.rpartition(".")  # type: ignore[attr-defined]
    assert isinstance(getattr(importlib.import_module(module), name), type)

"""``zcli_core.testing`` as a plugin author meets it: one place for all names, and none of it in a running program."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import zcli_core.testing
from zcli_core.testing.contract import Contract


@pytest.mark.parametrize("name", zcli_core.testing.__all__)
def test_every_name_is_there(name: str) -> None:
    """And is what type checkers are told it is."""
    found = getattr(zcli_core.testing, name)
    source = ast.parse(Path(str(zcli_core.testing.__file__)).read_text(encoding="utf-8"))
    told = {
        alias.name: node.module
        for node in ast.walk(source)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    home = sys.modules[told[name]]
    assert getattr(home, name) is found
    assert name in dir(zcli_core.testing)


def test_each_suite_has_one_shape() -> None:
    """A class of tests, each with a sentence that says what it is for."""
    suites = [getattr(zcli_core.testing, name) for name in zcli_core.testing.__all__ if name.endswith("Contract")]
    assert len(suites) == 5
    for suite in suites:
        tests = {name: getattr(suite, name) for name in dir(suite) if name.startswith("test_")}
        assert len(tests) > 8, suite
        assert not [f"{suite.__name__}.{name}" for name, test in tests.items() if not (test.__doc__ or "").strip()]
        assert issubclass(suite, Contract)


def test_a_name_that_is_none_is_an_attribute_error() -> None:
    """As of any module."""
    with pytest.raises(AttributeError, match="has no attribute 'NothingContract'"):
        _ = zcli_core.testing.NothingContract


def test_one_suite_does_not_import_the_others() -> None:
    """The author of a layer pays for no transport."""
    code = (
        "import sys; from zcli_core.testing import ConfigLayerContract; "
        "print(sorted(name for name in sys.modules if name.startswith('zcli_core.testing.')))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert printed.stdout.strip() == "['zcli_core.testing.contract', 'zcli_core.testing.layers']"


def test_zcli_runs_where_pytest_is_not_installed() -> None:
    """Nothing but this package imports it."""
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "from zCLI import zCLI\n"
        "with zCLI({'deployment': 'Testing', 'logger': 'PROD'}) as z: z.comm.service_status()\n"
        "import zcli_core.cli.main\n"
        "print([name for name in sys.modules if name.startswith('zcli_core.testing')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"

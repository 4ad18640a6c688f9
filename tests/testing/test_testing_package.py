"""``zcli_core.testing`` for plugin authors: all names in one place, and nothing of it in a running program."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import zcli_core.testing
from zcli_core.testing.contract import Contract


@pytest.mark.parametrize("name", zcli_core.testing.__all__)
def test_testing_exports_every_name(name: str) -> None:
    """Each name has the type that type checkers see."""
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


def test_suites_are_classes_with_docstrings() -> None:
    """Each suite is a class of tests, and each test has a docstring."""
    suites = [getattr(zcli_core.testing, name) for name in zcli_core.testing.__all__ if name.endswith("Contract")]
    assert len(suites) == 7
    for suite in suites:
        tests = {name: getattr(suite, name) for name in dir(suite) if name.startswith("test_")}
        assert len(tests) > 6, suite
        assert not [f"{suite.__name__}.{name}" for name, test in tests.items() if not (test.__doc__ or "").strip()]
        assert issubclass(suite, Contract)


def test_testing_unknown_name_raises_attributeerror() -> None:
    """It behaves like any module."""
    with pytest.raises(AttributeError, match="has no attribute 'NothingContract'"):
        _ = zcli_core.testing.NothingContract


def test_suite_does_not_import_the_others() -> None:
    """The author of a configuration layer loads no transport."""
    code = (
        "import sys; from zcli_core.testing import ConfigLayerContract; "
        "print(sorted(name for name in sys.modules if name.startswith('zcli_core.testing.')))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert printed.stdout.strip() == "['zcli_core.testing.contract', 'zcli_core.testing.layers']"


def test_zcli_runs_without_pytest() -> None:
    """Only this package imports pytest."""
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "from zCLI import zCLI\n"
        "with zCLI({'deployment': 'Testing', 'logger': 'PROD'}) as z: z.comm.service_status()\n"
        "import zcli_core.cli.main\n"
        "print([name for name in sys.modules if name.startswith('zcli_core.testing')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"

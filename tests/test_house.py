"""The layout of the repository: what stands at the top, what is in the wheel, and what must not be tracked."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from needs import usual_ports

ROOT = Path(__file__).resolve().parent.parent


def _tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    return listed.stdout.splitlines()


def test_the_top_level_is_the_agreed_one() -> None:
    """No folder or file stands at the top without a reason in CONTRIBUTING or the decision records."""
    agreed = {"zCLI", "zcli_core", "plugins", "Demos", "tests", "pyproject.toml", "README.md", "CONTRIBUTING.md"}
    agreed |= {"CHANGELOG.md", "LICENSE", "docs", "mkdocs.yml", ".ci", ".github", ".gitignore"}
    assert {name.partition("/")[0] for name in _tracked()} <= agreed


@usual_ports
def test_xdist_group_keeps_tests_together(request: pytest.FixtureRequest) -> None:
    """pytest-xdist knows the group of this test; without that, tests of the usual ports would run side by side."""
    if hasattr(request.config, "workerinput"):
        assert request.node.nodeid.endswith("@usual_ports")


def test_every_package_is_typed_and_in_the_wheel() -> None:
    """Each package has a py.typed, and pyproject.toml knows each plugin: wheel, types and import contracts."""
    project = (ROOT / "pyproject.toml").read_text()
    for package in [ROOT / "zCLI", ROOT / "zcli_core", *(ROOT / "plugins").glob("zcli_*")]:
        assert (package / "py.typed").exists(), package.name
        mentions = len(re.findall(rf'"(?:plugins/)?{package.name}"', project))
        assert mentions >= 3, f"{package.name} is missing from the wheel, mypy or import-linter in pyproject.toml"


def test_no_secret_or_certificate_is_tracked() -> None:
    """Keys, certificates and .zEnv files stay out of version control, but for the demos' published token."""
    leaked = [name for name in _tracked() if name.endswith((".pem", ".key", ".cert", ".crt"))]
    leaked += [name for name in _tracked() if name.endswith(".zEnv") and not name.startswith("Demos/")]
    assert leaked == []

"""The layout of the repository: its top level, its packages, and files that version control must not track."""

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
        pytest.skip("not a git checkout")
    return listed.stdout.splitlines()


def test_repository_top_level_is_the_agreed_one() -> None:
    """Each file and folder at the top is one that CONTRIBUTING describes."""
    agreed = {"zCLI", "zcli_core", "plugins", "Demos", "tests", "pyproject.toml", "README.md", "CONTRIBUTING.md"}
    agreed |= {"CHANGELOG.md", "LICENSE", "docs", "mkdocs.yml", ".ci", ".github", ".gitignore"}
    assert {name.partition("/")[0] for name in _tracked()} <= agreed


@usual_ports
def test_xdist_group_keeps_tests_together(request: pytest.FixtureRequest) -> None:
    """pytest-xdist knows the group of this test. Otherwise, tests of the usual ports would run at the same time."""
    if hasattr(request.config, "workerinput"):
        assert request.node.nodeid.endswith("@usual_ports")


def test_package_is_typed_and_in_the_wheel() -> None:
    """Each package has a py.typed, and pyproject.toml lists it for the wheel, for mypy and for import-linter."""
    project = (ROOT / "pyproject.toml").read_text()
    for package in [ROOT / "zCLI", ROOT / "zcli_core", *(ROOT / "plugins").glob("zcli_*")]:
        assert (package / "py.typed").exists(), package.name
        mentions = len(re.findall(rf'"(?:plugins/)?{package.name}"', project))
        assert mentions >= 3, f"{package.name} is missing from the wheel, mypy or import-linter in pyproject.toml"


def test_repository_tracks_no_secret() -> None:
    """Keys, certificates and .zEnv files are not tracked, except the .zEnv files of the demos."""
    leaked = [name for name in _tracked() if name.endswith((".pem", ".key", ".cert", ".crt"))]
    leaked += [name for name in _tracked() if name.endswith(".zEnv") and not name.startswith("Demos/")]
    assert leaked == []

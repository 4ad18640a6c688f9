"""A fresh environment with zCLI and the distributions of strangers, all installed from wheels."""

from __future__ import annotations

from pathlib import Path

import pytest
from distributions import PROJECTS, WORKING, InstalledBeside, wheel_of
from fresh_environment import ROOT, FreshEnvironment, build_wheels


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel of zCLI and those of all downstream projects."""
    folder = tmp_path_factory.mktemp("wheels")
    build_wheels(folder, ROOT, *sorted(PROJECTS.iterdir()))
    return folder


@pytest.fixture(scope="session")
def core(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> FreshEnvironment:
    """A fresh environment with zCLI alone."""
    environment = FreshEnvironment(tmp_path_factory.mktemp("core") / "venv")
    environment.install(wheel_of(wheels, "zcli-core"))
    return environment


@pytest.fixture(scope="session")
def downstream(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> FreshEnvironment:
    """A fresh environment with zCLI and the downstream plugins that work."""
    environment = FreshEnvironment(tmp_path_factory.mktemp("downstream") / "venv")
    environment.install(
        f"{wheel_of(wheels, 'zcli-core')}", "pytest", *(wheel_of(wheels, project) for project in WORKING)
    )
    return environment


@pytest.fixture
def installed_beside(wheels: Path, tmp_path: Path) -> InstalledBeside:
    """Installs distributions into a folder, to be put on a fresh environment's path."""
    return InstalledBeside(wheels, tmp_path / "beside")

"""A plugin of each kind as ``zcli new plugin`` writes it, built and installed in one fresh environment."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import pytest
from fresh_environment import ROOT, FreshEnvironment, build_wheels
from public_python import public_interpreter
from scaffolded import Project
from service_servers import public_folder

from zcli_core.cli.scaffold import KINDS


@pytest.fixture(scope="session")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FreshEnvironment]:
    """A fresh environment with zCLI from its wheel, and what an author needs.

    Every user can run its programs, because root's servers run as another account.
    """
    wheels = tmp_path_factory.mktemp("wheels")
    build_wheels(wheels, ROOT)
    with public_folder() as folder:
        environment = FreshEnvironment(folder / "venv", public_interpreter())
        environment.install(*wheels.glob("*.whl"), "pytest", "build", "hatchling")
        yield environment


@pytest.fixture(scope="session")
def projects(fresh: FreshEnvironment, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Project]:
    """A project of each kind: written, built to an sdist and a wheel, and installed from the wheel."""
    folder = tmp_path_factory.mktemp("projects")
    made = {}
    for kind in KINDS:
        name = f"my-{kind}"
        fresh.run("-m", "zCLI", "new", "plugin", name, "--kind", kind, "--into", folder, folder=folder)
        made[kind] = Project(kind, folder / f"zcli-{name}")
        fresh.run("-m", "build", "--no-isolation", folder=made[kind].folder)
    fresh.install(*folder.glob("*/dist/*.whl"))
    return made


@pytest.fixture(scope="session")
def own_tests(
    fresh: FreshEnvironment, projects: Mapping[str, Project]
) -> Mapping[str, subprocess.CompletedProcess[str]]:
    """How the tests that each project came with went. They wait a lot, so they run side by side."""

    def run(project: Project) -> subprocess.CompletedProcess[str]:
        # Not as ``python -m pytest``, which would import what stands in the folder instead of what is installed.
        return fresh.run(fresh.program("pytest"), "-q", "-ra", folder=project.folder, status=None)

    with ThreadPoolExecutor(len(projects)) as pool:
        return dict(zip(projects, pool.map(run, projects.values()), strict=True))

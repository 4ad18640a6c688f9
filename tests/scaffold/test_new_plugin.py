"""``zcli new plugin`` writes projects that can be built, installed, tested and used without a change."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fresh_environment import ROOT, FreshEnvironment
from scaffolded import Project
from service_servers import public_folder

from zcli_core import __version__
from zcli_core.cli.scaffold import KINDS

pytestmark = pytest.mark.slow

SCRIPTS = Path(__file__).parent / "scripts"

each_kind = pytest.mark.parametrize("kind", list(KINDS))


@each_kind
def test_new_plugin_passes_its_tests(kind: str, own_tests: Mapping[str, subprocess.CompletedProcess[str]]) -> None:
    """The contract suite and the other tests pass with the installed plugin, and none is skipped."""
    done = own_tests[kind]
    assert done.returncode == 0, done.stdout + done.stderr
    summary = done.stdout.strip().splitlines()[-1]
    passed = re.search(r"(\d+) passed", summary)
    assert passed, summary
    assert int(passed[1]) > 10
    assert "warning" not in summary, done.stdout


@each_kind
def test_new_plugin_sdist_and_wheel_are_complete(kind: str, projects: Mapping[str, Project]) -> None:
    """The wheel holds only the typed package; the sdist also holds the tests."""
    package = f"zcli_{projects[kind].name}"
    (wheel,) = projects[kind].folder.glob("dist/*.whl")
    (sdist,) = projects[kind].folder.glob("dist/*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if ".dist-info/" not in name]
        metadata = archive.read(next(name for name in archive.namelist() if name.endswith("/METADATA"))).decode()
    assert {name.partition("/")[0] for name in names} == {package}
    assert {f"{package}/__init__.py", f"{package}/py.typed"} <= set(names)
    assert f"Requires-Dist: zcli-core>={__version__}\n" in metadata
    assert "Provides-Extra: test\n" in metadata
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert {"tests/test_contract.py", "README.md", ".github/workflows/tests.yml"} <= packed


#: By kind: what chooses the plugin, and what its script (``scripts/use_<kind>.py``) prints.
USES: Mapping[str, tuple[Mapping[str, str], list[str]]] = {
    "service": ({}, ["started: True", "None", "MY_SERVICE 1.0", "stopped: True", "running: False"]),
    "http": ({"ZCLI_HTTP_TRANSPORT": "my_http"}, ["None - refused", "None - unreachable", "True"]),
    "websocket": ({"WEBSOCKET_TRANSPORT": "my_websocket"}, ["hello", "1008"]),
    "auth": (
        {
            "WEBSOCKET_REQUIRE_AUTH": "true",
            "WEBSOCKET_AUTH": "my_auth",
            "ZCLI_MY_AUTH_KEYS": "alice=k-alice,bob=k-bob",
        },
        ["you are alice 1000", "1008"],
    ),
    "backplane": ({"WEBSOCKET_BACKPLANE": "my_backplane"}, ["hello", "1 None", "from a script"]),
    "subsystem": (
        {},
        [
            "True True",
            "MySubsystemScheduler",
            "a zCLI object has no attribute 'my_subsytem'; did you mean 'my_subsystem'?",
        ],
    ),
    "layer": ({}, ["3.0 my_layer"]),
}


@each_kind
def test_new_plugin_is_listed(kind: str, fresh: FreshEnvironment, projects: Mapping[str, Project]) -> None:
    """It is active if it is selected or needs no selection, and otherwise available."""
    project = projects[kind]

    def listed(variables: Mapping[str, str]) -> dict[str, Any]:
        done = fresh.run("-m", "zCLI", "plugins", "--json", folder=project.folder.parent, variables=variables)
        found: dict[str, Any] = {item["name"]: item for item in json.loads(done.stdout)}[f"zcli_{project.name}"]
        return found

    chosen_by, _ = USES[kind]
    plugin = listed(chosen_by)
    assert (plugin["state"], plugin["cause"]) == ("active", None)
    assert (plugin["distribution"], plugin["version"]) == (project.distribution, "0.1.0")
    assert [item["name"] for item in plugin["provides"]] == ([] if kind == "layer" else [project.name])
    if chosen_by:
        assert listed({})["state"] == "available"


@each_kind
def test_new_plugin_is_used_by_a_script(
    kind: str, fresh: FreshEnvironment, projects: Mapping[str, Project], tmp_path: Path
) -> None:
    """A setting selects it, if its kind needs a selection."""
    variables, printed = USES[kind]
    (tmp_path / "my_layer.json").write_text('{"http": {"timeout": 3}}')
    with public_folder() as services:  # root's servers run as another account, which has to get there
        variables = {"ZCLI_SERVICES_FOLDER": str(services), **variables}
        done = fresh.run(SCRIPTS / f"use_{kind}.py", folder=tmp_path, variables=variables)
    assert done.stdout.splitlines() == printed, done.stderr


@each_kind
def test_new_plugin_is_typed(
    kind: str, projects: Mapping[str, Project], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """mypy --strict finds no error in the package and its tests."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "mypy",
            "--strict",
            "--cache-dir",
            str(_cache(tmp_path_factory)),
            f"zcli_my_{kind}",
            "tests",
        ],
        cwd=projects[kind].folder,
        env={**os.environ, "MYPYPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins")])},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _cache(factory: pytest.TempPathFactory) -> Path:
    """One cache for all kinds: most of what is checked is zCLI."""
    return factory.getbasetemp() / "mypy-cache"

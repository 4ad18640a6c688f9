"""The wheel and the sdist are complete: what they hold works in a fresh environment, from another folder."""

from __future__ import annotations

import json
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from fresh_environment import ROOT, FreshEnvironment, run

pytestmark = pytest.mark.slow

SCRIPT = """
import json
from zCLI import zCLI
z = zCLI({"title": "elsewhere", "logger_path": "logs", "deployment": "Testing"})
port = z.comm.find_free_port()
print(json.dumps({
    "plugins": {name: record.state for name, record in z.plugins.records.items()},
    "free": z.comm.check_port(port),
    "nobody": z.comm.http_get(f"http://127.0.0.1:{port}/"),
    "kind": z.comm.http.last_failure.kind,
    "core": __import__("zcli_core").__file__,
}))
"""


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel; the wheel is made from the sdist, so a gap in either shows."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
    return folder


def test_sdist_holds_the_repository(built: Path) -> None:
    """Sources, plugins, demos, tests and documents are all in the sdist."""
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for wanted in ("zCLI/__init__.py", "zcli_core/py.typed", "plugins/zcli_layers/__init__.py", "Demos/tour.py"):
        assert wanted in names
    for wanted in (
        "tests/test_packaging.py",
        "mkdocs.yml",
        "docs/index.md",
        "README.md",
        "CONTRIBUTING.md",
        "CHANGELOG.md",
        "LICENSE",
    ):
        assert wanted in names


def test_wheel_holds_packages_only(built: Path) -> None:
    """The wheel has the packages at its top, typed, and neither tests nor demos."""
    with zipfile.ZipFile(next(built.glob("*.whl"))) as archive:
        names = archive.namelist()
    tops = {name.partition("/")[0] for name in names if ".dist-info" not in name}
    plugins = {folder.name for folder in (ROOT / "plugins").iterdir() if (folder / "__init__.py").exists()}
    assert tops == {"zCLI", "zcli_core"} | plugins
    assert {f"{top}/py.typed" for top in tops} <= set(names)


def test_wheel_installed_runs_a_script(built: Path, tmp_path: Path) -> None:
    """Installed in a fresh environment, every builtin plugin is found by its entry point and works."""
    environment = FreshEnvironment(tmp_path / "venv")
    environment.install(next(built.glob("*.whl")))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "script.py").write_text(SCRIPT)
    said = json.loads(environment.run("script.py", folder=elsewhere).stdout.splitlines()[-1])
    assert set(said["plugins"].values()) == {"loaded"}
    assert {"zcli_layers", "zcli_urllib3"} <= set(said["plugins"])
    assert (said["free"], said["nobody"], said["kind"]) == (True, None, "refused")
    assert str(environment.folder) in said["core"]
    assert (elsewhere / "logs" / "elsewhere.log").exists()
    assert "zcli_urllib3" in environment.run("-m", "zCLI", "plugins", folder=elsewhere).stdout

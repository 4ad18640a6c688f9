"""Programs in one file: frozen by PyInstaller, or a zip file that Python runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from fresh_environment import ROOT, FreshEnvironment, build_wheels, outside_environment, run
from needs import missing

from zcli_core.app import zCLI

SCRIPT = """
from zCLI import zCLI
z = zCLI({"deployment": "Production", "logger_path": "logs", "http": {"timeout": 3},
          "console": {"enabled": True}})
print(*sorted(z.plugins.records))
print(z.config.http.timeout, z.config.http.retries, z.config.deployment, z.comm.service_status("redis")["service"])
with z.comm.websocket.start_background(port=0) as server:
    print(z.comm.http_get(f"http://127.0.0.1:{server.port}/health").status_code)
    console = z.comm.http_get(f"http://127.0.0.1:{server.port}/", headers={"Accept": "text/html"})
    print(console.status_code, "WebSocket console" in console.text)
"""


@pytest.mark.slow
def test_frozen_program_has_its_plugins(tmp_path: Path) -> None:
    """PyInstaller finds the hook in the wheel; the program has the plugins, and reads the .zEnv beside it."""
    environment = FreshEnvironment(tmp_path / "venv")
    build_wheels(tmp_path, ROOT)
    environment.install(next(tmp_path.glob("*.whl")))
    installed = run(environment.python, "-m", "pip", "install", "-q", "pyinstaller", folder=tmp_path, status=None)
    if installed.returncode != 0:
        missing("pip cannot install PyInstaller here")
    (tmp_path / "program.py").write_text(SCRIPT)
    run(environment.program("pyinstaller"), "-y", "--onefile", "program.py", folder=tmp_path)
    (tmp_path / "dist" / ".zEnv").write_text("ZCLI_HTTP_RETRIES=2\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    records, *rest = run(tmp_path / "dist" / "program", folder=elsewhere).stdout.splitlines()
    plugins = {folder.name for folder in (ROOT / "plugins").iterdir() if (folder / "__init__.py").exists()}
    assert set(records.split()) == plugins
    assert rest == ["3.0 2 Production redis", "200", "200 True"]
    assert (elsewhere / "logs" / "program.log").exists()


def test_zipped_program_reads_the_zenv_beside_it(tmp_path: Path) -> None:
    """The zip file is the script: its folder is looked into, and its name is the title."""
    import zipapp

    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "__main__.py").write_text(
        "from zCLI import zCLI\nz = zCLI({'deployment': 'Testing', 'logger': 'PROD', 'logger_path': 'logs'})\n"
        "print(z.config.http.retries, z)\n"
    )
    program = tmp_path / "programs" / "my-program.pyz"
    program.parent.mkdir()
    zipapp.create_archive(tmp_path / "code", program)
    (program.parent / ".zEnv").write_text("ZCLI_HTTP_RETRIES=2\n")
    done = subprocess.run(
        [sys.executable, program], cwd=tmp_path, env=outside_environment(), capture_output=True, text=True, check=False
    )
    assert done.stdout == "2 <zCLI 'my-program', Testing>\n", done.stderr


def test_frozen_program_is_the_executable(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it unpacks for itself, a folder that is deleted, is not where a user keeps a .zEnv."""
    program = isolated.parent / "programs" / "my-program"
    program.parent.mkdir()
    (program.parent / ".zEnv").write_text("ZCLI_HTTP_RETRIES=2\n")
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", str(program))
    with zCLI({"deployment": "Testing", "logger": "PROD", "logger_path": "logs"}) as z:
        assert z.config.http.retries == 2
    assert (isolated / "logs" / "my-program.log").exists()

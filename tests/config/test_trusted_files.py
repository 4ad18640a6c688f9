"""Files with settings are read only if a trusted user owns them, or if a user has named them."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from installations import clean_environment

from zcli_core.app import zCLI
from zcli_core.cli import doctor
from zcli_core.cli.main import make_command
from zcli_core.cli.session import load_plugins
from zcli_core.config.contract import LayerContext
from zcli_core.errors import ConfigError

pytestmark = pytest.mark.skipif(os.name != "posix", reason="files have no owners of this kind here")
as_root = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give files away")

Start = Callable[..., zCLI]
Write = Callable[[Any], Path]
STRANGER = 65534
OWNER = rf"belongs to .*uid {STRANGER}\)?"


def _give_away(*paths: Path) -> None:
    for path in paths:
        os.chown(path, STRANGER, STRANGER)


# --- files that are found ---------------------------------------------------------------------------------------


@as_root
@pytest.mark.parametrize("part", ["file", "folder"])
def test_zenv_of_a_stranger_stops_the_start(start: Start, zenv: Write, isolated: Path, part: str) -> None:
    """The error names the file, its owner, and what reads it all the same, which then works as printed."""
    file = zenv("WEBSOCKET_PORT=1\n")
    _give_away(file if part == "file" else isolated)
    subject = "it" if part == "file" else f"its folder {isolated}"
    with pytest.raises(ConfigError, match=rf"^{file} is not read, because {subject} {OWNER}; if you trust") as caught:
        start()
    remedy = f"ZCLI_ENV_FILE={file}"
    assert remedy in str(caught.value)
    os.environ.update([remedy.split("=")])
    assert start().config.websocket.port == 1


@pytest.mark.parametrize("name", [".zEnv", "machine"])
def test_file_that_every_user_may_write_stops_the_start(
    start: Start, zenv: Write, machine: Write, monkeypatch: pytest.MonkeyPatch, isolated: Path, name: str
) -> None:
    """The project's and the machine's, and nothing of them is in force; the owner's private group is trusted."""
    if name == ".zEnv":
        file = zenv("WEBSOCKET_PORT=1\nFOREIGN=1\n")
    else:
        file = machine("websocket: {port: 1}\n")
        monkeypatch.setenv("ZCLI_CONFIG_DIR", "../machine")
    file.chmod(0o666)
    match = (
        f"{file.name} is not read, because it .*, but every user may write it; to change that: chmod go-w .*{file.name}"
    )
    with pytest.raises(ConfigError, match=match):
        start()
    assert "FOREIGN" not in os.environ
    file.chmod(0o644)
    file.parent.chmod(0o777)
    match = f"its folder .*, but every user may write it; to change that: chmod go-w .*{file.parent.name}; if you trust"
    with pytest.raises(ConfigError, match=match):
        start()
    file.parent.chmod(0o755)
    assert start().config.websocket.port == 1


@as_root
def test_machine_file_of_another_user_stops_the_start(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """As with a sudo that keeps HOME; naming the folder reads it."""
    monkeypatch.delenv("ZCLI_CONFIG_DIR")
    file = Path.home() / ".config" / "zcli" / "zConfig.machine.yaml"
    file.parent.mkdir(parents=True)
    file.write_text("http: {timeout: 77}\n")
    _give_away(file, file.parent)
    with pytest.raises(ConfigError, match=rf"{OWNER}; if you trust it, name its folder: ZCLI_CONFIG_DIR={file.parent}"):
        start()
    monkeypatch.setenv("ZCLI_CONFIG_DIR", str(file.parent))
    assert start().config.http.timeout == 77.0


@as_root
def test_files_of_the_scripts_owner_are_read(start: Start, zenv: Write, isolated: Path) -> None:
    """A container runs as root in a mounted folder: who owns the script could change the script."""
    _give_away(zenv("WEBSOCKET_PORT=1\n"), isolated, isolated.parent / "scripts" / "my_script.py")
    assert start().config.websocket.port == 1


# --- relative paths ---------------------------------------------------------------------------------------------


@as_root
@pytest.mark.parametrize(
    "key",
    [
        "jwt.public_key_file", "jwt.jwks_file", "http.ca_file", "http.client_cert", "websocket.ssl_cert",
        "websocket.ssl_client_ca", "services.redis.ca_file", "env_file", "secrets_dir.folder",
    ],
)  # fmt: skip
def test_path_into_a_strangers_folder_stops_the_start(start: Start, isolated: Path, key: str) -> None:
    """Every path that is read; the file beside the script is taken first, and an absolute path as it is."""
    theirs, own = isolated / "x.pem", isolated.parent / "scripts" / "x.pem"
    for place in (theirs, own):
        place.mkdir() if key == "secrets_dir.folder" else place.write_text("")
    _give_away(isolated)
    loads_at_start = key.startswith("http.")
    if not loads_at_start:
        assert start({key: "x.pem"}).config.get(key) == own
        assert start({key: str(theirs)}).config.get(key) == theirs
    own.rmdir() if key == "secrets_dir.folder" else own.unlink()
    with pytest.raises(ConfigError) as caught:
        start({key: "x.pem"})
    assert f"{key}: 'x.pem' from zSpark is not read, because {isolated} belongs to " in str(caught.value)
    assert f"set {key} to an absolute path" in str(caught.value)


def test_path_through_an_open_folder_stops_the_start(start: Start, isolated: Path) -> None:
    """A user who may write a folder on the way may replace its content."""
    (isolated / "certs" / "inner").mkdir(parents=True)
    (isolated / "certs" / "inner" / "a.pem").touch()
    (isolated / "certs").chmod(0o777)
    with pytest.raises(ConfigError, match=rf"because {isolated / 'certs'} belongs to .*, but every user may write it"):
        start({"websocket.ssl_cert": "certs/inner/a.pem"})


def test_path_to_a_missing_file_is_in_a_trusted_folder(start: Start, isolated: Path) -> None:
    """Others could make the file after the configuration was read."""
    isolated.chmod(0o777)
    assert start({"jwt.jwks_file": "later.json"}).config.get("jwt.jwks_file").parent == isolated.parent / "scripts"
    (isolated.parent / "scripts").chmod(0o777)
    with pytest.raises(ConfigError, match=rf"because {isolated} belongs to"):
        start({"jwt.jwks_file": "later.json"})


def test_log_is_written_into_an_open_working_directory(start: Start, isolated: Path) -> None:
    """What is written is another matter: without a file that configures us, such a folder stops nothing."""
    isolated.chmod(0o777)
    assert start({"logger_path": "./logs"}).config.get("logger_path") == isolated / "logs"


# --- where there is no script -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["-c", "-m", "stdin"])
def test_python_without_script_reads_trusted_folder(tmp_path: Path, how: str) -> None:
    """``python -c``, ``python -m package`` and standard input, as cron and notebooks start them."""
    (tmp_path / ".zEnv").write_text("WEBSOCKET_PORT=1\n")
    (tmp_path / "a.pem").touch()
    code = (
        "from zCLI import zCLI\n"
        "z = zCLI({'logger': 'PROD', 'deployment': 'Testing', 'logger_path': '.', 'jwt.jwks_file': 'a.pem'})\n"
        "print(z.config.websocket.port, z.config.get('jwt.jwks_file'))\n"
    )
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text(code)
    arguments = {"-c": ["-c", code], "-m": ["-m", "package"], "stdin": ["-"]}[how]

    def run() -> str:
        environment = clean_environment(os.environ, tmp_path)
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, input=code, capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
        return done.stdout + done.stderr

    assert run() == f"1 {tmp_path / 'a.pem'}\n"
    if how == "-c":
        tmp_path.chmod(0o777)
        assert f"{tmp_path / '.zEnv'} is not read, because its folder" in run()


# --- commands ---------------------------------------------------------------------------------------------------


def test_http_command_in_strangers_folder_sends_nothing(
    zenv: Write, monkeypatch: pytest.MonkeyPatch, httpbin: str
) -> None:
    """No proxy and no secret of the environment; a file that was named has neither of both powers."""
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        proxy.settimeout(0)
        file = zenv(
            f"HTTP_PROXY=http://127.0.0.1:{proxy.getsockname()[1]}\n"
            "ZCLI_HTTP_USER_AGENT=ua ${AWS_SECRET_ACCESS_KEY}\nZCLI_HTTP_TIMEOUT=5\n"
        )
        file.chmod(0o666)
        refused = CliRunner().invoke(make_command(), ["http", f"{httpbin}/get"])
        assert refused.exit_code == 2
        assert f"{file} is not read" in refused.output
        monkeypatch.setenv("ZCLI_ENV_FILE", str(file))
        sent = CliRunner().invoke(make_command(), ["http", f"{httpbin}/user-agent"])
        assert sent.exit_code == 0
        assert '"ua ' in sent.output
        assert "hunter2" not in sent.output
        with pytest.raises(BlockingIOError):
            proxy.accept()


def test_commands_that_show_ignore_an_untrusted_file(zenv: Write) -> None:
    """``zcli config`` and ``zcli doctor`` report it and use nothing of it; what acts does not run."""
    file = zenv("ZCLI_HTTP_TIMEOUT=77\nFOREIGN=1\n")
    file.chmod(0o666)
    problem = f"{file} is not read, because it belongs to"
    config = CliRunner().invoke(make_command(), ["config", "http.timeout"])
    assert config.exit_code == 0
    assert f"{problem} " in config.output
    assert "\nhttp.timeout = 10.0\n" in config.output
    doctor = CliRunner().invoke(make_command(), ["doctor", "--json"])
    findings = json.loads(doctor.output)
    assert doctor.exit_code == 1
    assert any(each["state"] == "wrong" and each["detail"].startswith(problem) for each in findings)
    assert CliRunner().invoke(make_command(), ["services", "status"]).exit_code == 2
    assert "FOREIGN" not in os.environ


@pytest.fixture
def open_folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory that every user can enter, which ``tmp_path`` is not."""
    with tempfile.TemporaryDirectory() as folder:
        if not all(above.stat().st_mode & 0o001 for above in Path(folder).resolve().parents):
            pytest.skip("the folder of temporary files is private")
        Path(folder).chmod(0o755)
        monkeypatch.chdir(folder)
        monkeypatch.setenv("ZCLI_CONFIG_DIR", folder)
        yield Path(folder)


@pytest.mark.parametrize(
    ("name", "text", "secrets"),
    [
        (".zEnv", "WEBSOCKET_TOKEN=t\nSTRIPE_API_KEY=k\nWEBSOCKET_PORT=1\n", "WEBSOCKET_TOKEN, STRIPE_API_KEY"),
        ("zConfig.machine.yaml", "websocket: {tokens: {ann: t}}\n", "websocket.tokens.ann"),
        ("zConfig.machine.yaml", "deployments: {Testing: {jwt: {secret: x}}}\n", "deployments.Testing.jwt.secret"),
        ("secrets/websocket_token", "t", "WEBSOCKET_TOKEN"),
    ],
)
def test_doctor_names_secrets_that_every_user_can_read(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, secrets: str
) -> None:
    """Not after the command that it prints, and not without secrets."""
    monkeypatch.setattr(doctor, "_CHECKS", (("configuration", doctor._configuration),))
    file = open_folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    file.chmod(0o644)
    if name.startswith("secrets"):
        monkeypatch.setenv("ZCLI_SECRETS_DIR_FOLDER", str(file.parent))

    def warnings() -> list[str]:
        return [finding.detail for finding in doctor.examine(load_plugins()) if "can read" in finding.detail]

    command = f"chmod 600 {file}"
    assert warnings() == [f"every user of this machine can read the secrets in {file} ({secrets}): {command}"]
    subprocess.run(command.split(), check=True)
    assert warnings() == []
    file.chmod(0o644)
    file.write_text("" if name.startswith("secrets") else "#\n")
    assert warnings() == []


def test_doctor_names_files_of_others_that_are_read(
    zenv: Write, isolated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user has named them by an absolute path, and may have forgotten whose they are."""
    monkeypatch.setattr(doctor, "_CHECKS", (("configuration", doctor._configuration),))
    file, keys = zenv("A=1\n").rename(isolated / "open.env"), isolated / "keys"
    keys.mkdir(mode=0o755)
    (keys / "idp.pem").touch()
    monkeypatch.setenv("ZCLI_ENV_FILE", str(file))
    monkeypatch.setenv("ZCLI_JWT_PUBLIC_KEY_FILE", str(keys / "idp.pem"))
    for place, state in ((file, 0o644), (keys, 0o755)):
        assert not [each for each in doctor.examine(load_plugins()) if "although" in each.detail]
        place.chmod(0o777)
        found = [each.detail for each in doctor.examine(load_plugins()) if "although" in each.detail]
        named = file if place == file else keys / "idp.pem"
        assert len(found) == 1
        assert found[0].startswith(f"{named} is read because a setting names it, although {place} belongs to ")
        place.chmod(state)


def test_doctor_reads_a_pipe_once(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a script does: a second reader would wait for ever."""
    monkeypatch.setattr(doctor, "_CHECKS", (("configuration", doctor._configuration),))
    pipe = isolated / "env"
    os.mkfifo(pipe, 0o600)
    writer = threading.Thread(target=lambda: pipe.write_text("WEBSOCKET_PORT=9998\n"), daemon=True)
    writer.start()
    monkeypatch.setenv("ZCLI_ENV_FILE", str(pipe))
    session = load_plugins()
    assert session.config.websocket.port == 9998
    writer.join()
    monkeypatch.setattr(LayerContext, "read_file", lambda *_, **__: pytest.fail("the layers are read again"))
    assert [finding.state for finding in doctor.examine(session)] == ["ok"]

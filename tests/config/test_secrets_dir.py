"""The layer of secret files: what names mean, what is passed over, what is an error, and that nothing is shown."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from installations import clean_environment, needs_to_become_somebody_else

from zcli_core.app import zCLI
from zcli_core.errors import ConfigError

Start = Callable[..., zCLI]
Write = Callable[[Any], Path]
SECRET = "hunter2-Zx7"


@pytest.fixture
def folder(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of secrets that the environment names."""
    found = isolated.parent / "secrets"
    found.mkdir()
    monkeypatch.setenv("ZCLI_SECRETS_DIR_FOLDER", str(found))
    return found


def problems(start: Start, **zspark: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        start(zspark)
    return str(caught.value)


# --- names and values ---


@pytest.mark.parametrize(
    "name", ["WEBSOCKET_TOKEN", "websocket_token", "ZCLI_WEBSOCKET_TOKEN", "zcli_websocket_token", "websocket.token"]
)
def test_secret_file_of_a_variable_or_setting_is_read(start: Start, folder: Path, name: str) -> None:
    """Docker's secrets are often in lower case. The origin is the file."""
    (folder / name).write_text(f"{SECRET}\n")
    config = start().config
    assert config.websocket.token == SECRET
    found = config.explain("websocket.token")
    assert (found.layer, found.origin.split(" ")[0]) == ("secrets", str(folder / name))


def test_secret_file_named_as_other_variable_is_read(start: Start, folder: Path) -> None:
    """PGUSER and REDIS_URL, as in the environment."""
    (folder / "pguser").write_text("alice")
    (folder / "REDIS_URL").write_text(f"redis://bob:{SECRET}@127.0.0.1:6380/2")
    config = start().config
    assert config.services.postgresql.user == "alice"
    assert (config.services.redis.user, config.services.redis.port, config.services.redis.database) == ("bob", 6380, 2)


def test_secret_file_of_an_overlay_is_in_force(start: Start, folder: Path) -> None:
    """A name with dots is a path like any other."""
    (folder / "deployments.Production.http.timeout").write_text("3")
    assert start().config.http.timeout == 10.0
    assert start({"deployment": "Production"}).config.http.timeout == 3.0


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (SECRET, SECRET),
        (f"{SECRET}\n", SECRET),
        (f"{SECRET}\r\n", SECRET),
        (f"{SECRET}\n\n", f"{SECRET}\n"),
        (f" {SECRET} ", f" {SECRET} "),
        (f"\ufeff{SECRET}", SECRET),
        ("-----BEGIN-----\nabc\n-----END-----\n", "-----BEGIN-----\nabc\n-----END-----"),
        ("", None),
        ("\n", None),
    ],
)
def test_secret_file_final_newline_is_removed(start: Start, folder: Path, text: str, value: Any) -> None:
    """Nor is a byte order mark; everything else is. An empty file is "not set"."""
    (folder / "websocket.token").write_bytes(text.encode())
    assert start().config.websocket.token == value


def test_secrets_layer_is_between_environment_and_zenv(
    start: Start, folder: Path, zenv: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As its order says."""
    monkeypatch.setenv("WEBSOCKET_PORT", "1")
    (folder / "websocket_port").write_text("2")
    assert start().config.websocket.port == 2
    zenv("WEBSOCKET_PORT=3")
    found = start().config.explain("websocket.port")
    assert [found.layer, *(value.layer for value in found.shadowed)] == [".zEnv", "secrets", "environment", "defaults"]


# --- whose files they are ---


def test_secret_file_of_other_software_is_ignored(
    start: Start, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Readable for the script, in no environment, and worth no warning, text or not."""
    for name, text in {"stripe_key": "sk-1", "PGPASSWORD": SECRET, "tls.crt": "cert", "config.json": "{}"}.items():
        (folder / name).write_text(text)
    (folder / "keystore.p12").write_bytes(b"\x30\x82\0\xff")
    (folder / "dump").write_bytes(b"x" * 1_100_000)
    z = start({"logger": "INFO"})
    assert {name: z.config.env(name) for name in ("stripe_key", "PGPASSWORD", "tls.crt", "keystore.p12", "dump")} == {
        "stripe_key": "sk-1",
        "PGPASSWORD": SECRET,
        "tls.crt": "cert",
        "keystore.p12": None,
        "dump": None,
    }
    assert not {"stripe_key", "PGPASSWORD", "tls.crt"} & os.environ.keys()
    assert "WARNING" not in capfd.readouterr().err


def test_secret_file_misspelt_is_a_warning(start: Start, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """As a variable and as a key, with what was meant."""
    (folder / "zcli_websocket_tokn").write_text(SECRET)
    (folder / "websocket.prot").write_text(SECRET)
    start({"logger": "INFO"})
    said = capfd.readouterr().err
    assert "did you mean 'ZCLI_WEBSOCKET_TOKEN'?" in said
    assert "did you mean 'websocket.port'?" in said
    assert SECRET not in said


def test_secrets_dir_hidden_files_are_ignored(start: Start, folder: Path) -> None:
    """Also what only begins like ours."""
    (folder / ".websocket.port").write_text("1")
    (folder / "websocket.port").mkdir()
    (folder / "websocket.port" / "websocket.port").write_text("2")
    assert start().config.websocket.port == 8765


def test_secrets_dir_of_kubernetes_links_is_read(start: Start, folder: Path) -> None:
    """``token -> ..data/token``, ``..data -> ..2026_01_01``: a change is a new folder and one renamed link."""
    for name, token in (("..2026_01_01", "first"), ("..2026_01_02", "second")):
        (folder / name).mkdir()
        (folder / name / "websocket_token").write_text(token)
    (folder / "..data").symlink_to("..2026_01_01")
    (folder / "websocket_token").symlink_to("..data/websocket_token")
    z = start()
    assert z.config.websocket.token == "first"
    (folder / "..data_tmp").symlink_to("..2026_01_02")
    (folder / "..data_tmp").rename(folder / "..data")
    assert start().config.websocket.token == "second"
    assert z.config.websocket.token == "first"


def test_secrets_dir_two_files_of_one_name_are_an_error(start: Start, folder: Path) -> None:
    """Which of them counts is nobody's guess."""
    (folder / "WEBSOCKET_TOKEN").write_text(SECRET)
    (folder / "websocket_token").write_text(SECRET)
    if len(list(folder.iterdir())) == 1:
        pytest.skip("this file system does not tell upper case from lower")
    said = problems(start)
    assert f"{folder / 'websocket_token'} and {folder / 'WEBSOCKET_TOKEN'} both set WEBSOCKET_TOKEN" in said


# --- files that will not do ---


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (SECRET.encode() + b"\xff\xfe", "the text is not UTF-8"),
        (SECRET.encode("utf-16"), "not a text: it has a NUL byte"),
        (SECRET.encode() + b"\0", "not a text: it has a NUL byte"),
        (SECRET.encode() * 200_000, "too large; a secret may have at most 1048576 bytes"),
    ],
)
@pytest.mark.parametrize("name", ["websocket_token", "websocket.token"])
def test_secret_file_that_is_not_text_is_an_error(
    start: Start, folder: Path, name: str, data: bytes, cause: str
) -> None:
    """It is named, and not shown."""
    (folder / name).write_bytes(data)
    said = problems(start)
    assert f"{folder / name}: {cause}" in said
    assert "hunter2" not in said


def test_secret_file_that_is_a_pipe_is_not_read(start: Start, folder: Path) -> None:
    """A pipe would keep the start waiting, a device would never end."""
    os.mkfifo(folder / "somebodys")
    (folder / "zero").symlink_to("/dev/zero")
    assert start().config.env("somebodys") is None
    os.mkfifo(folder / "websocket_token")
    assert f"{folder / 'websocket_token'}: not a regular file" in problems(start)


def test_secret_file_broken_link_is_an_error(start: Start, folder: Path) -> None:
    """A secret that was mounted and is gone."""
    (folder / "websocket_token").symlink_to("..data/websocket_token")
    assert f"cannot read {folder / 'websocket_token'}: no such file or directory" in problems(start)


def test_secrets_dir_with_too_many_files_is_refused(start: Start, folder: Path) -> None:
    """It may be a home folder, for example."""
    for number in range(1001):
        (folder / f"f{number}").touch()
    assert f"{folder} (set in ZCLI_SECRETS_DIR_FOLDER) has 1001 files" in problems(start)


@pytest.fixture
def public() -> Iterator[Path]:
    """A temporary folder that every user can enter."""
    found = Path(tempfile.mkdtemp(prefix="zcli-secrets-"))
    found.chmod(0o755)
    yield found
    shutil.rmtree(found)


@needs_to_become_somebody_else
@pytest.mark.parametrize("closed", ["the file", "the folder"])
def test_secrets_dir_without_permission_is_an_error(public: Path, isolated: Path, closed: str) -> None:
    """The process runs as an ordinary user."""
    (public / "stripe_key").write_text(SECRET)
    (public / "stripe_key" if closed == "the file" else public).chmod(0o600 if closed == "the file" else 0o700)
    shown = public / "stripe_key" if closed == "the file" else public
    code = """
import os, difflib, pathlib, zcli_secrets_dir.layer
from zCLI import zCLI
zCLI({"logger": "PROD", "deployment": "Testing"}).close()  # so that all is imported: Python may be in root's home
os.setuid(65534)
zCLI({"logger": "PROD", "deployment": "Testing"})
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**clean_environment(os.environ, isolated), "ZCLI_SECRETS_DIR_FOLDER": str(public)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert f"{shown}" in done.stderr
    assert "permission denied; let the user of this process (uid 65534) read it" in done.stderr
    assert SECRET not in done.stderr


# --- where the folder is ---


def test_secrets_dir_folder_in_any_layer_is_read(
    start: Start, isolated: Path, zenv: Write, machine: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The highest counts; a relative path begins at the working directory."""
    for number, name in enumerate(("by_machine", "by_environment", "by_zenv", "by_zspark"), start=1):
        (isolated / name).mkdir()
        (isolated / name / "websocket_port").write_text(str(number))
    machine("secrets_dir: {folder: by_machine}\n")
    assert start().config.websocket.port == 1
    monkeypatch.setenv("ZCLI_SECRETS_DIR_FOLDER", "by_environment")
    assert start().config.websocket.port == 2
    zenv("ZCLI_SECRETS_DIR_FOLDER=by_zenv\n")
    assert start().config.websocket.port == 3
    config = start({"secrets_dir": {"folder": "by_zspark"}}).config
    assert config.websocket.port == 4
    assert config.secrets_dir.folder == isolated / "by_zspark"


def test_secrets_dir_folder_in_an_overlay_is_read(start: Start, folder: Path, machine: Write) -> None:
    """An overlay of the machine's file: secrets in Production, none anywhere else."""
    del os.environ["ZCLI_SECRETS_DIR_FOLDER"]
    (folder / "websocket_token").write_text(SECRET)
    machine(f"deployments:\n  Production:\n    secrets_dir:\n      folder: {folder}\n")
    assert start().config.websocket.token is None
    assert start({"deployment": "Production"}).config.websocket.token == SECRET
    os.environ["ZCLI_DEPLOYMENTS"] = json.dumps({"Testing": {"secrets_dir": {"folder": str(folder)}}})
    assert start().config.websocket.token == SECRET


def test_secrets_dir_missing_is_an_error(start: Start, isolated: Path, machine: Write) -> None:
    """Refused rather than running without the secrets."""
    machine("deployments:\n  Testing:\n    secrets_dir:\n      folder: /run/nothing-of-the-kind\n")
    said = problems(start)
    assert said == (
        "secrets_dir.folder: cannot read /run/nothing-of-the-kind (set in zConfig.machine.yaml:4, "
        "deployments.Testing): no such file or directory"
    )
    (isolated / "file").touch()
    assert "(set in zSpark): not a directory" in problems(start, secrets_dir={"folder": "file"})


def test_secrets_dir_cannot_set_its_own_folder(start: Start, folder: Path) -> None:
    """It would be said too late, and what is explained would be wrong."""
    (folder / "zcli_secrets_dir_folder").write_text("/elsewhere")
    said = problems(start)
    assert f"secrets_dir.folder: {folder / 'zcli_secrets_dir_folder'} (ZCLI_SECRETS_DIR_FOLDER) cannot set this" in said


@pytest.mark.parametrize("value", [5, ["/run/secrets"], True])
def test_secrets_dir_folder_of_another_type_is_an_error(start: Start, value: Any) -> None:
    """Once, and nothing is read."""
    assert problems(start, secrets_dir={"folder": value}).startswith("secrets_dir.folder must be a path")


# --- what is shown ---


def test_secrets_dir_values_are_never_shown(start: Start, folder: Path) -> None:
    """The setting itself need not be declared a secret."""
    (folder / "http.user_agent").write_text(SECRET)
    (folder / "zcli_http_timeout").write_text("7.5")
    z = start()
    assert (z.config.http.user_agent, z.config.http.timeout) == (SECRET, 7.5)
    assert z.config.explain("http.user_agent").value == "<secret>"
    shown = f"{z.config!r} {z.config.http!r} {z.config.explain('http.user_agent')} {z.config.explain('http.timeout')}"
    assert SECRET not in shown
    assert "7.5" not in shown
    above = start({"http": {"user_agent": "mine", "timeout": 3}})
    assert "user_agent='mine'" in repr(above.config.http)
    assert SECRET not in str(above.config.explain("http.user_agent"))
    assert "shadows '<secret>' from secrets: " in str(above.config.explain("http.user_agent"))


def test_secrets_dir_invalid_value_is_not_shown(start: Start, folder: Path) -> None:
    """Nor where a wrong one of another layer shadows it."""
    (folder / "zcli_http_timeout").write_text(SECRET)
    said = problems(start)
    assert f"got an invalid value (not shown) from {folder / 'zcli_http_timeout'} (ZCLI_HTTP_TIMEOUT)" in said
    assert SECRET not in said
    (folder / "zcli_http_timeout").unlink()
    (folder / "http.user_agent").write_text(SECRET)
    said = problems(start, http={"user_agent": 5})
    assert "without it, '<secret>' from secrets" in said
    assert SECRET not in said


def test_secrets_dir_value_is_not_shown_by_commands(folder: Path, isolated: Path) -> None:
    """``zcli config``, as a table and as JSON."""
    (folder / "http.user_agent").write_text(SECRET)
    for options in ((), ("--json",), ("http.user_agent",)):
        done = subprocess.run(
            [sys.executable, "-c", "from zcli_core.cli.main import main; main()", "config", *options],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert "<secret>" in done.stdout
        assert SECRET not in done.stdout + done.stderr

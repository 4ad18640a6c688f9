"""``.zEnv``: where it is looked for, how it is read, and what it gives to others."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from installations import clean_environment, needs_to_become_somebody_else
from zcli_layers.zenv import ZEnvLayer

from zcli_core.app import zCLI
from zcli_core.assembly import core_settings
from zcli_core.config.contract import LayerContext
from zcli_core.config.reading import read_layer
from zcli_core.config.resolution import Value
from zcli_core.errors import ConfigError

Start = Callable[..., zCLI]
Write = Callable[[Any], Path]


def _log_of(z: zCLI) -> str:
    assert z._application_log.file is not None
    return Path(z._application_log.file).read_text()


# --- where ------------------------------------------------------------------------------------------------------


def test_zenv_in_working_directory_comes_first(start: Start, isolated: Path, zenv: Write) -> None:
    """The guide runs its demos from the repository's root; the file may stand beside the script."""
    beside = isolated.parent / "scripts" / ".zEnv"
    beside.write_text("WEBSOCKET_PORT=1\n")
    assert start().config.websocket.port == 1
    zenv("WEBSOCKET_HOST=x\n")
    config = start().config
    assert (config.websocket.host, config.websocket.port) == ("x", 8765)


def test_zenv_in_parent_folder_is_not_read(start: Start, isolated: Path) -> None:
    """A file in a parent folder may belong to another project."""
    (isolated.parent / ".zEnv").write_text("WEBSOCKET_PORT=1\n")
    assert start().config.websocket.port == 8765


@pytest.mark.parametrize("as_path", [False, True], ids=["text", "Path"])
def test_env_file_names_the_file(start: Start, isolated: Path, zenv: Write, as_path: bool) -> None:
    """From the working directory or the script's folder; the .zEnv there is then not read."""
    zenv("WEBSOCKET_HOST=x\n")
    (isolated.parent / "scripts" / "prod.env").write_text("WEBSOCKET_PORT=2\n")
    z = start({"env_file": Path("prod.env") if as_path else "prod.env"})
    assert (z.config.websocket.host, z.config.websocket.port) == ("127.0.0.1", 2)
    assert z.config.explain("websocket.port").origin == "prod.env:1 (WEBSOCKET_PORT)"


def test_env_file_in_zspark_wins_over_a_variable(start: Start, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ZCLI_ENV_FILE."""
    (isolated / "a.env").write_text("WEBSOCKET_PORT=1\n")
    (isolated / "b.env").write_text("WEBSOCKET_PORT=2\n")
    monkeypatch.setenv("ZCLI_ENV_FILE", "a.env")
    assert start().config.websocket.port == 1
    assert start({"env_file": "b.env"}).config.websocket.port == 2


def test_env_file_missing_is_an_error(start: Start, zenv: Write) -> None:
    """Another one is not read in its place."""
    zenv("WEBSOCKET_PORT=1\n")
    with pytest.raises(ConfigError, match=r"^env_file: no file .*/project/prod.env found \(set in zSpark\); a "):
        start({"env_file": "prod.env"})


@pytest.mark.parametrize("source", ["overlay", "machine", "machine overlay", "secrets"])
def test_env_file_in_any_layer_is_read(
    start: Start, isolated: Path, zenv: Write, machine: Write, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """A file that ``explain`` says is in force is the file that is read."""
    zenv("ZCLI_HTTP_TIMEOUT=1\n")
    (isolated / "prod.env").write_text("ZCLI_HTTP_TIMEOUT=77\n")
    zspark: dict[str, Any] = {}
    if source == "overlay":
        zspark = {"deployments": {"Testing": {"env_file": "prod.env"}}}
    elif source == "secrets":
        (isolated / "secrets").mkdir()
        (isolated / "secrets" / "ZCLI_ENV_FILE").write_text("prod.env")
        monkeypatch.setenv("ZCLI_SECRETS_DIR_FOLDER", "secrets")
    else:
        machine("deployments: {Testing: {env_file: prod.env}}\n" if "overlay" in source else "env_file: prod.env\n")
    config = start(zspark).config
    assert (config.http.timeout, config.get("env_file")) == (77.0, isolated / "prod.env")


def test_env_file_in_the_file_itself_is_refused(start: Start, zenv: Write) -> None:
    """It says where the file is read, which has already been decided."""
    zenv("ZCLI_ENV_FILE=prod.env\n")
    with pytest.raises(
        ConfigError, match=r"^env_file: .zEnv:1 \(ZCLI_ENV_FILE\) cannot set this, because it decides from where"
    ):
        start()


def test_env_file_and_secrets_dir_in_a_circle_fail(start: Start, isolated: Path, zenv: Write) -> None:
    """Neither is in force then."""
    zenv("ZCLI_SECRETS_DIR_FOLDER=secrets\n")
    (isolated / "other.env").write_text("ZCLI_HTTP_RETRIES=1\n")
    (isolated / "secrets").mkdir()
    (isolated / "secrets" / "ZCLI_ENV_FILE").write_text("other.env")
    with pytest.raises(
        ConfigError, match=r"^the configuration layers '.zEnv' and 'secrets' each set the place from which the other"
    ):
        start()


def test_env_file_of_another_type_is_an_error(start: Start) -> None:
    """Like any setting's."""
    with pytest.raises(ConfigError, match=r"^env_file must be a path, got 5 from zSpark$"):
        start({"env_file": 5})


# --- reading ----------------------------------------------------------------------------------------------------


def test_zenv_is_read_as_dotenv_files_are(start: Start, zenv: Write) -> None:
    """Comments, quotes, export, spaces, escapes, values of several lines, the last of one name."""
    zenv(
        "# comment\nexport A=1\nB = two words # comment\nC='single # no comment'\nD=\"line\\nnext\"\n"
        "E='first\nsecond'\nF=\nG\nA=again\nWEBSOCKET_PORT=7\n"
    )
    z = start()
    found = {name: z.config.env(name, "absent") for name in "ABCDEFG"}
    assert found == {
        "A": "again",
        "B": "two words",
        "C": "single # no comment",
        "D": "line\nnext",
        "E": "first\nsecond",
        "F": "",
        "G": "absent",
    }
    assert z.config.explain("websocket.port").origin == ".zEnv:11 (WEBSOCKET_PORT)"


def test_zenv_single_quotes_are_literal(start: Start, zenv: Write) -> None:
    """``${...}`` stands for a variable everywhere else, of the file's earlier lines or of the environment."""
    zenv(
        "A=a\nWEBSOCKET_TOKEN='ab${A}ef'\nexport  B = '${A}' # c\n'C'='x${A}\ny'\nD=${A}\nE=\"'${A}'\"\nF=it's${A}\n"
        "G=${NOWHERE:-d}\nH='${A}'\nH=${A}\n"
    )
    z = start()
    assert z.config.websocket.token == "ab${A}ef"
    found = [z.config.env(name) for name in "BCDEFGH"]
    assert found == ["${A}", "x${A}\ny", "a", "'a'", "it'sa", "d", "a"]


def test_zenv_comment_after_equals_is_an_empty_value(start: Start, zenv: Write) -> None:
    """python-dotenv before 1.2.4 read the comment as the value, which for a token would be one to guess."""
    zenv("A= # comment\nWEBSOCKET_TOKEN=   # the token\n")
    config = start().config
    assert (config.env("A"), config.websocket.token) == ("", None)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("kind", ["found", "named", "descriptor", "machine"])
def test_zenv_that_is_a_pipe_is_read(start: Start, isolated: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A password manager serves a named pipe; a shell passes ``<(command)`` as ``/dev/fd/63``."""
    text, descriptor = b"ZCLI_HTTP_TIMEOUT=77\n", -1
    file = isolated / {"found": ".zEnv", "machine": "zConfig.machine.yaml"}.get(kind, "named")
    if kind == "descriptor":
        descriptor, writing = os.pipe()
        os.write(writing, text)
        os.close(writing)
        file = Path(f"/dev/fd/{descriptor}")
    else:
        os.mkfifo(file)
        text = b"http: {timeout: 77}\n" if kind == "machine" else text
        threading.Thread(target=file.write_bytes, args=(text,), daemon=True).start()
    if kind == "machine":
        monkeypatch.setenv("ZCLI_CONFIG_DIR", str(isolated))
    elif kind != "found":
        monkeypatch.setenv("ZCLI_ENV_FILE", str(file))
    assert start().config.http.timeout == 77.0
    if descriptor != -1:
        os.close(descriptor)


@pytest.mark.parametrize(
    "data", [b"\xef\xbb\xbfWEBSOCKET_PORT=1\n", b"\r\nWEBSOCKET_PORT=1\r\n", b"A=1\rWEBSOCKET_PORT=1"]
)
def test_zenv_with_bom_or_other_line_ends_is_read(start: Start, zenv: Write, data: bytes) -> None:
    """Editors on other systems write them."""
    zenv(data)
    line = 1 + data.partition(b"WEBSOCKET")[0].count(b"\r")
    assert start().config.explain("websocket.port")[1:4] == (1, ".zEnv", f".zEnv:{line} (WEBSOCKET_PORT)")


@pytest.mark.parametrize(
    ("data", "where", "what"),
    [
        (b"A=1\n\nthis is not = a line\n", ":3", "the line must be NAME=value"),
        (b"A=1\nB='open\n", ":2", "the line must be NAME=value"),
        (b"A=1\n'B=C'=1\n", ":2", "the line must be NAME=value"),
        (b"A=1\nB=x\0y\n", ":2", "the line must be NAME=value"),
        (b"A=1\nB=\xff\n", ":2", "the text is not UTF-8"),
        ("A=1\n".encode("utf-16"), ":1", "the text is not UTF-8"),
    ],
)
def test_zenv_invalid_error_names_the_line(start: Start, zenv: Write, data: bytes, where: str, what: str) -> None:
    """And without what stands there: it may be a secret."""
    file = zenv(data)
    with pytest.raises(ConfigError) as caught:
        start()
    assert str(caught.value) == f"{file}{where}: {what}"


def test_zenv_huge_is_refused(start: Start, zenv: Write) -> None:
    """A log file named by mistake, say."""
    with zenv("").open("r+b") as file:
        file.truncate(10**12)
    with pytest.raises(ConfigError, match=r"is too large; a \.zEnv may have at most 1000000 bytes"):
        start()


def test_zenv_that_is_a_folder_is_ignored(start: Start, isolated: Path) -> None:
    """It is passed over."""
    (isolated / ".zEnv").mkdir()
    assert start().config.websocket.port == 8765


@needs_to_become_somebody_else
@pytest.mark.parametrize("name", [".zEnv", "zConfig.machine.yaml"])
def test_zenv_without_permission_is_an_error(public: Path, name: str) -> None:
    """Going on without what a file says could be unsafe; in a closed folder there may not even be one."""
    file = public / name
    file.write_text("WEBSOCKET_PORT=1\n")
    file.chmod(0)
    (public / "closed").mkdir(mode=0o700)
    code = """
import os, yaml, dotenv, encodings.utf_8_sig
import zcli_layers.machine, zcli_layers.plain, zcli_layers.zenv
from zCLI import zCLI
from zcli_core.errors import ConfigError
if os.getuid() == 0:
    os.setuid(65534)
try:
    zCLI({"logger": "PROD", "deployment": "Testing"})
    print("fine")
except ConfigError as error:
    print(error)
"""

    def run(folder: Path) -> str:
        environment = {**clean_environment(os.environ, folder), "ZCLI_CONFIG_DIR": str(folder)}
        command = [sys.executable, "-W", "error", "-c", code]
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        return done.stdout

    assert run(public) == f"cannot read {file}: Permission denied\n"
    if os.getuid() == 0:
        assert run(public / "closed") == "fine\n"


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that another user may look into, unlike pytest's."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def test_env_file_in_use_is_forgotten_when_read_again(zenv: Write, isolated: Path) -> None:
    """A layer that needs settings may be read more than once, and find no file the second time."""
    context = LayerContext(
        zspark={}, environ={}, working_directory=str(isolated), script_directory=None, settings=core_settings()
    )
    context.needed = {"env_file": Value(zenv("A=1\n").rename(isolated / "other"), "zSpark", "zSpark")}
    reading = read_layer(ZEnvLayer(), context)
    assert ([entry.name for entry in reading.entries], reading.env_file) == (["A"], str(isolated / "other"))
    context.needed = {"env_file": None}
    reading = read_layer(ZEnvLayer(), context)
    assert (reading.entries, reading.env_file) == ([], None)


# --- what is others' --------------------------------------------------------------------------------------------


def test_zenv_foreign_names_are_exported(start: Start, zenv: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """Libraries read ``os.environ``: there and in ``env()`` is the value in force, the project's."""
    monkeypatch.setenv("SET_IN_THE_SHELL", "shell")
    zenv("SET_IN_THE_SHELL=file\nONLY_IN_THE_FILE=file\n")
    z = start()
    assert (z.config.env("SET_IN_THE_SHELL"), z.config.env("ONLY_IN_THE_FILE")) == ("file", "file")
    assert (os.environ["SET_IN_THE_SHELL"], os.environ["ONLY_IN_THE_FILE"]) == ("file", "file")
    assert "the .zEnv replaces the values of SET_IN_THE_SHELL in the environment of this process\n" in _log_of(z)
    assert z.config.env("HOME") == os.environ["HOME"]
    assert z.config.env("NOWHERE") is None
    assert z.config.env("NOWHERE", "x") == "x"


def test_zenv_empty_value_is_not_exported(start: Start, zenv: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty variable of a setting is "not set" for zCLI, so it must not be set for libpq either."""
    monkeypatch.setenv("PGHOST", "db.prod")
    zenv("PGHOST=\n")
    z = start()
    assert (z.config.services.postgresql.host, z.config.env("PGHOST"), os.environ["PGHOST"]) == ("db.prod",) * 3


def test_zenv_own_names_are_not_exported(start: Start, zenv: Write) -> None:
    """Another zCLI object would take them for the shell's, and a child process would inherit the secrets."""
    zenv("WEBSOCKET_TOKEN=t\nZCLI_HTTP_TIMEOUT=3\nZCLI_UNKNOWN=1\n")
    z = start()
    assert z.config.env("WEBSOCKET_TOKEN") == "t"
    assert not {"WEBSOCKET_TOKEN", "ZCLI_HTTP_TIMEOUT", "ZCLI_UNKNOWN"} & set(os.environ)


def test_zenv_exports_nothing_if_the_start_fails(start: Start, zenv: Write) -> None:
    """A start that fails leaves nothing behind."""
    zenv("ONLY_IN_THE_FILE=file\nWEBSOCKET_PORT=abc\n")
    with pytest.raises(ConfigError):
        start()
    assert "ONLY_IN_THE_FILE" not in os.environ


@pytest.mark.parametrize(
    "name",
    [
        "LD_PRELOAD", "DYLD_INSERT_LIBRARIES", "GCONV_PATH", "PATH", "PYTHONSTARTUP", "PERL5OPT", "RUBYOPT",
        "NODE_OPTIONS", "JAVA_TOOL_OPTIONS", "BASH_ENV", "ENV", "IFS", "GIT_SSH_COMMAND", "SSL_CERT_FILE",
        "SSLKEYLOGFILE", "OPENSSL_CONF", "HTTPS_PROXY", "https_proxy", "no_proxy", "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE", "HOME", "XDG_CONFIG_HOME", "PIP_INDEX_URL", "PAGER",
    ],
)  # fmt: skip
def test_zenv_steering_name_is_not_exported(start: Start, zenv: Write, name: str) -> None:
    """It would decide what other programs load, run or trust; the log names it once, and ``env()`` has it."""
    before = os.environ.get(name)
    zenv(f"{name}=/theirs\nNODE_ENV=test\nAWS_REGION=x\n")
    z = start()
    assert os.environ.get(name) == before
    assert (z.config.env(name), os.environ["NODE_ENV"], os.environ["AWS_REGION"]) == ("/theirs", "test", "x")
    assert _log_of(z).count(f"the .zEnv sets {name}, which is not put into the environment") == 1


def test_zenv_does_not_expand_the_environment(start: Start, zenv: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment holds secrets of other programs, which a setting may send; the log says what was empty."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    file = zenv('OWN=mine\nZCLI_HTTP_USER_AGENT="ua ${AWS_SECRET_ACCESS_KEY}${OWN}${NONE:-default}"\n')
    z = start()
    assert z.config.http.user_agent == "ua minedefault"
    assert _log_of(z).count(f"{file}:2: ${{AWS_SECRET_ACCESS_KEY}} is empty, because no earlier line") == 1
    assert "NONE" not in _log_of(z)

"""The five layers as the guide has them, what may stand between them, and where relative paths lead."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zcli_core.app import zCLI
from zcli_core.errors import ConfigError

Start = Callable[..., zCLI]
Write = Callable[[Any], Path]


def _log_of(z: zCLI) -> str:
    assert z._application_log.file is not None
    return Path(z._application_log.file).read_text() if Path(z._application_log.file).exists() else ""


def test_layer_wins_over_lower_layers(
    start: Start, zenv: Write, machine: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """defaults, machine, environment, .zEnv, zSpark: the guide's order, one layer added at a time."""
    assert start().config.websocket.port == 8765
    machine("websocket:\n  port: 1001\n")
    assert start().config.websocket.port == 1001
    monkeypatch.setenv("WEBSOCKET_PORT", "1002")
    assert start().config.websocket.port == 1002
    zenv("WEBSOCKET_PORT=1003\n")
    assert start().config.websocket.port == 1003
    assert start({"websocket": {"port": 1004}}).config.websocket.port == 1004


def test_value_has_its_origin_with_line(
    start: Start, zenv: Write, machine: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All five at once, the shadowed ones in their order."""
    machine("# the machine\n\nwebsocket:\n  host: x\n  port: 1001\n")
    monkeypatch.setenv("ZCLI_WEBSOCKET_PORT", "1002")
    zenv("A=1\n\n# here\nWEBSOCKET_PORT=1003\n")
    found = start({"websocket": {"port": 1004}}).config.explain("websocket.port")
    assert (found.key, found.value, found.layer, found.origin) == ("websocket.port", 1004, "zSpark", "zSpark")
    assert found.shadowed == (
        (1003, ".zEnv", ".zEnv:4 (WEBSOCKET_PORT)"),
        (1002, "environment", "ZCLI_WEBSOCKET_PORT"),
        (1001, "machine", "zConfig.machine.yaml:5"),
        (8765, "defaults", "zcli-core"),
    )


def test_zspark_none_is_not_set(start: Start, zenv: Write) -> None:
    """As the guide's ``os.getenv("WEBSOCKET_SSL_CERT")``: lower layers then apply."""
    zenv("WEBSOCKET_SSL_CERT=certs/demo.cert\n")
    z = start({"websocket": {"ssl_cert": os.getenv("WEBSOCKET_SSL_CERT"), "ssl_key": None}, "http": None})
    assert z.config.websocket.ssl_cert == Path.cwd() / "certs" / "demo.cert"
    assert z.config.websocket.ssl_key is None
    assert "WARNING" not in _log_of(z)


@pytest.mark.parametrize("name", ["WEBSOCKET_PORT", "ZCLI_WEBSOCKET_PORT", "ZCLI_DEPLOYMENTS", "ZCLI_PLUGINS_DISABLE"])
def test_variable_empty_is_not_set(start: Start, zenv: Write, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Shells and containers unset variables this way."""
    monkeypatch.setenv(name, "")
    zenv(f"{name}=\n")
    assert start().config.websocket.port == 8765


@pytest.mark.parametrize(
    "names", [("WEBSOCKET_PORT", "ZCLI_WEBSOCKET_PORT"), ("ZCLI_WEBSOCKET_PORT", "WEBSOCKET_PORT")]
)
def test_variable_with_zcli_prefix_wins(start: Start, zenv: Write, names: tuple[str, str]) -> None:
    """Not the one that happens to come last; the other is shown as shadowed."""
    zenv("".join(f"{name}={len(name)}\n" for name in names))
    found = start().config.explain("websocket.port")
    assert found.value == len("ZCLI_WEBSOCKET_PORT")
    assert found.shadowed[0].value == len("WEBSOCKET_PORT")


def test_zspark_key_with_dots_is_a_path(start: Start) -> None:
    """Dots are allowed in zSpark."""
    config = start({"websocket.port": 5, "http": {"timeout": 2}}).config
    assert (config.websocket.port, config.http.timeout) == (5, 2.0)


# --- deployments ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("deployment", "port"), [("Production", 1), ("production", 1), ("Testing", 2), ("Development", 9)]
)
def test_overlay_in_zspark_is_in_force(start: Start, deployment: str, port: int) -> None:
    """Overlays win over the settings for all deployments in the same layer."""
    overlays = {"Production": {"websocket": {"port": 1}}, "Testing": {"websocket.port": 2}}
    z = start({"deployment": deployment, "websocket": {"port": 9}, "deployments": overlays})
    assert z.config.websocket.port == port


def test_overlay_in_machine_file_is_in_force(start: Start, machine: Write) -> None:
    """The origin names the overlay, and the explanation shows the shadowed value."""
    machine("http:\n  timeout: 7\ndeployments:\n  Production:\n    http:\n      timeout: 3\n")
    assert start({"deployment": "Testing"}).config.http.timeout == 7
    found = start({"deployment": "Production"}).config.explain("http.timeout")
    assert (found.value, found.origin) == (3.0, "zConfig.machine.yaml:6, deployments.Production")
    assert found.shadowed[0] == (7.0, "machine", "zConfig.machine.yaml:2")


def test_overlay_in_a_variable_is_in_force(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is ZCLI_DEPLOYMENTS."""
    monkeypatch.setenv("ZCLI_DEPLOYMENTS", '{"Production": {"http": {"timeout": 3}}}')
    assert start({"deployment": "Production"}).config.http.timeout == 3
    assert start({"deployment": "Testing"}).config.http.timeout == 10


def test_overlay_of_a_lower_layer_is_shadowed(start: Start, machine: Write) -> None:
    """An overlay wins only in its own layer."""
    machine("deployments: {Production: {http: {timeout: 3}}}\n")
    assert start({"deployment": "Production", "http": {"timeout": 4}}).config.http.timeout == 4


def test_deployment_in_any_layer_is_in_force(start: Start, machine: Write) -> None:
    """Here from the lowest, with an overlay in the highest."""
    machine("deployment: Production\n")
    z = start({"deployment": None, "deployments": {"Production": {"http": {"timeout": 3}}}})
    assert (z.config.deployment, z.config.http.timeout) == ("Production", 3.0)


def test_overlay_cannot_change_the_deployment(start: Start) -> None:
    """It is ignored with a warning, because it would decide which overlays apply."""
    z = start({"deployments": {"Testing": {"deployment": "Production"}}})
    assert z.config.deployment == "Testing"
    assert "deployments.Testing.deployment (zSpark) cannot change the deployment; it is ignored" in _log_of(z)


def test_overlay_of_unknown_deployment_is_a_warning(start: Start) -> None:
    """Its settings would never be in force."""
    z = start({"deployments": {"Prodution": {"http": {"timeout": 3}}}})
    assert (
        "unknown deployment 'Prodution' (deployments.Prodution, zSpark); it is ignored; did you mean 'Production'?"
        in _log_of(z)
    )


@pytest.mark.parametrize("overlays", [5, "x", {"Production": 5}, [1]])
def test_overlays_of_another_type_are_an_error(start: Start, overlays: Any) -> None:
    """Whatever deployment is in force."""
    with pytest.raises(ConfigError, match=r"^deployments.* must be a mapping of deployments to settings \(zSpark\)$"):
        start({"deployments": overlays})


def test_overlays_in_invalid_json_are_an_error(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the position, and not the text."""
    monkeypatch.setenv("ZCLI_DEPLOYMENTS", "Production=hunter2")
    with pytest.raises(ConfigError, match=r"^deployments: ZCLI_DEPLOYMENTS is not valid JSON: .*\(char 0\)$"):
        start()


# --- unknown names ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zspark", "warning"),
    [
        (
            {"websocket": {"prot": 1}},
            "'websocket.prot' (zSpark): {none}; it is ignored; did you mean 'websocket.port'?",
        ),
        ({"websockt": {"port": 1}}, "'websockt' (zSpark): {none}; it is ignored; did you mean 'websocket'?"),
        ({"loger": "PROD"}, "'loger' (zSpark): {none}; it is ignored; did you mean 'logger'?"),
        ({"Title": "x"}, "'Title' (zSpark): {none}; it is ignored; did you mean 'title'?"),
        ({"qqqq": 1}, "'qqqq' (zSpark): {none}; it is ignored\n"),
        ({5: 1}, "'5' (zSpark): {none}; it is ignored\n"),
    ],
)
def test_unknown_key_is_a_warning_with_suggestion(start: Start, zspark: dict[Any, Any], warning: str) -> None:
    """The warning does not show the value."""
    z = start(zspark)
    assert warning.format(none="no plugin in use declares it") in _log_of(z)


@pytest.mark.parametrize(
    ("name", "meant"),
    [("ZCLI_HTP_TIMEOUT", "ZCLI_HTTP_TIMEOUT"), ("WEBSOCKET_PROT", "WEBSOCKET_PORT"), ("ZCLI_QQQQ", None)],
)
def test_unknown_variable_is_a_warning_with_suggestion(
    start: Start, zenv: Write, monkeypatch: pytest.MonkeyPatch, name: str, meant: str | None
) -> None:
    """From the environment and from .zEnv, which is named with the line."""
    monkeypatch.setenv(name, "3")
    zenv(f"\n{name}=3\n")
    log = _log_of(start())
    hint = f"; did you mean {meant!r}?" if meant else ""
    for where in ("environment", ".zEnv:2"):
        assert f"unknown variable {name!r} ({where}): no plugin in use declares it; it is ignored{hint}" in log


def test_variables_of_other_programs_are_ignored(start: Start, zenv: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """WEBSOCKET_ is a prefix that others use as well."""
    monkeypatch.setenv("WEBSOCKET_DEBUG_COLOUR", "x")
    zenv("DJANGO_SECRET_KEY=abc\nWEBSOCKET_SOMETHING_ELSE=1\n")
    assert "WARNING" not in _log_of(start())


@pytest.mark.parametrize("value", [5, "x", [1], True])
def test_section_of_another_type_is_an_error(start: Start, value: Any) -> None:
    """The names that could stand there are listed."""
    with pytest.raises(
        ConfigError,
        match=r"^plugins must be a mapping of settings \(disable, prefer\), got a value that is not a mapping from zSp",
    ):
        start({"plugins": value})


@pytest.mark.parametrize(
    "zspark", [{"websocket": {"port": {"x": 1}}}, {"websocket.port.x": 1}, {"websocket.port": {"x": 1}}]
)
def test_mapping_in_place_of_a_value_is_an_error(start: Start, zspark: Any) -> None:
    """The error is the same in each notation."""
    with pytest.raises(ConfigError, match=r"^websocket.port must be an integer .*, got {'x': 1} from zSpark"):
        start(zspark)


def test_mapping_that_holds_itself_is_an_error(start: Start) -> None:
    """Not a RecursionError."""
    endless: dict[str, Any] = {}
    endless["websocket"] = endless
    with pytest.raises(ConfigError, match="zSpark nests mappings more than 20 levels deep"):
        start({"websocket": endless})


def test_error_value_without_repr_is_reported(start: Start) -> None:
    """Its repr raises or is endless."""

    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError

    with pytest.raises(ConfigError, match=r"websocket.port must be .*, got <Shy instance at 0x[0-9a-f]+> from zSpark"):
        start({"websocket": {"port": Shy()}})
    with pytest.raises(ConfigError) as caught:
        start({"websocket": {"port": [["x" * 1000] * 1000] * 1000}})
    assert len(str(caught.value)) < 1000


# --- relative paths ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["scripts", "project", "env"])
def test_path_relative_is_looked_up_in_three_folders(start: Start, isolated: Path, where: str) -> None:
    """The script's folder, the working directory, then the folder of the .zEnv."""
    folders = {name: isolated.parent / name for name in ("scripts", "project", "env")}
    folders["env"].mkdir()
    (folders["env"] / "my.env").write_text("A=1\n")
    for name in list(folders)[list(folders).index(where) :]:
        (folders[name] / "certs").mkdir()
        (folders[name] / "certs" / "demo.cert").touch()
    z = start({"env_file": str(folders["env"] / "my.env"), "websocket": {"ssl_cert": "certs/demo.cert"}})
    assert z.config.websocket.ssl_cert == folders[where] / "certs" / "demo.cert"


@pytest.mark.parametrize("layer", ["machine", ".zEnv", "environment"])
def test_path_relative_is_looked_up_beside_its_file(
    start: Start, isolated: Path, machine: Write, monkeypatch: pytest.MonkeyPatch, layer: str
) -> None:
    """A file's relative path means the file's folder first; the shell's means the working directory."""
    folders = {"machine": isolated.parent / "machine", ".zEnv": isolated.parent / "env", "environment": isolated}
    for folder in (*folders.values(), isolated.parent / "scripts"):
        folder.mkdir(exist_ok=True)
        (folder / "a.pem").touch()
    (folders[".zEnv"] / "my.env").write_text("WEBSOCKET_SSL_CERT=a.pem\n")
    if layer == "machine":
        machine("websocket: {ssl_cert: a.pem}\n")
    elif layer == "environment":
        monkeypatch.setenv("WEBSOCKET_SSL_CERT", "a.pem")
    z = start({"env_file": str(folders[".zEnv"] / "my.env")} if layer == ".zEnv" else {})
    assert z.config.websocket.ssl_cert == folders[layer] / "a.pem"


@pytest.mark.parametrize("key", ["logger_path", "services.folder", "services.redis.data_dir", "websocket.unix_path"])
def test_path_written_is_below_the_working_directory(start: Start, isolated: Path, key: str) -> None:
    """Even if something of that name is beside the script."""
    (isolated.parent / "scripts" / "out").mkdir()
    assert start({key: "out"}).config.get(key) == isolated / "out"


def test_path_missing_is_below_the_working_directory(start: Start, isolated: Path) -> None:
    """A log folder is made there."""
    assert start({"logger_path": "./logs"}).config.get("logger_path") == isolated / "logs"


def test_path_with_tilde_is_expanded(start: Start, isolated: Path) -> None:
    """``~`` works in every layer, since no shell expands it there."""
    assert start({"websocket": {"ssl_key": "~/key.pem"}}).config.websocket.ssl_key == Path.home() / "key.pem"
    assert start({"logger_path": "$HOME/a/${HOME}"}).config.get("logger_path") == Path(f"{Path.home()}/a/{Path.home()}")


@pytest.mark.parametrize(
    ("path", "problem"),
    [("~no-such-user/k", "there is no home folder for ~no-such-user"), ("${NO}/k", "the variable NO is")],
)
def test_path_with_unknown_variable_is_refused(start: Start, path: str, problem: str) -> None:
    """No folder with the name ~name or $NAME is made."""
    with pytest.raises(ConfigError, match=rf"^websocket.ssl_key must be a path: {problem}.*, got '.*' from zSpark"):
        start({"websocket": {"ssl_key": path}})


@pytest.mark.parametrize("first", [True, False])
def test_machine_file_is_read_in_every_xdg_folder(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    """XDG_CONFIG_DIRS is a list; a folder wins over those after it."""
    monkeypatch.delenv("ZCLI_CONFIG_DIR")
    for name, text in (("a", "http: {retries: 1}" if first else ""), ("b", "http: {retries: 2, max_redirects: 3}")):
        file = tmp_path / name / "zcli" / "zConfig.machine.yaml"
        file.parent.mkdir(parents=True)
        file.write_text(text)
    monkeypatch.setenv("XDG_CONFIG_DIRS", f"{tmp_path / 'a'}:relative:{tmp_path / 'b'}")
    config = start().config
    assert (config.http.retries, config.http.max_redirects) == (1 if first else 2, 3)


def test_config_dir_with_tilde_is_expanded(start: Start, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that stands for nothing is refused there, too."""
    (Path.home() / "zConfig.machine.yaml").write_text("http: {retries: 4}\n")
    monkeypatch.setenv("ZCLI_CONFIG_DIR", "$HOME")
    assert start().config.http.retries == 4
    monkeypatch.setenv("ZCLI_CONFIG_DIR", "$NO_SUCH/x")
    with pytest.raises(ConfigError, match=r"^ZCLI_CONFIG_DIR: '.*' cannot be used: the variable NO_SUCH is not set$"):
        start()


def test_start_twice_reads_again(start: Start, zenv: Write) -> None:
    """The file is read again for each object."""
    zenv("WEBSOCKET_PORT=1\n")
    first = start()
    zenv("WEBSOCKET_PORT=2\n")
    assert (first.config.websocket.port, start().config.websocket.port) == (1, 2)

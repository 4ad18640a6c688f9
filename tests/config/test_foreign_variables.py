"""Variables that other software sets under our names, and our own names written in another way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from zcli_core.app import zCLI
from zcli_core.cli.main import make_command
from zcli_core.errors import ConfigError

Start = Callable[..., zCLI]
Write = Callable[[Any], Path]
LINK = "tcp://10.96.0.12:8765"


def _log_of(z: zCLI) -> str:
    assert z._application_log.file is not None
    return Path(z._application_log.file).read_text() if Path(z._application_log.file).exists() else ""


@pytest.mark.parametrize(
    ("variable", "value", "key"),
    [
        ("WEBSOCKET_PORT", LINK, "websocket.port"),
        ("ZCLI_WEBSOCKET_PORT", LINK, "websocket.port"),
        ("ZCLI_SERVICES_REDIS_PORT", LINK, "services.redis.port"),
        ("PGPORT", "many", "services.postgresql.port"),
        ("REDIS_URL", "redis+sentinel://a,b/mymaster", "services.redis.host"),
        ("WEBSOCKET_COMPRESSION", "zstd", "websocket.compression"),
        ("WEBSOCKET_AUTH", '["half', "websocket.auth"),
    ],
)
def test_foreign_value_is_an_error_only_when_used(
    start: Start, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, key: str
) -> None:
    """A script that does not use the setting starts, with a warning; using it raises the error."""
    monkeypatch.setenv(variable, value)
    z = start()
    found = z.config.explain(key)
    assert (repr(found.value), found.origin) == ("<cannot be used>", variable)
    section, _, name = key.rpartition(".")
    assert repr(z.config.get(section)).startswith(("WebSocket(", "Redis(", "Postgresql("))
    for use in (lambda: z.config.get(key), lambda: getattr(z.config.get(section), name)):
        with pytest.raises(ConfigError, match=f" from {variable}"):
            use()
    assert f"this is an error in a script that uses {key}" in _log_of(z)


def test_foreign_value_that_is_shadowed_is_not_an_error(
    start: Start, zenv: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The explanation still shows it."""
    monkeypatch.setenv("WEBSOCKET_PORT", LINK)
    zenv("WEBSOCKET_PORT=8000\n")
    z = start()
    assert z.config.websocket.port == 8000
    assert repr(z.config.explain("websocket.port").shadowed[0].value) == "<cannot be used>"
    assert "10.96.0.12" not in _log_of(z)


def test_foreign_plugin_choice_is_an_error_when_used(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other programs may set WEBSOCKET_TRANSPORT."""
    monkeypatch.setenv("WEBSOCKET_TRANSPORT", "polling")
    z = start()
    assert "no plugin provides the WebSocket transport 'polling'" in _log_of(z)
    with pytest.raises(ConfigError, match="no plugin provides the WebSocket transport 'polling'"):
        z.comm.websocket.start_background(port=0)
    monkeypatch.setenv("ZCLI_WEBSOCKET_TRANSPORT", "polling")
    with pytest.raises(ConfigError):
        start()


def test_foreign_port_stops_a_server_without_a_port(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that the script gives makes the setting unused."""
    monkeypatch.setenv("WEBSOCKET_PORT", LINK)
    z = start()
    with z.comm.websocket.start_background(port=0) as server:
        assert server.port
    with pytest.raises(
        ConfigError, match=r"websocket.port must be .*Kubernetes sets this variable .* enableServiceLinks: false"
    ):
        z.comm.websocket.start_background()


def test_own_file_with_an_invalid_value_stops_the_start(start: Start, zenv: Write) -> None:
    """WEBSOCKET_ names in a .zEnv are meant for zCLI."""
    zenv("WEBSOCKET_PORT=abc\n")
    with pytest.raises(ConfigError, match=r"^websocket\.port must be "):
        start()


def test_kubernetes_variables_are_ignored(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Service called "zcli" sets these, and they begin with our prefix."""
    for name in ("PORT", "SERVICE_PORT_WS", "PORT_8765_TCP", "PORT_8765_TCP_PORT"):
        monkeypatch.setenv(f"ZCLI_{name}", LINK if name == "PORT" else "8765")
    monkeypatch.setenv("ZCLI_SERVICE_HOST", "10.96.0.12")
    assert "WARNING" not in _log_of(start())


def test_kubernetes_variables_like_ours_are_ignored(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A Service called "websocket-auth" sets these, and they begin with a variable for security."""
    for name in ("PORT", "SERVICE_PORT", "SERVICE_HOST", "PORT_8765_TCP", "PORT_8765_TCP_ADDR"):
        monkeypatch.setenv(f"WEBSOCKET_AUTH_{name}", "10.96.0.12" if name.endswith(("HOST", "ADDR")) else LINK)
    assert "WARNING" not in _log_of(start())


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("zcli_http_timeout", "ZCLI_HTTP_TIMEOUT"),
        ("websocket_port", "WEBSOCKET_PORT"),
        ("pghost", "PGHOST"),
        ("Database_URL", "DATABASE_URL"),
        ("websocket.port", "ZCLI_WEBSOCKET_PORT"),
    ],
)
@pytest.mark.parametrize("where", ["environment", "file"])
def test_variable_in_another_case_is_a_warning(
    start: Start, zenv: Write, monkeypatch: pytest.MonkeyPatch, where: str, name: str, meant: str
) -> None:
    """The warning names the variable that was meant."""
    if where == "file":
        zenv(f"{name}=3\n")
    else:
        monkeypatch.setenv(name, "3")
    assert f"declares it; it is ignored; did you mean {meant!r}?" in _log_of(start())


def test_command_shows_a_foreign_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """``zcli config`` and ``zcli doctor`` work, and say what is wrong."""
    monkeypatch.setenv("WEBSOCKET_PORT", LINK)
    shown = CliRunner().invoke(make_command(), ["config", "websocket.port"])
    assert shown.exit_code == 0
    assert "websocket.port = <cannot be used>\n  set by     environment: WEBSOCKET_PORT\n" in shown.output
    assert "enableServiceLinks" in CliRunner().invoke(make_command(), ["doctor", "--json"]).output

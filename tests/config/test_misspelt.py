"""A misspelt name of a setting that restricts stops the part that it belongs to, in whatever layer it stands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from installations import Site, http_transport

from zcli_core.app import zCLI
from zcli_core.assembly import core_settings
from zcli_core.cli import doctor
from zcli_core.cli.session import load_plugins
from zcli_core.config.unknown_names import RestrictingNames
from zcli_core.errors import ConfigError
from zcli_core.suggestions import edits

Start = Callable[..., zCLI]
Write = Callable[[Any], Path]


def _serve(z: zCLI) -> None:
    with z.comm.websocket.start_background(port=0, host="127.0.0.1"):
        pass


@pytest.mark.parametrize(
    ("layer", "name", "meant"),
    [
        ("zSpark", "websocket.require_auht", "'websocket.require_auth'"),
        ("zSpark", "websocket.allowed_origin", "'websocket.allowed_origins'"),
        ("zSpark", "websocket.ath", "'websocket.auth'"),
        ("zSpark", "websocket.tokn", "'websocket.token"),
        ("zSpark", "websocket.ssl_clientca", "'websocket.ssl_client_ca'"),
        ("zSpark", "websocket.maxconnections", "'websocket.max_connections'"),
        ("zSpark", "websocket.max-size", "'websocket.max_size'"),
        ("zSpark", "websocket.max_auth_failure", "'websocket.max_auth_failures'"),
        ("zSpark", "websocket.max_send_bufer", "'websocket.max_send_buffer'"),
        ("zSpark", "websocket.unix_mde", "'websocket.unix_mode'"),
        ("zSpark", "websockt.require_auth", "'websocket'"),
        ("zSpark", "deployments.Testin.websocket.require_auth", "'Testing'"),
        ("zSpark", "deployments.Testing.websocket.require_atuh", "'websocket.require_auth'"),
        ("machine", "websocket.requireauth", "'websocket.require_auth'"),
        ("environment", "WEBSOCKET_REQUIRE_AUHT", "'WEBSOCKET_REQUIRE_AUTH'"),
        ("environment", "WEBSOKET_REQUIRE_AUTH", "'WEBSOCKET_REQUIRE_AUTH'"),
        ("environment", "ZCLI_WEBSOCKET_ALOWED_ORIGINS", "'ZCLI_WEBSOCKET_ALLOWED_ORIGINS'"),
        ("environment", "websocket_require_auth", "'WEBSOCKET_REQUIRE_AUTH'"),
        (".zEnv", "WEBSOCKET_MAX_CONNECTION", "'WEBSOCKET_MAX_CONNECTIONS'"),
        (".zEnv", "websocket.require_auth", "'ZCLI_WEBSOCKET_REQUIRE_AUTH'"),
        ("secrets", "websocket_tokenss", "'WEBSOCKET_TOKENS'"),
    ],
)
def test_misspelt_restriction_stops_the_server(
    start: Start, zenv: Write, machine: Write, isolated: Path, monkeypatch: pytest.MonkeyPatch,
    layer: str, name: str, meant: str,
) -> None:  # fmt: skip
    """Not a script that runs no server: that one has a warning. The setting itself is set elsewhere, and right."""
    spelt: dict[str, Any] = {"websocket": {"require_auth": True, "token": "x" * 20, "max_send_buffer": 5000}}
    if layer == "zSpark":
        spelt[name] = "1"
    elif layer == "machine":
        machine(f"{name}: 1\n")
    elif layer == "environment":
        monkeypatch.setenv(name, "1")
    elif layer == ".zEnv":
        zenv(f"{name}=1\n")
    else:
        (isolated / "secrets").mkdir()
        (isolated / "secrets" / name).write_text("1")
        spelt["secrets_dir"] = {"folder": "secrets"}
    z = start(spelt)
    assert z.config.http.timeout == 10.0
    with pytest.raises(ConfigError, match=f"did you mean {meant}"):
        _serve(z)


def test_misspelt_jwt_setting_stops_the_strategy(start: Start) -> None:
    """A server without that strategy starts."""
    jwt = {"secret": "x" * 40, "audiense": "me"}
    server = {"require_auth": True, "token": "x" * 20}
    _serve(start({"jwt": jwt, "websocket": server}))
    with pytest.raises(ConfigError, match=r"'jwt\.audiense' \(zSpark\): .*; did you mean 'jwt\.audience'\?"):
        _serve(start({"jwt": jwt, "websocket": {**server, "auth": ["jwt"]}}))


def test_misspelt_http_restriction_stops_the_client(start: Start) -> None:
    """A certificate authority that is not in force would let others be trusted."""
    z = start({"http": {"ca_fil": "ca.pem"}})
    with pytest.raises(ConfigError, match=r"did you mean 'http\.ca_file'\?"):
        z.comm.http_get("http://127.0.0.1:1/")


def test_misspelt_redis_password_stops_the_service(start: Start) -> None:
    """Redis would be started without one."""
    z = start({"services": {"redis": {"local_pasword": True}}})
    with pytest.raises(ConfigError, match=r"did you mean 'services\.redis\.local_password'\?"):
        z.comm.start_service("redis")


@pytest.mark.parametrize("name", ["plugins.disabl", "secrets_dir.foldr"])
def test_misspelt_setting_of_every_start_stops_the_start(start: Start, name: str) -> None:
    """Every start uses it."""
    with pytest.raises(
        ConfigError, match=rf"^unknown setting '{name}' \(zSpark\): .*; did you mean '{name[:-1]}"
    ) as caught:
        start({name: "x"})
    assert len(caught.value.problems) == 1


SECTION = """
from zcli_core.config.settings import Section, setting
class Guard(Section, name="guard"):
    quota: int = setting(0, "what one client may take", restricts=True)
    colour: str = setting("red", "of its lamp")
@hookimpl
def zcli_settings():
    return [Guard]
"""


def test_misspelt_restriction_of_a_plugin_is_an_error(start: Start, site: Site) -> None:
    """Its declaration says that it restricts, and nothing else is needed; other settings are as before."""
    site.plugin("guard", SECTION)
    z = start({"guard": {"quotas": 3, "color": "blue"}})
    assert z.config.guard.colour == "red"
    with pytest.raises(ConfigError, match=r"did you mean 'guard\.quota'\?"):
        _ = z.config.guard.quota
    assert repr(z.config.explain("guard.quota").value) == "<cannot be used>"


def test_misspelt_restriction_stops_its_plugin(start: Start, site: Site) -> None:
    """The factory is not called."""
    site.plugin("guard", SECTION + dedent(http_transport("guarded")))
    with pytest.raises(ConfigError, match=r"did you mean 'guard\.quota'\?"):
        start({"guard": {"quotas": 3}, "http.transport": "guarded"}).comm.http_get("http://127.0.0.1:1/")


@pytest.mark.parametrize(
    "name",
    [
        "WEBSOCKET_PATH", "WEBSOCKET_URL", "WEBSOCKET_DEBUG", "WEBSOCKET_AUTH_PORT_80_TCP",
        "WEBSOCKET_AUTH_SERVICE_HOST", "WEBSOCKET_SSL", "WEBSOCKET_PORTS", "TOKEN", "AUTH_TOKEN", "REQUIRE_AUTH",
        "WEBSOCKETS_MAX_LOG_SIZE", "DATABASE_URLS", "JWT_SECRET", "JWT_ISSUER",
    ],
)  # fmt: skip
def test_foreign_variable_stops_no_server(start: Start, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """These names belong to other software and resemble zCLI's."""
    monkeypatch.setenv(name, "tcp://10.0.0.1:80" if name.endswith("TCP") else "x")
    _serve(start())


def test_misspelt_name_of_another_setting_is_ignored(start: Start) -> None:
    """``prt`` is nearer to ``port`` than to anything that restricts."""
    _serve(start({"websocket": {"prt": 1, "ports": 2, "hots": "x"}}))


@pytest.mark.parametrize("where", ["environment", ".zEnv", "secrets"])
def test_empty_restriction_is_a_security_warning(
    zenv: Write, isolated: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], where: str
) -> None:
    """A missing variable in a compose file makes one; it is "not set", as everywhere."""
    name = "WEBSOCKET_REQUIRE_AUTH"
    if where == "environment":
        monkeypatch.setenv(name, "")
    elif where == ".zEnv":
        zenv(f"{name}=\n")
    else:
        monkeypatch.setenv("ZCLI_SECRETS_DIR_FOLDER", str(isolated))
        (isolated / "websocket.require_auth").write_text("\n")
    monkeypatch.setenv("WEBSOCKET_PORT", "")
    with zCLI({"deployment": "Production", "logger": "ERROR", "logger_path": "."}) as z:
        assert z.config.websocket.require_auth is False
    said = capfd.readouterr().err
    assert said.count("is empty, so it does not set websocket.require_auth") == 1
    assert "WEBSOCKET_PORT" not in said


def test_doctor_reports_a_misspelt_restriction(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a warning where it is read, and once as what is wrong with the part that it belongs to."""
    monkeypatch.setenv("WEBSOCKET_REQUIRE_AUHT", "1")
    wanted = [check for check in doctor._CHECKS if check[0] in ("configuration", "providers", "WebSocket")]
    monkeypatch.setattr(doctor, "_CHECKS", tuple(wanted))
    found = [(each.check, each.state) for each in doctor.examine(load_plugins()) if "REQUIRE_AUHT" in each.detail]
    assert found == [("configuration", "warning"), ("WebSocket", "wrong")]


@pytest.mark.parametrize(
    ("one", "other", "count"), [("", "", 0), ("auth", "auht", 1), ("auth", "path", 2), ("", "ab", 2), ("ca", "abc", 3)]
)
def test_edits_counts_a_swap_as_one(one: str, other: str, count: int) -> None:
    """Insertions, deletions, replacements and swaps of neighbours."""
    assert (edits(one, other), edits(other, one)) == (count, count)


SETTINGS = core_settings()
LONG = [name for s in SETTINGS.values() if s.restricts and len(s.attribute) > 4 for name in s.variables]
KNOWN = {name for s in SETTINGS.values() for name in s.variables}
RESTRICTING = RestrictingNames(SETTINGS)


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_every_name_two_edits_away_is_found(data: st.DataObject) -> None:
    """The search that is fast enough for every variable misses none, unless a known name is nearer."""
    name = wanted = data.draw(st.sampled_from(LONG))
    for _ in range(2):
        place = data.draw(st.integers(0, len(name) - 2))
        before, pair, after = name[:place], name[place : place + 2], name[place + 2 :]
        name = before + data.draw(st.sampled_from([pair[::-1], pair[0], f"{pair}X", f"_{pair[1]}"])) + after
    if name not in KNOWN and edits(name, wanted) <= 2:
        found = RESTRICTING.variable_like(name)
        assert found is not None or min(edits(name, other) for other in KNOWN) < edits(name, wanted)

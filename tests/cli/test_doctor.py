"""``zcli doctor``: what each check finds, and that a failing check does not stop the others."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from installations import Site
from needs import needs_root

from zcli_core import __version__
from zcli_core.system.installation import install_again

Run = Callable[..., Any]


def _of(findings: list[tuple[str, str]], state: str) -> str:
    return "\n".join(detail for found, detail in findings if found == state)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_doctor_without_problems_ends_with_0(doctor: Run) -> None:
    """Every check reports what it looked at."""
    status, found = doctor(WEBSOCKET_PORT=str(_free_port()))
    assert status == 0
    assert list(found) == [
        "Python",
        "installation",
        "plugins",
        "configuration",
        "providers",
        "log file",
        "private keys",
        "WebSocket",
        "WebSocket port",
        "limits",
        "services",
        "backplane",
    ]
    assert [state for findings in found.values() for state, _ in findings if state == "wrong"] == []
    assert found["installation"] == [("ok", f"zcli-core {__version__}")]
    assert "HTTP transport urllib3, of the plugin zcli_urllib3" in _of(found["providers"], "ok")
    assert found["log file"][0][1].endswith("/zcli/log, which zCLI will create")
    assert {"mongodb", "postgresql", "redis"} <= {detail.split()[0].rstrip(":") for _, detail in found["services"]}


def test_doctor_prints_a_table_with_totals(run_here: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exit status is 1 if something is wrong."""
    monkeypatch.setenv("WEBSOCKET_PORT", "0")
    monkeypatch.setenv("ZCLI_HTTP_TIMEOUT", "soon")
    monkeypatch.setenv("ZCLI_HTTP_RETRY", "1")
    done = run_here("doctor")
    assert done.status == 1
    assert "configuration   wrong    http.timeout must be a number above 0, got 'soon'" in done.out
    assert "configuration   warning  unknown variable 'ZCLI_HTTP_RETRY' (environment)" in done.out
    assert done.out.rstrip().splitlines()[-1].startswith("1 problem, ")


def test_doctor_creates_no_file(doctor: Run, isolated: Path) -> None:
    """It creates no log and no folder either."""
    before = sorted(isolated.parent.rglob("*"))
    doctor()
    assert sorted(isolated.parent.rglob("*")) == before


def test_doctor_broken_plugin_is_reported(site: Site, doctor: Run) -> None:
    """The finding says what to do, and the other checks still run."""
    site.plugin("zcli_sad", "raise RuntimeError('no luck')", distribution="zcli-sad")
    site.plugin("zcli_next", "ZCLI_CONTRACT = 2")
    status, found = doctor()
    assert status == 1
    wrong = _of(found["plugins"], "wrong")
    assert (
        "the plugin zcli_sad (zcli-sad 1.0) is broken: it cannot be imported: RuntimeError: no luck; upgrade or "
        "uninstall zcli-sad, or disable it with plugins.disable" in wrong
    )
    assert f"upgrade zcli-core: {install_again('zcli-core', '--upgrade')}" in wrong
    assert _of(found["providers"], "ok")
    status, found = doctor(ZCLI_PLUGINS_DISABLE="zcli_sad,zcli_next")
    assert found["plugins"][0][0] == "ok"
    assert found["plugins"][0][1].endswith("disabled: zcli_next, zcli_sad")


def test_doctor_selected_provider_fails_is_wrong(site: Site, doctor: Run) -> None:
    """A provider that lacks a module or raises is reported once."""
    site.plugin(
        "zcli_frail",
        """
        def make(context):
            context.log.warning("the frail transport has a warning")
            raise OSError("no such library")
        @hookimpl
        def zcli_http_transports(): return [Provider("frail", "of a test", make)]
        @hookimpl
        def zcli_websocket_transports():
            return [Provider("needy", "of a test", make, needs=("no_such_library",), install="needy[it]")]
        """,
    )
    status, found = doctor(ZCLI_HTTP_TRANSPORT="frail", ZCLI_WEBSOCKET_TRANSPORT="needy")
    assert status == 1
    assert "cannot be created: OSError: no such library" in _of(found["providers"], "wrong")
    assert "the frail transport has a warning" in _of(found["providers"], "warning")
    assert "pip install 'needy[it]'" in _of(found["configuration"], "wrong")
    assert "needy" not in str(found["providers"])


def test_doctor_missing_default_is_a_warning(doctor: Run) -> None:
    """A default that cannot be used matters only when a script uses it."""
    status, found = doctor(ZCLI_PLUGINS_DISABLE="zcli_urllib3", WEBSOCKET_PORT="0")
    assert status == 0
    assert "'urllib3', which is the default of http.transport" in _of(found["providers"], "warning")


def test_doctor_creates_strategies_if_required(site: Site, doctor: Run) -> None:
    """Auth strategies are checked only if require_auth is on, like in the server."""
    site.plugin(
        "zcli_mine",
        "@hookimpl\ndef zcli_auth_strategies(): return [Provider('mine', 'of a test', lambda context: 1 / 0)]",
    )
    assert "mine" not in str(doctor(WEBSOCKET_AUTH="mine")[1]["providers"])
    status, found = doctor(WEBSOCKET_REQUIRE_AUTH="yes")
    assert (status, "cannot be created: ZeroDivisionError" in _of(found["providers"], "wrong")) == (1, True)


def test_doctor_service_of_two_plugins_is_wrong(site: Site, doctor: Run) -> None:
    """The other services are still probed."""
    site.plugin("zcli_mine", "@hookimpl\ndef zcli_service_backends(): return [Provider('redis', 'mine', print)]")
    status, found = doctor()
    assert status == 1
    assert "the service 'redis' is provided by two plugins" in _of(found["providers"], "wrong")
    assert "mongodb" in str(found["services"])


def test_doctor_backend_that_exits_is_wrong(site: Site, doctor: Run) -> None:
    """SystemExit from a plugin does not end the command."""
    site.plugin(
        "zcli_mine", "@hookimpl\ndef zcli_service_backends(): return [Provider('mine', 'of a test', lambda c: exit(3))]"
    )
    status, found = doctor()
    assert (status, "'mine' of the plugin zcli_mine" in _of(found["services"], "wrong")) == (1, True)


def test_doctor_port_in_use_names_the_holder(doctor: Run) -> None:
    """A port that a layer set and another process holds is wrong."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        held.listen()
        status, found = doctor(WEBSOCKET_PORT=str(held.getsockname()[1]))
    assert status == 1
    ((state, detail),) = found["WebSocket port"]
    assert state == "wrong"
    assert f"(pid {os.getpid()})" in detail


@pytest.mark.parametrize(
    ("variables", "detail"),
    [
        ({"WEBSOCKET_PORT": "0"}, "the server picks a free port"),
        ({"WEBSOCKET_UNIX_PATH": "/run/z.sock"}, "listens on the Unix socket /run/z.sock, not on a port"),
    ],
)
def test_doctor_without_port_checks_none(doctor: Run, variables: dict[str, str], detail: str) -> None:
    """Port 0 and a Unix socket need no check of a port."""
    assert detail in doctor(**variables)[1]["WebSocket port"][0][1]


def _certificate(folder: Path, **options: Any) -> Path:
    file = folder / "own.pem"
    trustme.CA().issue_cert("127.0.0.1", **options).private_key_and_cert_chain_pem.write_to_path(file)
    return file


def test_doctor_certificate_shows_its_expiry(doctor: Run, tmp_path: Path) -> None:
    """The certificate is checked like by the server: missing, expired or expiring soon."""
    import datetime

    now = datetime.datetime.now(datetime.timezone.utc)
    settings = {"WEBSOCKET_SSL_ENABLED": "yes", "WEBSOCKET_PORT": "0"}
    file = _certificate(tmp_path, not_after=now + datetime.timedelta(days=100))
    status, found = doctor(**settings, WEBSOCKET_SSL_CERT=str(file))
    assert status == 0
    day = (now + datetime.timedelta(days=100)).strftime("%Y-%m-%d")
    assert found["WebSocket"] == [("ok", f"wss://, the certificate {file} matches its key; expiry date: {day}")]
    _certificate(tmp_path, not_after=now + datetime.timedelta(days=5))
    status, found = doctor()
    assert (status, "expires in 5.0 days" in _of(found["WebSocket"], "warning")) == (0, True)
    _certificate(tmp_path, not_after=now - datetime.timedelta(days=5), not_before=now - datetime.timedelta(days=9))
    status, found = doctor()
    assert (status, "has expired; renew it" in _of(found["WebSocket"], "wrong")) == (1, True)
    status, found = doctor(WEBSOCKET_SSL_CERT=str(tmp_path / "gone.pem"))
    assert (status, "gone.pem cannot be read" in _of(found["WebSocket"], "wrong")) == (1, True)


def test_doctor_invalid_origin_is_wrong(doctor: Run) -> None:
    """An origin that start() would refuse is reported."""
    status, found = doctor(WEBSOCKET_ALLOWED_ORIGINS="chat.example")
    assert (status, "websocket.allowed_origins" in _of(found["WebSocket"], "wrong")) == (1, True)


@pytest.mark.parametrize(
    ("check", "variables", "warning"),
    [
        (
            "providers",
            {"WEBSOCKET_REQUIRE_AUTH": "yes", "WEBSOCKET_TOKEN": "hunter2"},
            "websocket.token (WEBSOCKET_TOKEN) has fewer than 16 characters, so that it can be guessed; the command",
        ),
        (
            "providers",
            {"WEBSOCKET_REQUIRE_AUTH": "yes", "WEBSOCKET_TOKENS": "alice=hunter2,bob=0123456789abcdef"},
            "websocket.tokens.alice (WEBSOCKET_TOKENS) has fewer than 16 characters",
        ),
        ("providers", {"WEBSOCKET_TOKEN": "hunter2"}, "websocket.token (WEBSOCKET_TOKEN) has fewer than 16 characters"),
        ("WebSocket", {"WEBSOCKET_HOST": "0.0.0.0"}, "every machine that can reach 0.0.0.0 may connect"),
        (
            "WebSocket",
            {"WEBSOCKET_HOST": "localhost.evil.example"},
            "every machine that can reach localhost.evil.example may",
        ),
        ("WebSocket", {"WEBSOCKET_TOKEN": "hunter2"}, "a WebSocket token is set, but websocket.require_auth is off"),
    ],
)
def test_doctor_reports_security_warnings(doctor: Run, check: str, variables: dict[str, str], warning: str) -> None:
    """A short token, an open server and a token that is not required are warnings."""
    status, found = doctor(**variables, WEBSOCKET_PORT="0")
    assert status == 0
    assert warning in _of(found[check], "warning")
    assert "hunter2" not in str(found)


def test_doctor_unwritable_log_is_wrong(doctor: Run, tmp_path: Path) -> None:
    """A file in place of the folder, a folder in place of the file, and a pipe, which must not block."""
    (tmp_path / "file").touch()
    status, found = doctor(ZCLI_LOGGER_PATH=str(tmp_path / "file" / "logs"))
    assert status == 1
    assert found["log file"] == [
        (
            "wrong",
            f"the log cannot be written to {tmp_path / 'file' / 'logs'} (ZCLI_LOGGER_PATH): {tmp_path / 'file'} is not "
            "a folder; set logger_path to another folder",
        )
    ]
    (tmp_path / "logs" / "t.log").mkdir(parents=True)
    status, found = doctor(ZCLI_LOGGER_PATH=str(tmp_path / "logs"), ZCLI_TITLE="t")
    assert (status, "t.log: Is a directory" in _of(found["log file"], "wrong")) == (1, True)
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "logs" / "p.log")
        status, found = doctor(ZCLI_LOGGER_PATH=str(tmp_path / "logs"), ZCLI_TITLE="p")
        assert (status, "p.log: " in _of(found["log file"], "wrong")) == (1, True)


def test_doctor_log_behind_another_users_link_is_wrong(doctor: Run, tmp_path: Path) -> None:
    """The log does not follow a link of another user."""
    needs_root("giving a folder to another account")
    for name in ("theirs", "logs"):
        (tmp_path / name).mkdir()
    (tmp_path / "theirs" / "link").symlink_to(tmp_path / "logs")
    (tmp_path / "logs" / "t.log").symlink_to("other")
    os.chown(tmp_path / "theirs", 65534, 65534)
    status, found = doctor(ZCLI_LOGGER_PATH=str(tmp_path / "theirs" / "link"))
    assert (status, f"{tmp_path}/theirs/link is a link that" in _of(found["log file"], "wrong")) == (1, True)
    os.lchown(tmp_path / "logs" / "t.log", 65534, 65534)
    (tmp_path / "logs" / "other").touch()
    status, found = doctor(ZCLI_LOGGER_PATH=str(tmp_path / "logs"), ZCLI_TITLE="t")
    assert (status, "logs/t.log is a link that" in _of(found["log file"], "wrong")) == (1, True)


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="only Linux has a folder that not even root can write to")
def test_doctor_folder_without_write_permission_is_wrong(doctor: Run) -> None:
    """The check writes a file, because the mode of a folder is not enough to know."""
    status, found = doctor(ZCLI_LOGGER_PATH="/proc")
    assert status == 1
    detail = _of(found["log file"], "wrong")
    assert detail.startswith("the log cannot be written to /proc (ZCLI_LOGGER_PATH): /proc: ")
    assert detail.endswith("; set logger_path to another folder")


def test_doctor_shows_no_secret(doctor: Run, run_here: Run) -> None:
    """Neither valid nor invalid secrets appear in the output."""
    doctor(WEBSOCKET_TOKEN="hunter2", WEBSOCKET_TOKENS="hunter2", POSTGRES_PASSWORD="hunter2", WEBSOCKET_PORT="hunt")
    done = run_here("doctor")
    assert "hunter2" not in done.out + done.err
    assert done.status == 1


def test_doctor_check_that_raises_is_reported(doctor: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other checks still run."""
    from zcli_core.cli import doctor as doctor_module

    def broken(session: object) -> Any:
        raise SystemExit("no luck")

    monkeypatch.setattr(doctor_module, "_CHECKS", (("mine", broken), *doctor_module._CHECKS))
    status, found = doctor()
    assert status == 1
    assert found["mine"] == [("wrong", "the check failed: SystemExit: no luck")]
    assert found["plugins"]

"""``zcli doctor``: what is wrong here, and what to do; whatever is broken, it looks at the rest."""

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


def test_where_all_is_well_it_says_so_and_what_it_looked_at(doctor: Run) -> None:
    """Status 0; every check has something to say."""
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
        "services",
    ]
    assert [state for findings in found.values() for state, _ in findings if state == "wrong"] == []
    assert found["installation"] == [("ok", f"zcli-core {__version__}")]
    assert "HTTP transport urllib3, of the plugin zcli_urllib3" in _of(found["providers"], "ok")
    assert found["log file"][0][1].endswith("/zcli/log, which will be made")
    assert {"mongodb", "postgresql", "redis"} <= {detail.split()[0].rstrip(":") for _, detail in found["services"]}


def test_for_people_it_is_a_table_with_a_sum_below(run_here: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status 1 where something is wrong."""
    monkeypatch.setenv("WEBSOCKET_PORT", "0")
    monkeypatch.setenv("ZCLI_HTTP_TIMEOUT", "soon")
    monkeypatch.setenv("ZCLI_HTTP_RETRY", "1")
    done = run_here("doctor")
    assert done.status == 1
    assert "configuration   wrong    http.timeout must be a number above 0, got 'soon'" in done.out
    assert "configuration   warning  unknown variable 'ZCLI_HTTP_RETRY' (environment)" in done.out
    assert done.out.rstrip().splitlines()[-1].startswith("1 problem, ")


def test_nothing_is_changed(doctor: Run, isolated: Path) -> None:
    """No log, no folder, no file."""
    before = sorted(isolated.parent.rglob("*"))
    doctor()
    assert sorted(isolated.parent.rglob("*")) == before


def test_every_broken_plugin_is_told_with_what_to_do(site: Site, doctor: Run) -> None:
    """And the rest is looked at all the same."""
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


def test_what_is_selected_and_cannot_be_made_is_wrong_and_said_once(site: Site, doctor: Run) -> None:
    """Missing, incomplete, or broken when it is made."""
    site.plugin(
        "zcli_frail",
        """
        def make(context):
            context.log.warning("the frail one is not well")
            raise OSError("no such library")
        @hookimpl
        def zcli_http_transports(): return [Provider("frail", "of a test", make)]
        @hookimpl
        def zcli_websocket_transports():
            return [Provider("needy", "of a test", make, needs=("a_library_that_nobody_has",), install="needy[it]")]
        """,
    )
    status, found = doctor(ZCLI_HTTP_TRANSPORT="frail", ZCLI_WEBSOCKET_TRANSPORT="needy")
    assert status == 1
    assert "cannot be made: OSError: no such library" in _of(found["providers"], "wrong")
    assert "the frail one is not well" in _of(found["providers"], "warning")
    assert "pip install 'needy[it]'" in _of(found["configuration"], "wrong")
    assert "needy" not in str(found["providers"])


def test_a_default_that_is_missing_is_a_warning(doctor: Run) -> None:
    """It matters once it is used."""
    status, found = doctor(ZCLI_PLUGINS_DISABLE="zcli_urllib3", WEBSOCKET_PORT="0")
    assert status == 0
    assert "'urllib3', which is the default of http.transport" in _of(found["providers"], "warning")


def test_a_strategy_is_tried_where_it_is_needed(site: Site, doctor: Run) -> None:
    """The server makes it only then."""
    site.plugin(
        "zcli_mine",
        "@hookimpl\ndef zcli_auth_strategies(): return [Provider('mine', 'of a test', lambda context: 1 / 0)]",
    )
    assert "mine" not in str(doctor(WEBSOCKET_AUTH="mine")[1]["providers"])
    status, found = doctor(WEBSOCKET_REQUIRE_AUTH="yes")
    assert (status, "cannot be made: ZeroDivisionError" in _of(found["providers"], "wrong")) == (1, True)


def test_a_service_that_two_provide_is_wrong(site: Site, doctor: Run) -> None:
    """The others are asked all the same."""
    site.plugin("zcli_mine", "@hookimpl\ndef zcli_service_backends(): return [Provider('redis', 'mine', print)]")
    status, found = doctor()
    assert status == 1
    assert "the service 'redis' is provided by two plugins" in _of(found["providers"], "wrong")
    assert "mongodb" in str(found["services"])


def test_a_backend_that_exits_is_wrong_and_no_more(site: Site, doctor: Run) -> None:
    """Whatever a plugin does when it is made."""
    site.plugin(
        "zcli_mine", "@hookimpl\ndef zcli_service_backends(): return [Provider('mine', 'of a test', lambda c: exit(3))]"
    )
    status, found = doctor()
    assert (status, "'mine' of the plugin zcli_mine" in _of(found["services"], "wrong")) == (1, True)


def test_a_port_that_is_held_is_told_with_its_holder(doctor: Run) -> None:
    """It is wrong where somebody chose that port."""
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
        ({"WEBSOCKET_PORT": "0"}, "a free one is picked"),
        ({"WEBSOCKET_UNIX_PATH": "/run/z.sock"}, "the Unix socket /run/z.sock instead of a port"),
    ],
)
def test_where_no_port_is_wanted_none_is_looked_at(doctor: Run, variables: dict[str, str], detail: str) -> None:
    """Port 0, or a Unix socket."""
    assert detail in doctor(**variables)[1]["WebSocket port"][0][1]


def _certificate(folder: Path, **options: Any) -> Path:
    file = folder / "own.pem"
    trustme.CA().issue_cert("127.0.0.1", **options).private_key_and_cert_chain_pem.write_to_path(file)
    return file


def test_a_certificate_is_told_with_its_end(doctor: Run, tmp_path: Path) -> None:
    """As the server would prove it."""
    import datetime

    now = datetime.datetime.now(datetime.timezone.utc)
    settings = {"WEBSOCKET_SSL_ENABLED": "yes", "WEBSOCKET_PORT": "0"}
    file = _certificate(tmp_path, not_after=now + datetime.timedelta(days=100))
    status, found = doctor(**settings, WEBSOCKET_SSL_CERT=str(file))
    assert status == 0
    day = (now + datetime.timedelta(days=100)).strftime("%Y-%m-%d")
    assert found["WebSocket"] == [("ok", f"wss://, the certificate {file} fits its key; it ends on {day}")]
    _certificate(tmp_path, not_after=now + datetime.timedelta(days=5))
    status, found = doctor()
    assert (status, "expires in 5.0 days" in _of(found["WebSocket"], "warning")) == (0, True)
    _certificate(tmp_path, not_after=now - datetime.timedelta(days=5), not_before=now - datetime.timedelta(days=9))
    status, found = doctor()
    assert (status, "has expired; renew it" in _of(found["WebSocket"], "wrong")) == (1, True)
    status, found = doctor(WEBSOCKET_SSL_CERT=str(tmp_path / "gone.pem"))
    assert (status, "gone.pem cannot be read" in _of(found["WebSocket"], "wrong")) == (1, True)


def test_origins_that_are_none_are_wrong(doctor: Run) -> None:
    """As start() would say."""
    status, found = doctor(WEBSOCKET_ALLOWED_ORIGINS="chat.example")
    assert (status, "websocket.allowed_origins" in _of(found["WebSocket"], "wrong")) == (1, True)


@pytest.mark.parametrize(
    ("check", "variables", "warning"),
    [
        (
            "providers",
            {"WEBSOCKET_REQUIRE_AUTH": "yes", "WEBSOCKET_TOKEN": "hunter2"},
            "websocket.token (WEBSOCKET_TOKEN): fewer than 16 characters, which can be guessed; the command 'zcli",
        ),
        (
            "providers",
            {"WEBSOCKET_REQUIRE_AUTH": "yes", "WEBSOCKET_TOKENS": "alice=hunter2,bob=0123456789abcdef"},
            "websocket.tokens.alice (WEBSOCKET_TOKENS): fewer than 16 characters",
        ),
        ("providers", {"WEBSOCKET_TOKEN": "hunter2"}, "websocket.token (WEBSOCKET_TOKEN): fewer than 16 characters"),
        ("WebSocket", {"WEBSOCKET_HOST": "0.0.0.0"}, "anybody who reaches 0.0.0.0 may connect"),
        ("WebSocket", {"WEBSOCKET_HOST": "localhost.evil.example"}, "anybody who reaches localhost.evil.example may"),
        ("WebSocket", {"WEBSOCKET_TOKEN": "hunter2"}, "a WebSocket token is set, but websocket.require_auth is not"),
    ],
)
def test_doctor_reports_security_warnings(doctor: Run, check: str, variables: dict[str, str], warning: str) -> None:
    """A token that can be guessed, an open server, a token that protects nothing."""
    status, found = doctor(**variables, WEBSOCKET_PORT="0")
    assert status == 0
    assert warning in _of(found[check], "warning")
    assert "hunter2" not in str(found)


def test_a_log_that_cannot_be_written_is_wrong(doctor: Run, tmp_path: Path) -> None:
    """No folder, a file in its place, or a pipe that nobody reads, for which it does not wait."""
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
    """The log does not follow it, so it is not fine either."""
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
def test_a_folder_without_the_right_to_write_is_wrong(doctor: Run) -> None:
    """It is tried, for rights on paper do not tell."""
    status, found = doctor(ZCLI_LOGGER_PATH="/proc")
    assert status == 1
    detail = _of(found["log file"], "wrong")
    assert detail.startswith("the log cannot be written to /proc (ZCLI_LOGGER_PATH): /proc: ")
    assert detail.endswith("; set logger_path to another folder")


def test_no_secret_is_shown(doctor: Run, run_here: Run) -> None:
    """Neither where all is well nor where they cannot be used."""
    doctor(WEBSOCKET_TOKEN="hunter2", WEBSOCKET_TOKENS="hunter2", POSTGRES_PASSWORD="hunter2", WEBSOCKET_PORT="hunt")
    done = run_here("doctor")
    assert "hunter2" not in done.out + done.err
    assert done.status == 1


def test_a_check_that_fails_itself_is_told(doctor: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the others go on."""
    from zcli_core.cli import checks

    def broken(session: object) -> Any:
        raise SystemExit("no luck")

    monkeypatch.setattr(checks, "_CHECKS", (("mine", broken), *checks._CHECKS))
    status, found = doctor()
    assert status == 1
    assert found["mine"] == [("wrong", "this cannot be checked: SystemExit: no luck")]
    assert found["plugins"]

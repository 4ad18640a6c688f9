"""The launchers for systemd, Homebrew and Windows, with fake programs that have recorded outputs."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_programs import FakePrograms
from service_servers import free_ports

from zcli_core.app import zCLI
from zcli_core.services.launchers import homebrew, systemd, windows

Make = Callable[..., zCLI]

SHOW = "show -p LoadState,ActiveState,SubState,MainPID,Type"


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePrograms:
    found = FakePrograms(tmp_path / "fakes")
    monkeypatch.setenv("PATH", found.path)
    return found


@pytest.fixture
def booted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the launcher believe that systemd runs this machine."""
    (tmp_path / "booted").mkdir()
    monkeypatch.setattr(systemd, "BOOTED", tmp_path / "booted")


@pytest.fixture
def on_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "IS_WINDOWS", True)


def _unit(load: str, active: str, sub: str, kind: str = "notify", pid: int = 0) -> tuple[int, str]:
    return 0, f"Type={kind}\nMainPID={pid}\nLoadState={load}\nActiveState={active}\nSubState={sub}\n"


NONE = _unit("not-found", "inactive", "dead", "simple")
DOWN = _unit("loaded", "inactive", "dead")


def _serve(redis_server: Path, port: int, place: Path) -> str:
    """A shell command that starts a real Redis in the background, as the service manager would."""
    log = place / "started.log"
    return f"{redis_server} --port {port} --bind 127.0.0.1 --save '' --daemonize yes --dir {place} >{log} 2>&1"


def _end(port: int) -> str:
    return f"redis-cli -p {port} shutdown nosave >/dev/null 2>&1"


# --- systemd ---


@pytest.mark.usefixtures("booted")
def test_systemd_starts_the_unit_that_exists(make: Make, fakes: FakePrograms, redis_server: Path, place: Path) -> None:
    """The unit has the second of its names; systemctl starts a real Redis."""
    port = free_ports(1)[0]
    stopped = {
        f"{SHOW} redis-server": NONE,
        f"{SHOW} redis": DOWN,
        "--no-ask-password start redis": (0, ""),
    }
    fakes.install("systemctl", stopped, {"--no-ask-password start redis": _serve(redis_server, port, place)})
    z = make(redis={"port": port, "launcher": "systemd"})
    try:
        assert z.comm.start_service("redis"), z.comm.services.last_failure
        assert z.comm.service_status("redis")["ready"]
        running = {
            f"{SHOW} redis-server": NONE,
            f"{SHOW} redis": _unit("loaded", "active", "running"),
            "--no-ask-password stop redis": (0, ""),
        }
        fakes.install("systemctl", running, {"--no-ask-password stop redis": _end(port)})
        assert z.comm.stop_service("redis"), z.comm.services.last_failure
        assert not z.comm.service_status("redis")["running"]
    finally:
        os.system(_end(port))
    assert "systemctl --no-ask-password start redis" in fakes.calls
    assert "systemctl --no-ask-password stop redis" in fakes.calls


@pytest.mark.usefixtures("booted")
@pytest.mark.parametrize(
    "said",
    [
        "Failed to start redis.service: Interactive authentication required.\n"
        "See system logs and 'systemctl status redis.service' for details.\n",
        "Failed to start redis.service: Access denied\n",
    ],
)
def test_systemd_missing_right_has_the_command(
    make: Make, fakes: FakePrograms, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    """The failure has the command with root's rights."""
    fakes.install("systemctl", {f"{SHOW} redis-server": DOWN, "--no-ask-password start redis-server": (1, said)})
    fakes.install("sudo", {})
    monkeypatch.setattr("zcli_core.services.launchers.commands.is_root", lambda: False)
    z = make(redis={"port": free_ports(1)[0], "launcher": "systemd"})
    assert not z.comm.start_service("redis")
    failure = z.comm.services.last_failure
    assert failure is not None
    assert "may not start units of systemd" in failure.message
    assert failure.command == "sudo systemctl start redis-server"
    assert said.splitlines()[0] in failure.log
    assert "sudo systemctl start redis-server" in str(failure)


@pytest.mark.usefixtures("booted")
def test_systemd_failed_unit_has_its_journal(make: Make, fakes: FakePrograms) -> None:
    """The failure has the last lines of the journal."""
    said = "Job for redis-server.service failed because the control process exited with error code.\n"
    fakes.install("systemctl", {f"{SHOW} redis-server": DOWN, "--no-ask-password start redis-server": (1, said)})
    journal = "Fatal error, can't open config file '/etc/redis/redis.conf': Permission denied\n"
    fakes.install("journalctl", {"--no-pager -q -o cat -n 8 -u redis-server": (0, journal)})
    z = make(redis={"port": free_ports(1)[0], "launcher": "systemd"})
    assert not z.comm.start_service("redis")
    failure = z.comm.services.last_failure
    assert failure is not None
    assert failure.message == "systemctl start redis-server failed"
    assert failure.log == (journal.strip(),)


@pytest.mark.usefixtures("booted")
def test_systemd_unit_without_the_port_is_a_failure(make: Make, fakes: FakePrograms) -> None:
    """The unit started, but does not serve the port."""
    fakes.install("systemctl", {f"{SHOW} redis-server": DOWN, "--no-ask-password start redis-server": (0, "")})
    fakes.install("journalctl", {"*": (1, "No journal files were opened due to insufficient permissions.")})
    port = free_ports(1)[0]
    z = make(redis={"port": port, "launcher": "systemd"})
    assert not z.comm.start_service("redis", timeout=0.5)
    assert f"127.0.0.1:{port} was not ready within 0.5 s" in str(z.comm.services.last_failure)


@pytest.mark.usefixtures("booted")
def test_systemd_grouping_unit_is_not_used(make: Make, fakes: FakePrograms) -> None:
    """``postgresql.service`` is "active (exited)" whatever the state of its clusters."""
    """``postgresql.service`` is "active (exited)" whatever its clusters do."""
    listed = "postgresql.service         enabled enabled\npostgresql-16.service      disabled enabled\n"
    fakes.install(
        "systemctl",
        {
            "list-unit-files --no-legend --plain --type=service postgresql-\\*.service": (0, listed),
            f"{SHOW} postgresql-16": NONE,
            f"{SHOW} postgresql": _unit("loaded", "active", "exited", "oneshot"),
        },
    )
    z = make(postgresql={"port": free_ports(1)[0], "launcher": "systemd"})
    assert not z.comm.start_service("postgresql")
    assert "no systemd unit postgresql-* or postgresql found" in str(z.comm.services.last_failure)
    assert not any("start" in call for call in fakes.calls)


@pytest.mark.usefixtures("booted")
def test_systemd_unit_with_a_version_is_found(make: Make, fakes: FakePrograms) -> None:
    """Red Hat's unit has the version in its name."""
    listed = "postgresql-14.service enabled\npostgresql-16.service enabled\npostgresql-setup@.service static\n"
    fakes.install(
        "systemctl",
        {
            "list-unit-files --no-legend --plain --type=service postgresql-\\*.service": (0, listed),
            f"{SHOW} postgresql-16": DOWN,
            "--no-ask-password start postgresql-16": (1, "no"),
        },
    )
    fakes.install("journalctl", {"*": (1, "")})
    z = make(postgresql={"port": free_ports(1)[0], "launcher": "systemd"})
    assert not z.comm.start_service("postgresql")
    assert "systemctl start postgresql-16 failed" in str(z.comm.services.last_failure)


def test_systemctl_without_systemd_is_not_used(make: Make, fakes: FakePrograms, redis_server: Path) -> None:
    """As in a container: the server is started as a process."""
    fakes.install("systemctl", {"*": (1, "System has not been booted with systemd as init system (PID 1). ...")})
    port = free_ports(1)[0]
    z = make(redis={"port": port})
    assert z.comm.start_service("redis"), z.comm.services.last_failure
    assert fakes.calls == []
    assert z.comm.stop_service("redis"), z.comm.services.last_failure


# --- Homebrew ---


def _brew_info(name: str, running: bool, **more: object) -> tuple[int, str]:
    """As ``brew services info --json`` prints it (Homebrew 4)."""
    state = {"running": running, "loaded": running, "schedulable": False, "pid": None, "exit_code": 0, "user": "me"}
    service = {"name": name, "service_name": f"homebrew.mxcl.{name}", **state, "status": "started", **more}
    return 0, json.dumps([service], indent=2)


def test_homebrew_starts_the_newest_formula(
    make: Make, fakes: FakePrograms, redis_server: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of several installed formulae, the newest is used."""
    monkeypatch.setattr(homebrew, "is_root", lambda: False)
    port = free_ports(1)[0]
    answers = {
        "list --formula -1": (0, "gettext\nopenssl@3\nredis\nxz\n"),
        "services start redis": (0, "==> Successfully started `redis` (label: homebrew.mxcl.redis)\n"),
        "services info redis --json": _brew_info("redis", running=True),
        "services stop redis": (0, "Stopping `redis`... (might take a while)\n"),
    }
    runs = {"services start redis": _serve(redis_server, port, place), "services stop redis": _end(port)}
    fakes.install("brew", answers, runs)
    z = make(redis={"port": port, "launcher": "homebrew"})
    try:
        assert z.comm.start_service("redis"), z.comm.services.last_failure
        assert z.comm.stop_service("redis"), z.comm.services.last_failure
    finally:
        os.system(_end(port))
    assert "brew services start redis" in fakes.calls


def test_homebrew_started_without_the_port_is_a_failure(
    make: Make, fakes: FakePrograms, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """brew reports "started", but the server does not answer."""
    monkeypatch.setattr(homebrew, "is_root", lambda: False)
    log = place / "postgresql@16.log"
    log.write_text("FATAL:  data directory has wrong ownership\n")
    fakes.install(
        "brew",
        {
            "list --formula -1": (0, "postgresql@14\npostgresql@16\npostgresql@9.6\n"),
            "services start postgresql@16": (0, "==> Successfully started `postgresql@16`\n"),
            "services info postgresql@16 --json": _brew_info("postgresql@16", True, error_log_path=str(log)),
        },
    )
    z = make(postgresql={"port": free_ports(1)[0], "launcher": "homebrew"})
    assert not z.comm.start_service("postgresql", timeout=0.5)
    failure = z.comm.services.last_failure
    assert failure is not None
    assert "brew services start postgresql@16 succeeded, but" in failure.message
    assert failure.log == ("FATAL:  data directory has wrong ownership",)


def test_homebrew_missing_formula_has_a_command(make: Make, fakes: FakePrograms) -> None:
    """The command names a formula that exists, not a pattern."""
    fakes.install("brew", {"list --formula -1": (0, "xz\n")})
    z = make(mongodb={"port": free_ports(1)[0], "launcher": "homebrew"})
    assert not z.comm.start_service("mongodb")
    failure = z.comm.services.last_failure
    assert failure is not None
    assert failure.command == "brew install mongodb/brew/mongodb-community"


def test_homebrew_is_never_run_as_root(make: Make, fakes: FakePrograms, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure has the command for the user who installed Homebrew."""
    monkeypatch.setattr(homebrew, "is_root", lambda: True)
    fakes.install("brew", {"list --formula -1": (0, "redis\n")})
    z = make(redis={"port": free_ports(1)[0], "launcher": "homebrew"})
    assert not z.comm.start_service("redis")
    failure = z.comm.services.last_failure
    assert failure is not None
    assert "root cannot control services of Homebrew" in failure.message
    assert failure.command is not None
    assert failure.command.startswith(("sudo -u ", "su ")), "root's own brew would refuse again"
    assert not any("services start" in call for call in fakes.calls)


# --- Windows ---

SC_QUERY = """
SERVICE_NAME: Dhcp
DISPLAY_NAME: DHCP Client
        TYPE               : 20  WIN32_SHARE_PROCESS
        STATE              : 4  RUNNING
                                (STOPPABLE, NOT_PAUSABLE, ACCEPTS_SHUTDOWN)
        WIN32_EXIT_CODE    : 0  (0x0)

SERVICE_NAME: {name}
DISPLAY_NAME: {name}
        TYPE               : 10  WIN32_OWN_PROCESS
        STATE              : {state}
        WIN32_EXIT_CODE    : 0  (0x0)
        SERVICE_EXIT_CODE  : 0  (0x0)
        CHECKPOINT         : 0x0
        WAIT_HINT          : 0x0
"""
STOPPED, RUNNING = "1  STOPPED", "4  RUNNING"
LIST = "query type= service state= all bufsize= 262144"


@pytest.mark.usefixtures("on_windows")
def test_windows_starts_the_matching_service(make: Make, fakes: FakePrograms, redis_server: Path, place: Path) -> None:
    """The service with a matching name is started and stopped."""
    port = free_ports(1)[0]
    answers = {
        LIST: (0, SC_QUERY.format(name="Redis", state=STOPPED)),
        "start Redis": (0, SC_QUERY.format(name="Redis", state="2  START_PENDING")),
        "queryex Redis": (0, SC_QUERY.format(name="Redis", state=RUNNING) + "        PID                : 0\n"),
        "stop Redis": (0, SC_QUERY.format(name="Redis", state="3  STOP_PENDING")),
    }
    fakes.install("sc", answers, {"start Redis": _serve(redis_server, port, place), "stop Redis": _end(port)})
    z = make(redis={"port": port, "launcher": "windows-service"})
    try:
        assert z.comm.start_service("redis"), z.comm.services.last_failure
        assert z.comm.stop_service("redis"), z.comm.services.last_failure
    finally:
        os.system(_end(port))
    assert {"sc start Redis", "sc stop Redis"} <= set(fakes.calls)


@pytest.mark.usefixtures("on_windows")
def test_windows_missing_right_has_the_command(make: Make, fakes: FakePrograms) -> None:
    """The failure has the command for an administrator."""
    name = "postgresql-x64-16"
    denied = "[SC] StartService: OpenService FAILED 5:\n\nAccess is denied.\n"
    answers = {LIST: (0, SC_QUERY.format(name=name, state=STOPPED)), f"start {name}": (5, denied)}
    fakes.install("sc", answers)
    z = make(postgresql={"port": free_ports(1)[0], "launcher": "windows-service"})
    assert not z.comm.start_service("postgresql")
    failure = z.comm.services.last_failure
    assert failure is not None
    assert "administrator" in failure.message
    assert failure.command == f'net start "{name}"'


@pytest.mark.skipif(sys.platform == "win32", reason="sc is Windows's own there")
def test_windows_sc_of_other_systems_is_not_run(make: Make, fakes: FakePrograms) -> None:
    """On other systems, sc is another program."""
    fakes.install("sc", {"*": (0, "a spreadsheet")})
    z = make(redis={"port": free_ports(1)[0], "launcher": "windows-service"})
    assert not z.comm.start_service("redis")
    assert "no Windows service Redis or Memurai found" in str(z.comm.services.last_failure)
    assert fakes.calls == []

"""The owner of a server: another user's server is reported and never counts as started, and neither does a record."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_programs import FakePrograms
from service_servers import until

from zcli_core.app import zCLI
from zcli_core.cli import doctor
from zcli_core.net.port_holder import holder_of
from zcli_core.services import owners
from zcli_core.services.launchers import instances, systemd
from zcli_core.services.launchers.processes import Process, descends_from, look_up
from zcli_core.services.launchers.server_folder import start_lock
from zcli_core.services.location import locate, server_paths
from zcli_core.system.trusted import is_known_user

Make = Callable[..., zCLI]

STRANGER = 65534
LINUX = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not is_known_user(STRANGER),
    reason="only Linux tells whose a socket is, and not in a user namespace",
)
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")

# A server at an address, or at a path, that answers Redis's PING. It prints its port.
SERVER = r"""
import socket, sys
host = sys.argv[1]
if host.startswith("/"):
    server = socket.socket(socket.AF_UNIX)
    server.bind(host)
    server.listen()
    print(0, flush=True)
else:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = socket.create_server((host, 0), family=family, dualstack_ipv6=host == "::")
    print(server.getsockname()[1], flush=True)
while True:
    client, _ = server.accept()
    while data := client.recv(999):
        client.sendall(b"+PONG\r\n" if b"PING" in data else b"-ERR no\r\n")
"""


@contextlib.contextmanager
def server_of(uid: int, host: str) -> Iterator[int]:
    """Another user's server; gives its port."""
    python = "/usr/bin/python3"
    if not os.access(python, os.X_OK):
        pytest.skip(f"there is no {python}, which another user could run")
    account: dict[str, Any] = {"user": uid, "group": uid, "extra_groups": []}
    with subprocess.Popen(
        [python, "-c", SERVER, host], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd="/", **account
    ) as server:
        try:
            assert server.stdout is not None
            yield int(server.stdout.readline())
        finally:
            server.kill()


# --- who listens ---


@LINUX
@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_listener_uid_own_server_is_ours(bound: str) -> None:
    """It does not matter which address the socket is bound to."""
    family = socket.AF_INET6 if ":" in bound else socket.AF_INET
    with socket.create_server((bound, 0), family=family) as server:
        port = server.getsockname()[1]
        assert owners.listener_uid(["::1" if ":" in bound else "127.0.0.1"], port) == os.geteuid()
        assert owners.listener_uid(["192.0.2.1"], port) is None, "another machine's address"


@LINUX
@AS_ROOT
@pytest.mark.parametrize("bound", ["127.0.0.1", "::", "socket"])
def test_start_strangers_server_is_refused(make: Make, place: Path, bound: str) -> None:
    """It is running, the status says whose it is, and no start calls it started."""
    folder = place / "strangers"
    folder.mkdir()
    os.chown(folder, STRANGER, STRANGER)
    path = str(folder / "redis.sock")
    with server_of(STRANGER, path if bound == "socket" else bound) as port:
        z = make(probe_timeout=5.0, redis={"host": path} if bound == "socket" else {"port": port})
        assert not z.comm.start_service("redis")
        name = pwd.getpwuid(STRANGER).pw_name
        assert f"belongs to the user {name} (uid {STRANGER})" in str(z.comm.services.last_failure)
        status = z.comm.service_status("redis")
        assert (status["running"], status["owner"], status["owner_trusted"]) == (True, name, False)
        log = place / "logs" / "services.log"
        assert "who can read all data sent to it" not in log.read_text()
        assert z.comm.get_service_connection_info("redis") is not None
        assert f"belongs to the user {name}, who can read all data sent to it" in log.read_text()
        state, text = doctor._service(z.comm.services, "redis")
        assert (state, f"another user, {name}" in text) == ("warning", True)


@LINUX
@AS_ROOT
@pytest.mark.parametrize("uid", [STRANGER, STRANGER - 1])
def test_start_server_of_a_units_user_is_trusted(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int
) -> None:
    """Systemd says which user the unit has, also one that it made up, and an ordinary user may ask."""
    fakes = FakePrograms(tmp_path / "fakes")
    monkeypatch.setenv("PATH", fakes.path)
    monkeypatch.setattr(systemd, "BOOTED", tmp_path)
    state = "Type=notify\nMainPID=0\nLoadState=loaded\nActiveState=active\nSubState=running\n"
    asked = {
        "show -p LoadState,ActiveState,SubState,MainPID,Type redis-server": (0, state),
        "show -p ActiveState,UID redis-server": (0, f"ActiveState=active\nUID={uid}\n"),
    }
    fakes.install("systemctl", asked)
    with server_of(STRANGER, "127.0.0.1") as port:
        z = make(probe_timeout=5.0, redis={"port": port})
        assert z.comm.start_service("redis") == (uid == STRANGER)
        assert z.comm.service_status("redis")["owner_trusted"] == (uid == STRANGER)


@LINUX
@AS_ROOT
def test_listener_uid_of_two_names_the_stranger() -> None:
    """A client of localhost may be connected to either of its addresses."""
    with server_of(STRANGER, "::1") as port, socket.create_server(("127.0.0.1", port)):
        assert owners.listener_uid(["127.0.0.1"], port) == os.geteuid()
        assert owners.listener_uid(["127.0.0.1", "::1"], port) == STRANGER


@LINUX
@AS_ROOT
def test_start_own_server_of_another_account_is_trusted(make: Make, place: Path) -> None:
    """Our record proves it, although the account of that name is not one of the system's."""
    data = place / "data"
    data.mkdir(mode=0o700)
    os.chown(data, STRANGER, STRANGER)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    z = make(redis={"port": port, "launcher": "local", "data_dir": str(data)})
    assert z.comm.start_service("redis"), z.comm.services.last_failure
    status = z.comm.service_status("redis")
    assert (status["owner"], status["owner_trusted"]) == (pwd.getpwuid(STRANGER).pw_name, True)
    held = instances.find_running(place / "services", "redis", data)
    assert held is not None
    assert (held.process.uid, bool(held.process.program), bool(held.process.folder)) == (STRANGER, True, True)
    assert z.comm.stop_service("redis"), z.comm.services.last_failure


def test_trusted_users_are_ours_and_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is login.defs's, and 1000 without one."""
    defs = tmp_path / "login.defs"
    monkeypatch.setattr(owners, "_LOGIN_DEFS", str(defs))
    assert [owners.is_trusted(uid) for uid in (0, os.geteuid(), 999, 1_000_001)] == [True, True, True, False]
    defs.write_text("# UID_MIN 5\nUID_MIN\t\t  500 # people\n")
    assert [owners.is_trusted(uid) for uid in (499, 999_999)] == [True, False]


@pytest.mark.parametrize(
    ("status", "named"),
    [
        ({}, True),
        ({"needs_auth": True}, False),
        ({"needs_auth": None}, False),
        ({"owner": None}, False),
        ({"connection_info": {"host": "/run/redis.sock"}}, False),
    ],
)
def test_doctor_open_service_names_other_people(
    monkeypatch: pytest.MonkeyPatch, status: dict[str, Any], named: bool
) -> None:
    """Only people who can log in, and only for a server on this machine that wants no login."""
    me = os.geteuid() if 1000 <= os.geteuid() <= 60_000 else 1000
    monkeypatch.setattr(os, "geteuid", lambda: me)
    monkeypatch.setattr(owners, "_LOGIN_DEFS", "/missing")
    people = [
        ("daemon", 1, "/bin/sh"), ("ann", me + 1, "/bin/sh"), ("git", me + 2, "/usr/sbin/nologin"),
        ("me", me, "/bin/sh"),
    ]  # fmt: skip
    accounts = [SimpleNamespace(pw_name=name, pw_uid=uid, pw_shell=shell) for name, uid, shell in people]
    monkeypatch.setattr(pwd, "getpwall", lambda: accounts)
    found = {"needs_auth": False, "owner": "redis", "connection_info": {"host": "127.0.0.1"}, **status}
    assert doctor._other_users(found) == ("every user of this machine (ann)" if named else "")


# --- records ---


@pytest.fixture
def sleeper() -> Iterator[int]:
    """A process of ours."""
    with subprocess.Popen(["sleep", "100"]) as process:
        until(lambda: (found := look_up(process.pid)) is not None and found.name == "sleep", "it runs")
        yield process.pid
        process.kill()


def _record(folder: Path, pid: int) -> Path:
    process = look_up(pid)
    assert process is not None
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)
    instances.write(folder, instances.Instance(process, "127.0.0.1", 6379, "/usr/bin/redis-server"))
    return folder / "instance.json"


@pytest.mark.parametrize("change", ["none", "folder for all", "file for all", "file of a link", "huge"])
def test_record_that_others_may_write_is_none(place: Path, sleeper: int, change: str) -> None:
    """What any user could have written names no process of ours."""
    folder = place / "services" / "redis"
    file = _record(folder, sleeper)
    assert file.stat().st_mode & 0o777 == 0o600
    if change == "folder for all":
        folder.chmod(0o777)
    elif change == "file for all":
        file.chmod(0o666)
    elif change == "file of a link":
        target = file.rename(place / "elsewhere.json")
        target.chmod(0o666)
        file.symlink_to(target)
    elif change == "huge":
        file.write_text(json.dumps({**json.loads(file.read_text()), "more": "x" * 200_000}))
    assert (instances.find_running(place / "services", "redis", None) is not None) == (change == "none")


def test_server_that_ended_after_it_was_located_is_not_ours(make: Make, place: Path) -> None:
    """Where the system does not report the owner of a port, another server may have answered the probe."""
    services = make().comm.services
    backend = services._backends.get("redis")
    (place / "services" / "redis" / "data").mkdir(parents=True, mode=0o700)
    with subprocess.Popen(["sleep", "100"]) as process:
        until(lambda: (found := look_up(process.pid)) is not None and found.name == "sleep", "it runs")
        _record(place / "services" / "redis", process.pid)
        found = locate(services._config, backend, backend.target(), fixed=False)
        assert server_paths(services._config, backend, found, None, services._log) is not None
        process.kill()
    assert server_paths(services._config, backend, found, None, services._log) is None


@AS_ROOT
@pytest.mark.parametrize("whose", ["file", "folder", "both"])
def test_record_of_a_stranger_names_no_process_of_ours(place: Path, sleeper: int, whose: str) -> None:
    """Root believes it of the stranger's own processes only."""
    folder = place / "services" / "redis"
    with subprocess.Popen(["sleep", "100"], user=STRANGER, group=STRANGER, extra_groups=[]) as other:
        try:
            until(lambda: (found := look_up(other.pid)) is not None and found.name == "sleep", "it runs")
            for pid, believed in ((sleeper, False), (other.pid, whose != "folder")):
                file = _record(folder, pid)
                for path in {"file": [file], "folder": [folder], "both": [file, folder]}[whose]:
                    os.chown(path, STRANGER, STRANGER)
                running = instances.find_running(place / "services", "redis", None)
                assert (running is not None) == believed
                os.chown(folder, 0, 0)
        finally:
            other.kill()


@AS_ROOT
def test_record_that_is_a_strangers_pipe_is_none(place: Path) -> None:
    """Root does not wait for the stranger to write it."""
    folder = place / "services" / "redis"
    folder.mkdir(parents=True)
    os.chown(folder, STRANGER, STRANGER)
    for name in ("instance.json", "written.json"):
        os.mkfifo(folder / name, 0o644)
        os.chown(folder / name, STRANGER, STRANGER)
    assert instances.find_running(place / "services", "redis", None) is None
    assert instances.read_written(folder) == instances.Written()


@LINUX
@AS_ROOT
def test_record_of_a_stranger_does_not_make_a_server_ours(make: Make, place: Path) -> None:
    """Root does not report the stranger's server as started, nor take the service's port from the record."""
    with server_of(STRANGER, "127.0.0.1") as port:
        z = make(probe_timeout=5.0, redis={"port": port})
        folder = place / "services" / "redis"
        entry = holder_of(port, ["127.0.0.1"])
        assert entry is not None
        assert entry.pid is not None
        file = _record(folder, entry.pid)
        file.write_text(json.dumps({**json.loads(file.read_text()), "port": port}))
        for uid, is_ours in ((STRANGER, False), (0, True)):
            os.chown(file, uid, uid)
            os.chown(folder, uid, uid)
            assert instances.find_running(place / "services", "redis", None) is not None
            assert z.comm.start_service("redis") == is_ours
            assert z.comm.service_status("redis")["owner_trusted"] == is_ours
            assert (make().comm.service_status("redis")["port"] == port) == is_ours


@pytest.mark.parametrize("changed", [{"uid": 12345}, {"program": "/bin/other"}, {"folder": "1:2"}, {"started": "0"}])
def test_process_with_another_mark_is_another(changed: dict[str, Any]) -> None:
    """A number is given again; user, program and working folder tell which process has it."""
    ours = look_up(os.getpid())
    assert ours is not None
    assert (ours.uid, os.path.realpath(ours.program)) == (os.getuid(), os.path.realpath(sys.executable))
    assert not ours.same_as(ours._replace(**changed))
    assert ours.same_as(Process(ours.pid, ours.started, ""))


def test_descends_from_the_first_process_is_no_proof() -> None:
    """Every process does, so a manager's record with that number would prove anything."""
    with subprocess.Popen(["sleep", "100"]) as child:
        assert descends_from(child.pid, os.getpid())
        child.kill()
    assert not descends_from(os.getpid(), 1) or os.getpid() == 1


def test_lock_is_held_by_its_owner_only(place: Path) -> None:
    """Every user who may open a file may lock it, also one from before."""
    (place / "lock").touch(0o644)
    with start_lock(place, lambda: 0):
        assert (place / "lock").stat().st_mode & 0o777 == 0o600

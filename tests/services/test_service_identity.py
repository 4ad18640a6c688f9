"""The server that a call refers to: never one of another machine, folder, manager, or a later process."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_programs import FakePrograms
from service_servers import free_ports, redis, until
from zcli_mongodb.backend import MongodbBackend

from zcli_core.app import zCLI
from zcli_core.net.port_holder import PortHolder
from zcli_core.net.ports import port_holder
from zcli_core.services.contract import LaunchError
from zcli_core.services.failures import ServiceFailure
from zcli_core.services.launchers import instances, managers, server_folder, systemd
from zcli_core.services.launchers.processes import look_up
from zcli_core.services.launchers.server_folder import make_instance_folder

Make = Callable[..., zCLI]


def failed(z: zCLI) -> ServiceFailure:
    failure = z.comm.services.last_failure
    assert failure is not None
    return failure


# --- the machine ---


@pytest.mark.parametrize("action", ["stop_service", "restart_service"])
def test_change_of_remote_service_keeps_the_local(make: Make, local: tuple[zCLI, int], action: str) -> None:
    """A server on the same port of this machine is another server."""
    z, port = local
    remote = make(redis={"host": "192.0.2.1", "port": port}, probe_timeout=0.2)
    assert not getattr(remote.comm, action)("redis")
    assert "services.redis.host is 192.0.2.1, which is not this machine" in failed(remote).message
    assert z.comm.service_status("redis")["ready"]


def test_stop_at_another_address_keeps_the_local(make: Make, local: tuple[zCLI, int]) -> None:
    """Each address of this machine has its own ports."""
    z, port = local
    other = make(redis={"host": "127.0.0.2", "port": port})
    assert not other.comm.service_status("redis")["running"]
    assert other.comm.stop_service("redis"), "nothing runs there"
    assert z.comm.service_status("redis")["ready"]


def test_remote_host_without_port_is_not_local(make: Make, local: tuple[zCLI, int]) -> None:
    """A local server is used only if the settings name this machine."""
    z, port = local
    assert make().comm.service_status("redis")["port"] == port
    remote = make(redis={"host": "192.0.2.1"}, probe_timeout=0.2)
    assert (status := remote.comm.service_status("redis"))["port"] == 6379, status
    assert not status["running"]
    assert z.comm.service_status("redis")["ready"]


# --- the data folder ---

NAMES = ["link", "relative", "slash", "bind", "other services.folder", "default by its name"]


@contextlib.contextmanager
def other_name(kind: str, data: Path, place: Path) -> Iterator[str]:
    """The same folder by another name."""
    other = place / "other"
    if kind == "link":
        other.symlink_to(data)
    elif kind == "bind":
        other.mkdir()
        if subprocess.run(["mount", "--bind", data, other], check=False, capture_output=True).returncode:
            pytest.skip("bind mounts are not permitted on this machine")
    try:
        yield {
            "link": str(other),
            "bind": str(other),
            "relative": os.path.relpath(data),
            "slash": f"{data}{os.sep}",
        }.get(kind, str(data))
    finally:
        if kind == "bind":
            subprocess.run(["umount", other], check=True)


@pytest.mark.parametrize("kind", NAMES)
def test_folder_by_another_name_gets_one_server(make: Make, place: Path, kind: str) -> None:
    """A second server on it is refused with the port of the first. On the same port it is found and stopped."""
    port, second = free_ports(2)
    data = place / "services" / "redis" / "data" if kind == "default by its name" else place / "real"
    own = {} if kind == "default by its name" else {"data_dir": data}
    z = make(redis={"launcher": "local"})
    other = make(folder=str(place / "elsewhere")) if kind == "other services.folder" else make()
    assert z.comm.start_service("redis", port=port, **own), z.comm.services.last_failure
    with other_name(kind, data, place) as name:
        assert not other.comm.start_service("redis", port=second, data_dir=name, launcher="local", timeout=10)
        # In a container without the right to look into other accounts' processes, only the lock is seen.
        hidden = kind == "other services.folder" and "locked by a server that this user cannot" in failed(other).message
        assert f"on port {port}" in failed(other).message or hidden
        assert failed(other).command is None
        assert other.comm.start_service("redis", port=port, data_dir=name), "it runs"
        if kind == "other services.folder":
            assert z.comm.stop_service("redis", port=port, **own), z.comm.services.last_failure
        else:
            assert other.comm.stop_service("redis", port=port, data_dir=name), other.comm.services.last_failure
    assert not z.comm.service_status("redis")["running"]
    assert z.comm.start_service("redis", port=second, **own), "the folder is free again"


def test_second_port_on_a_folder_names_the_first(make: Make, local: tuple[zCLI, int]) -> None:
    """The first server is healthy, so the failure has no command."""
    z, port = local
    assert not make().comm.start_service("redis", port=free_ports(1)[0], launcher="local", timeout=5)
    other = make()
    assert not other.comm.start_service("redis", port=free_ports(1)[0], launcher="local", timeout=5)
    assert f"already has a server: {_name(z, port)}" in failed(other).message
    assert failed(other).command is None


def _name(z: zCLI, port: int) -> str:
    held = instances.find_running(z.comm.services._settings.folder, "redis", None)
    assert held is not None
    return f"{held.process.name} (pid {held.process.pid}) on port {port}"


def test_folder_of_a_foreign_server_is_refused(make: Make, redis_server: Path, place: Path) -> None:
    """The server works in that folder, as Debian's Redis does in /var/lib/redis."""
    with redis(redis_server, place) as port:
        z = make()
        data = place / f"redis-{port}"
        data.chmod(0o777)
        options = {"data_dir": data, "launcher": "local"}
        assert not z.comm.start_service("redis", port=free_ports(1)[0], timeout=10, **options)
        assert f"on port {port}" in failed(z).message


# --- the process ---


@pytest.mark.usefixtures("stand_in")
def test_pid_file_of_another_folder_is_stale(make: Make, place: Path) -> None:
    """The id in the file now belongs to a server of another folder."""
    port, other_port = free_ports(2)
    z = make(mongodb={"launcher": "local"})
    assert z.comm.start_service("mongodb", port=other_port, data_dir=place / "other"), z.comm.services.last_failure
    other = int((place / "other" / "server.pid").read_text().split()[0])
    data = place / "mine"
    assert z.comm.start_service("mongodb", port=port, data_dir=data), z.comm.services.last_failure
    held = instances.find_running(place / "services", "mongodb", data)
    assert held is not None
    os.kill(held.process.pid, signal.SIGKILL)
    until(lambda: look_up(held.process.pid) is None, "it is dead")
    (data / "server.pid").write_text(f"{other}\n")
    assert z.comm.start_service("mongodb", port=port, data_dir=data), z.comm.services.last_failure
    assert look_up(other) is not None


# --- the manager ---


@pytest.mark.parametrize("main_pid", ["another", "unknown", "it"])
def test_manager_stops_only_the_units_process(
    make: Make, redis_server: Path, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, main_pid: str
) -> None:
    """Without proof the unit is not stopped, and the command names the process that holds the port."""
    fakes = FakePrograms(tmp_path / "fakes")
    monkeypatch.setenv("PATH", fakes.path)
    (tmp_path / "booted").mkdir()
    monkeypatch.setattr(systemd, "BOOTED", tmp_path / "booted")
    with redis(redis_server, place) as port, subprocess.Popen(["sleep", "1000"]) as sleeper:
        z = make(redis={"port": port})
        holder = port_holder(port)
        assert holder is not None
        pid = {"another": sleeper.pid, "unknown": 0, "it": holder.pid}[main_pid]
        state = f"Type=notify\nMainPID={pid}\nLoadState=loaded\nActiveState=active\nSubState=running\n"
        fakes.install(
            "systemctl",
            {
                "show -p LoadState,ActiveState,SubState,MainPID,Type redis-server": (0, state),
                "--no-ask-password stop redis-server": (0, ""),
            },
            {"--no-ask-password stop redis-server": f"kill {holder.pid}"},
        )
        stopped = z.comm.stop_service("redis")
        sleeper.kill()
        assert stopped is (main_pid == "it")
        calls = [call for call in fakes.calls if " stop " in call]
        assert len(calls) == (main_pid == "it")
        if main_pid != "it":
            assert "no launcher of zCLI started it" in failed(z).message
            assert failed(z).command == f"kill {holder.pid}"


# --- still starting ---


def test_start_of_a_published_port_waits(make: Make, place: Path) -> None:
    """The port of a proxy accepts connections before the server behind it does."""
    with socket.create_server(("127.0.0.1", 0)) as published:
        port = int(published.getsockname()[1])
        turned_away = threading.Event()

        def serve() -> None:
            with contextlib.suppress(OSError):
                for number in range(1000):
                    connection, _ = published.accept()
                    with connection:
                        if number < 4:
                            continue
                        turned_away.set()
                        connection.settimeout(5)
                        while connection.recv(4096):
                            connection.sendall(b"+PONG\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        z = make(redis={"port": port}, probe_timeout=0.5)
        assert z.comm.start_service("redis", timeout=20), z.comm.services.last_failure
        assert turned_away.is_set()
        published.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert not (place / "services").exists(), "no second server"


# --- the Unix socket ---


def test_local_server_at_another_address_is_refused(make: Make) -> None:
    """The server would listen on loopback and would not be found at that address."""
    z = make(redis={"host": "127.0.0.2", "port": free_ports(1)[0], "launcher": "local"})
    assert not z.comm.start_service("redis")
    assert "services.redis.host is 127.0.0.2; zCLI starts servers on the loopback" in failed(z).message


@pytest.mark.parametrize("name", ["postgresql", "redis"])
def test_unix_socket_is_started_and_stopped(make: Make, place: Path, name: str) -> None:
    """For PostgreSQL the host is the folder of the socket, for Redis the socket."""
    sockets = place / "s"
    sockets.mkdir(mode=0o777)
    sockets.chmod(0o777)
    host = sockets if name == "postgresql" else sockets / "redis.sock"
    port = free_ports(1)[0]
    z = make(**{name: {"host": str(host), "port": port, "launcher": "local"}})
    assert z.comm.start_service(name), z.comm.services.last_failure
    assert z.comm.service_status(name)["ready"]
    assert z.comm.check_port(port), "it listens on the socket only"
    assert z.comm.restart_service(name), z.comm.services.last_failure
    assert z.comm.stop_service(name), z.comm.services.last_failure
    assert not z.comm.service_status(name)["running"]


def test_unix_socket_of_a_service_without_one_is_refused(make: Make, place: Path) -> None:
    """The error says that only a TCP port is possible."""
    assert not any(method.unix_socket for method in MongodbBackend.launchers if hasattr(method, "unix_socket"))
    z = make(mongodb={"host": str(place / "mongodb.sock"), "launcher": "local"})
    assert not z.comm.start_service("mongodb")
    assert "on a TCP port only" in failed(z).message


# --- the commands in errors ---

_ID = "0123456789ab" + "c" * 52


@pytest.mark.parametrize(
    ("name", "group", "command"),
    [
        ("redis-server", f"0::/system.slice/docker-{_ID}.scope\n", "docker stop 0123456789ab"),
        ("redis-server", f"12:pids:/docker/{_ID}\n", "docker stop 0123456789ab"),
        ("redis-server", f"0::/machine.slice/libpod-{_ID}.scope/container\n", "podman stop 0123456789ab"),
        ("docker-proxy", "0::/system.slice/docker.service\n", "docker stop $(docker ps -q --filter publish=6379)"),
        ("redis-server", "0::/system.slice/my-redis.service\n", "systemctl stop my-redis.service"),
        ("redis-server", "0::/user.slice/user-0.slice/session-1.scope\n", "kill 812"),
    ],
)
def test_stop_command_is_the_managers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, group: str, command: str
) -> None:
    """The manager would restart a killed process."""
    fakes = FakePrograms(tmp_path / "fakes")
    fakes.install("systemctl", {})
    monkeypatch.setenv("PATH", fakes.path)
    monkeypatch.setattr(systemd, "BOOTED", tmp_path)
    monkeypatch.setattr(managers, "_control_group", lambda pid: group if pid == 812 else "")
    monkeypatch.setattr(managers, "as_root", lambda *words: " ".join(words))
    assert managers.stop_command(PortHolder(812, name, "alice"), 6379) == command


@pytest.mark.parametrize("taken", [False, True])
def test_folder_that_cannot_be_made_has_a_command_that_needs_no_rights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    """After the command, services.folder is a folder that our user can write, also if the command was run before.

    Another user may have taken the usual name.
    """
    monkeypatch.setattr(server_folder, "_KEPT", str(tmp_path))
    if taken:
        (tmp_path / f"zcli-{os.geteuid()}").touch()
    for _ in range(2):
        with pytest.raises(LaunchError, match="cannot make the folder") as caught:
            make_instance_folder(Path("/proc/none/services/redis"), None)
        command = f"{caught.value.command} && touch $ZCLI_SERVICES_FOLDER/x"
        done = subprocess.run(["sh", "-c", command], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

"""Wrong arguments, and faults of servers, folders and records: each failure has the cause and what to do."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from installations import Site
from needs import needs
from ordinary_user import OrdinaryUser
from public_python import public_interpreter
from service_servers import CannedServer, Cluster, free_ports, redis, until

from zcli_core.app import zCLI
from zcli_core.services.failures import ServiceFailure
from zcli_core.services.launchers import instances
from zcli_core.services.launchers.commands import as_root
from zcli_core.services.launchers.processes import look_up

Make = Callable[..., zCLI]
CALLS = ["service_status", "get_service_connection_info", "start_service", "stop_service", "restart_service"]

ODD_SERVERS = """
from zcli_core.services.contract import (
    ProbeResult,
    Exchange,
    Install,
    LocalProcess,
    NotThisService,
    ServiceBackend,
    lines,
)

STUBBORN = "trap '' TERM; while :; do sleep 0.1; done"

class Odd(ServiceBackend):
    def __init__(self, context, name, program, *arguments):
        super().__init__(context)
        self.name = self.title = name
        self.default_port = 7
        self.arguments = arguments
        self.launchers = (LocalProcess(programs=(program,)),)
        self.install = Install(apt="odd-server", brew="odd", pip="zcli-odd[server]")

    def probe(self, target):
        reply = yield Exchange(b"hello\\n", lines())
        if reply == b"break\\n":
            raise ZeroDivisionError("a backend with a fault")
        raise NotThisService(reply)

    def command(self, place):
        return [str(place.program), *self.arguments]

class Mute(Odd):
    def command(self, place):
        return [str(place.program), "-c", f"echo $$ > {place.data}/pid; exec sleep 1000"]

@hookimpl
def zcli_service_backends():
    return [
        Provider("absent", "", lambda context: Odd(context, "absent", "no-such-server-anywhere")),
        Provider("mute", "", lambda context: Mute(context, "mute", "sh")),
        Provider("fleeting", "", lambda context: Odd(context, "fleeting", "sh", "-c", "echo I cannot; echo at all")),
        Provider("stubborn", "", lambda context: Odd(context, "stubborn", "sh", "-c", STUBBORN)),
    ]
"""


@pytest.fixture
def odd(site: Site) -> None:
    """Services whose servers are not installed, never answer, or end at once."""
    site.plugin("odd_servers", ODD_SERVERS)


def failed(z: zCLI) -> ServiceFailure:
    failure = z.comm.services.last_failure
    assert failure is not None
    return failure


def tree(folder: Path) -> dict[str, str]:
    """Return every file below a folder, with a digest of its content."""
    files = [each for each in folder.rglob("*") if each.is_file()]
    return {str(each.relative_to(folder)): sha256(each.read_bytes()).hexdigest() for each in files}


# --- names and options ---


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", ["", None, 5, "postgre", "Redis!", ["redis"], b"redis", True])
def test_unknown_name_lists_the_services(make: Make, call: str, name: Any) -> None:
    """The error lists the known services."""
    with pytest.raises(ValueError) as caught:
        getattr(make().comm, call)(name)
    assert "known services: mongodb, nats, postgresql, redis" in str(caught.value)
    if name == "postgre":
        assert "did you mean 'postgres" in str(caught.value)


def test_status_without_name_has_all_services(make: Make) -> None:
    """The status of all services is a dict by name."""
    z = make()
    assert list(z.comm.service_status()) == z.comm.services.names == ["mongodb", "nats", "postgresql", "redis"]
    assert z.comm.health_check_all().keys() == {"mongodb", "nats", "postgresql", "redis"}


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"port": 70000}, "between 1 and 65535"),
        ({"port": "5432"}, "without quotes"),
        ({"timeout": 0}, "above 0"),
        ({"timeout": float("nan")}, "above 0"),
        ({"launcher": "sytemd"}, "did you mean 'systemd'"),
        ({"launcher": "debian-cluster"}, "unknown launcher 'debian-cluster' of redis"),
        ({"data_dir": ""}, "data_dir must be the path of a folder"),
        ({"data_dir": 5}, "data_dir must be the path of a folder"),
    ],
)
def test_invalid_option_is_refused(make: Make, option: dict[str, Any], said: str) -> None:
    """The error names the option."""
    with pytest.raises(ValueError, match=said):
        make().comm.start_service("redis", **option)


def test_unknown_option_is_a_type_error(make: Make) -> None:
    """A misspelt option is not ignored."""
    with pytest.raises(TypeError, match="prot"):
        make().comm.start_service("redis", prot=5)


def test_unknown_launcher_names_its_setting(make: Make) -> None:
    """The error has the setting and the known launchers."""
    with pytest.raises(ValueError, match=r"services\.redis\.launcher"):
        make(redis={"launcher": "docker"}).comm.start_service("redis")


# --- not there, not allowed ---


@pytest.mark.usefixtures("odd")
def test_start_not_installed_says_what_to_install(make: Make) -> None:
    """The failure has the command."""
    z = make()
    status = z.comm.service_status("absent")
    assert (status["running"], status["state"]) == (False, "stopped")
    assert "not installed" in status["error"]
    assert not z.comm.start_service("absent")
    failure = failed(z)
    assert "absent is not installed" in failure.message
    assert "pip install 'zcli-odd[server]'" in failure.message
    if shutil.which("apt-get"):
        assert failure.command == as_root("apt-get", "install", "odd-server")
    assert not z.comm.start_service("absent", launcher="local")
    assert failed(z) == failure


def test_mongodb_not_installed_names_its_extra(place: Path) -> None:
    """The machine has neither mongod nor the stand-in, and the user has no rights."""
    if shutil.which("mongod") or Path(public_interpreter()).with_name("nx-27017").exists():
        pytest.skip("this user has a MongoDB, or the stand-in, here")
    user = OrdinaryUser(place)
    (user.bin / "nx-27017").unlink()
    said = user.run(
        "from zCLI import zCLI\n"
        'z = zCLI({"deployment": "Testing", "logger": "PROD"})\n'
        f'print(z.comm.start_service("mongodb", port={free_ports(1)[0]}), z.comm.services.last_failure)\n'
        "z.close()\n"
    )
    assert said.startswith("False mongodb: MongoDB is not installed; ")
    assert said.count("pip install 'nx-27017>=0.8'") == 1


def test_start_on_another_machine_is_refused(make: Make) -> None:
    """Only the status works for another machine."""
    z = make(redis={"host": "192.0.2.1"}, probe_timeout=0.2)
    assert not z.comm.start_service("redis")
    assert "services.redis.host is 192.0.2.1, which is not this machine" in failed(z).message


def test_stop_foreign_server_has_the_command(make: Make, redis_server: Path, place: Path) -> None:
    """A server that zCLI did not start keeps running, and the failure has the command."""
    with redis(redis_server, place) as port:
        z = make(redis={"port": port})
        assert z.comm.start_service("redis"), "it runs, so there is nothing to start"
        assert not z.comm.stop_service("redis")
        failure = failed(z)
        assert "no launcher of zCLI started it (redis-server (pid" in failure.message
        assert failure.command is not None
        assert failure.command.startswith("kill ")
        assert not z.comm.restart_service("redis")
        assert z.comm.service_status("redis")["ready"]


def test_stop_does_not_stop_ours_at_another_port(make: Make, redis_server: Path, place: Path) -> None:
    """The server that answers is on another port than the one that zCLI started."""
    ours = make(redis={"port": free_ports(1)[0], "launcher": "local"})
    assert ours.comm.start_service("redis"), ours.comm.services.last_failure
    with redis(redis_server, place) as port:
        theirs = make(redis={"port": port})
        assert not theirs.comm.stop_service("redis")
        assert "no launcher of zCLI started it" in failed(theirs).message
        assert theirs.comm.service_status("redis")["ready"]
    assert ours.comm.service_status("redis")["ready"]
    assert ours.comm.stop_service("redis")


# --- the port ---


@pytest.mark.parametrize("name", ["postgresql", "redis", "mongodb"])
def test_start_taken_port_is_a_failure(make: Make, place: Path, name: str) -> None:
    """Another protocol answers at the port."""
    with CannedServer(b"SSH-2.0-OpenSSH_9.2\r\n", first=True) as server:
        z = make(**{name: {"port": server.port}})
        assert not z.comm.start_service(name)
        assert f"127.0.0.1:{server.port}: another protocol answers there" in failed(z).message
        assert z.comm.stop_service(name), "the service itself is not running"
    assert not (place / "services").exists(), "nothing was prepared"


def test_start_bound_port_has_the_servers_error(make: Make) -> None:
    """The port is bound without listening."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        z = make(redis={"port": held.getsockname()[1], "launcher": "local"})
        assert not z.comm.start_service("redis")
    assert any("in use" in line for line in failed(z).log), failed(z)


# --- the server ---


@pytest.mark.usefixtures("odd")
def test_start_server_that_ends_has_its_log(make: Make) -> None:
    """The failure has the last lines of its log."""
    z = make()
    began = time.monotonic()
    assert not z.comm.start_service("fleeting", port=free_ports(1)[0])
    assert time.monotonic() - began < 20
    assert failed(z).message == "sh ended at once"
    assert failed(z).log == ("I cannot", "at all")


@pytest.mark.usefixtures("odd")
def test_start_silent_server_is_ended(make: Make, place: Path) -> None:
    """It is ended after the timeout."""
    z = make()
    assert not z.comm.start_service("mute", port=free_ports(1)[0], timeout=1)
    assert "did not answer within 1 s, and was ended" in failed(z).message
    assert instances.find_running(place / "services", "mute", None) is None
    started = int((place / "services" / "mute" / "data" / "pid").read_text())
    assert look_up(started) is None, "the server is still running"


@pytest.mark.usefixtures("odd")
def test_start_probe_of_a_backend_fails(make: Make) -> None:
    """An error in the code of a probe raises nothing."""
    with CannedServer(b"break\n", first=False) as server:
        z = make()
        z.comm.start_service("mute", port=server.port)
        assert not z.comm.start_service("mute", port=server.port)
        assert str(server.port) in failed(z).message


# --- the data folder ---


def _cluster_for(make: Make, data: Path) -> zCLI:
    return make(postgresql={"port": free_ports(1)[0], "launcher": "local", "data_dir": str(data)})


def test_start_corrupt_cluster_has_the_log(make: Make, cluster: Cluster) -> None:
    """The failure has the server's log, and the data is not changed."""
    control = cluster.data / "global" / "pg_control"
    control.write_bytes(b"\0" * control.stat().st_size)
    before = tree(cluster.data)
    z = _cluster_for(make, cluster.data)
    assert not z.comm.start_service("postgresql")
    assert failed(z).message == "postgres ended at once"
    assert any("FATAL" in line or "PANIC" in line for line in failed(z).log), failed(z)
    assert tree(cluster.data) == before


def test_start_corrupt_redis_data_has_the_log(make: Make, place: Path) -> None:
    """The failure has the server's log, and the data is not changed."""
    z = make(redis={"port": free_ports(1)[0], "launcher": "local"})
    assert z.comm.start_service("redis"), z.comm.services.last_failure
    assert z.comm.stop_service("redis")
    data = place / "services" / "redis" / "data"
    base = next(data.rglob("*.base.rdb"))
    base.write_bytes(b"this is not Redis data" * 10)
    before = tree(data)
    assert not z.comm.start_service("redis")
    assert any("rdb" in line.lower() or "format" in line.lower() for line in failed(z).log), failed(z)
    assert tree(data) == before


def test_start_folder_with_other_files_is_refused(make: Make, place: Path) -> None:
    """The files are not changed."""
    data = place / "photos"
    data.mkdir()
    (data / "holiday.jpg").write_bytes(b"x")
    if os.geteuid() == 0:
        for each in (data, data / "holiday.jpg"):
            shutil.chown(each, 65534, 65534)
    z = _cluster_for(make, data)
    assert not z.comm.start_service("postgresql")
    assert "neither empty nor a PostgreSQL cluster" in failed(z).message
    assert list(tree(data)) == ["holiday.jpg"]


def test_start_cluster_of_another_version_is_refused(make: Make, cluster: Cluster) -> None:
    """The failure has the version that is needed."""
    (cluster.data / "PG_VERSION").write_text("9.1\n")
    z = _cluster_for(make, cluster.data)
    assert not z.comm.start_service("postgresql")
    assert "is from PostgreSQL 9.1, and no program of that version is installed" in failed(z).message


@pytest.mark.parametrize("reused", [False, True], ids=["a pid that is gone", "a pid that is another program's"])
def test_start_after_kill_with_stale_pid_file(make: Make, cluster: Cluster, reused: bool) -> None:
    """PostgreSQL refuses to start while a process of its account has the id in its pid file."""
    z = _cluster_for(make, cluster.data)
    with subprocess.Popen(["sleep", "1000"], **_account_of(cluster.data)) as other:
        number = other.pid
        if not reused:
            other.kill()
            other.wait()
        text = f"{number}\n{cluster.data}\n0\n5432\n\n127.0.0.1\n"
        (cluster.data / "postmaster.pid").write_text(text)
        try:
            assert z.comm.start_service("postgresql"), z.comm.services.last_failure
            assert other.poll() is None or not reused
            assert z.comm.stop_service("postgresql"), z.comm.services.last_failure
            assert other.poll() is None or not reused, "another process was taken for the server"
        finally:
            other.kill()


def _account_of(folder: Path) -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    owner = folder.stat()
    return {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}


def test_record_with_a_reused_pid_is_ignored(make: Make, place: Path) -> None:
    """The process is not taken for the server and never gets a signal."""
    folder = place / "services" / "redis"
    folder.mkdir(parents=True)
    port = free_ports(1)[0]
    z = make(redis={"port": port, "launcher": "local"})
    with subprocess.Popen(["sleep", "1000"]) as other:
        try:
            until(lambda: look_up(other.pid), "it is there")
            process = look_up(other.pid)
            assert process is not None
            for wrong in (process._replace(started="1"), process._replace(name="redis-server")):
                instances.write(folder, instances.Instance(wrong, "127.0.0.1", port, "/usr/bin/redis-server"))
                assert z.comm.stop_service("redis")
                assert not z.comm.service_status("redis")["running"]
                assert other.poll() is None
            assert z.comm.start_service("redis"), z.comm.services.last_failure
            assert z.comm.stop_service("redis")
            assert other.poll() is None
        finally:
            other.kill()


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": "x"}', '{"pid": 1}'])
def test_record_that_is_damaged_is_ignored(make: Make, place: Path, text: str) -> None:
    """The service then counts as not started by zCLI."""
    folder = place / "services" / "redis"
    folder.mkdir(parents=True)
    (folder / "instance.json").write_text(text)
    z = make(redis={"port": free_ports(1)[0]})
    assert z.comm.service_status("redis")["state"] == "stopped"
    assert z.comm.stop_service("redis")


def test_start_unwritable_folder_has_the_command(place: Path) -> None:
    """The command makes the folder writable."""
    user = OrdinaryUser(place)
    user.install_sudo()
    locked = place / "locked"
    locked.mkdir(mode=0o755)
    (locked / "something").touch()
    if os.geteuid() != 0:
        locked.chmod(0o555)
    script = (
        "from zCLI import zCLI\n"
        'z = zCLI({{"deployment": "Testing", "logger": "PROD", "services": {{{}}}}})\n'
        'print(z.comm.start_service("redis", port={}, launcher="local"), z.comm.services.last_failure)\n'
        "z.close()\n"
    )
    needs("redis-server", "redis-server")
    said = user.run(script.format(f'"folder": {str(locked / "services")!r}', free_ports(1)[0]))
    assert said.startswith(f"False redis: cannot make the folder {locked / 'services' / 'redis'}: Permission denied")
    assert f"mkdir -p {locked / 'services' / 'redis'}" in said
    said = user.run(script.format(f'"redis": {{"data_dir": {str(locked)!r}}}', free_ports(1)[0]))
    assert f"cannot write the data folder {locked}" in said
    assert "sudo chown -R" in said
    locked.chmod(0o755)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers run as another account")
def test_start_unreachable_folder_is_named(make: Make, place: Path) -> None:
    """The account of the server cannot enter a folder of the path."""
    private = place / "private"
    private.mkdir(mode=0o700)
    z = make(folder=str(private / "services"), postgresql={"port": free_ports(1)[0], "launcher": "local"})
    assert not z.comm.start_service("postgresql")
    assert f"cannot enter {private}" in failed(z).message
    assert failed(z).command == f"chmod o+x {private}"


@pytest.fixture
def small_disk(place: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    folder = place / "small"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=755", "none", folder], check=False)
    if made.returncode:
        pytest.skip("mounting a file system is not permitted on this machine")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def test_start_full_disk_leaves_no_half_cluster(make: Make, small_disk: Path) -> None:
    """A later start makes a complete cluster."""
    z = make(folder=str(small_disk), postgresql={"port": free_ports(1)[0], "launcher": "local"})
    for _ in range(2):
        assert not z.comm.start_service("postgresql")
        assert "initdb failed" in failed(z).message
        assert any("No space left on device" in line for line in failed(z).log), failed(z)
    assert not (small_disk / "postgresql" / "data" / "PG_VERSION").exists()


# --- what is left behind ---


def test_last_failure_is_of_its_thread(make: Make) -> None:
    """It is kept until the next call."""
    from zcli_core.services.concurrency import map_concurrently

    z = make(redis={"host": "192.0.2.1"}, probe_timeout=0.2)
    assert not z.comm.start_service("redis")
    assert failed(z).action == "start"
    assert map_concurrently(lambda _: z.comm.services.last_failure, range(2)) == [None, None]
    assert z.comm.get_service_connection_info("redis") is None
    assert failed(z).action == "connection info"
    assert "REDIS" not in str(failed(z))
    log = Path(str(z._application_log.file))
    assert "192.0.2.1" in log.read_text()


@pytest.mark.usefixtures("odd")
def test_stop_kills_a_server_that_ignores_signals(make: Make, place: Path) -> None:
    """It is killed when the time is up."""
    z = make()
    assert not z.comm.start_service("stubborn", port=free_ports(1)[0], timeout=2)
    assert "did not answer within 2 s, and was ended" in failed(z).message
    assert instances.find_running(place / "services", "stubborn", None) is None
    log = Path(str(z._application_log.file))
    assert "s and is killed" in log.read_text()


def test_stop_continues_a_frozen_server(make: Make, place: Path) -> None:
    """It saves its data before it ends."""
    z = make(redis={"port": free_ports(1)[0], "launcher": "local"}, probe_timeout=0.3)
    assert z.comm.start_service("redis"), z.comm.services.last_failure
    held = instances.find_running(place / "services", "redis", None)
    assert held is not None
    os.kill(held.process.pid, signal.SIGSTOP)
    assert z.comm.stop_service("redis", timeout=20), z.comm.services.last_failure
    assert instances.find_running(place / "services", "redis", None) is None
    assert "bye bye" in (place / "services" / "redis" / "server.log").read_text()


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_does_not_wait_for_a_probe_that_hangs() -> None:
    """It ends the program although the threads of the probes still run."""
    script = """
import os, signal, threading
from zcli_core.services.concurrency import map_concurrently

def probe(name):
    os.kill(os.getpid(), signal.SIGINT)
    threading.Event().wait()

map_concurrently(probe, ["redis"])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr.endswith("KeyboardInterrupt\n")

"""Starting, using, restarting, killing and stopping each service, as root and as an ordinary user."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from needs import needs
from ordinary_user import OrdinaryUser
from service_servers import free_ports, until

from zcli_core.app import zCLI
from zcli_core.net.port_holder import tcp_sockets
from zcli_core.services.launchers import instances
from zcli_core.services.launchers.processes import look_up

Make = Callable[..., zCLI]
Info = dict[str, Any]


def _use_postgresql(info: Info, value: str) -> list[str]:
    import psycopg

    with psycopg.connect(info["url"], connect_timeout=10) as connection:
        connection.execute("create table if not exists kept (value text)")
        connection.execute("insert into kept values (%s)", [value])
        return [row[0] for row in connection.execute("select value from kept")]


def _use_redis(info: Info, value: str) -> list[str]:
    import redis

    with redis.Redis.from_url(info["url"], decode_responses=True) as client:
        client.rpush("kept", value)
        return list(client.lrange("kept", 0, -1))


def _use_mongodb(info: Info, value: str) -> list[str]:
    import pymongo

    with pymongo.MongoClient(info["url"], serverSelectionTimeoutMS=10_000) as client:
        client[info["database"]].kept.insert_one({"value": value})
        return [each["value"] for each in client[info["database"]].kept.find()]


def _ask(port: int, subject: str, content: dict[str, Any]) -> dict[str, Any]:
    """Send a request to JetStream and return its response."""
    body = json.dumps(content).encode()
    with socket.create_connection(("127.0.0.1", port), 10) as client, client.makefile("rb") as replies:
        client.sendall(b'CONNECT {"verbose":false}\r\nSUB answer 1\r\n')
        client.sendall(b"PUB %s answer %d\r\n%s\r\n" % (subject.encode(), len(body), body))
        header = next(line for line in replies if line.startswith((b"MSG", b"-ERR")))
        answer: dict[str, Any] = json.loads(replies.read(int(header.split()[-1])))
        return answer


def _use_nats(info: Info, value: str) -> list[str]:
    port = info["port"]
    _ask(port, "$JS.API.STREAM.CREATE.kept", {"name": "kept", "subjects": ["kept"]})
    count = _ask(port, "kept", {"value": value})["seq"]
    found = [_ask(port, "$JS.API.STREAM.MSG.GET.kept", {"seq": number + 1})["message"] for number in range(count)]
    return [json.loads(base64.b64decode(message["data"]))["value"] for message in found]


USE: dict[str, Callable[[Info, str], list[str]]] = {
    "postgresql": _use_postgresql,
    "redis": _use_redis,
    "mongodb": _use_mongodb,
    "nats": _use_nats,
}
#: As an ordinary user. The test of the data below starts, kills and restarts the others in every run.
REDIS_AT_ONCE = [
    pytest.param(name, marks=[pytest.mark.slow] if name != "redis" else [])
    for name in ("postgresql", "redis", "mongodb")
]


def kill(folder: Path, name: str) -> None:
    held = instances.find_running(folder, name, None)
    assert held is not None
    os.kill(held.process.pid, signal.SIGKILL)
    until(lambda: look_up(held.process.pid) is None, f"{name} is dead")


def listening_addresses(port: int) -> set[str]:
    """Return the addresses at which a server listens on the port, from the kernel's table."""
    found = tcp_sockets(port, ["0.0.0.0", "::", "127.0.0.1", "::1"])
    return {each.address for each in found or () if each.listening}


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("name", USE)
def test_service_keeps_its_data(make: Make, place: Path, name: str) -> None:
    """The data survives a restart and a kill."""
    port = free_ports(1)[0]
    z = make(**{name: {"port": port, "launcher": "local"}})
    use = USE[name]
    assert z.comm.start_service(name), z.comm.services.last_failure
    info = z.comm.get_service_connection_info(name)
    assert info is not None
    assert (info["host"], info["port"]) == ("127.0.0.1", port)
    assert listening_addresses(port) <= {"127.0.0.1"}
    assert use(info, "a") == ["a"]
    assert any((place / "services" / name / "data").iterdir())
    assert z.comm.start_service(name), "starting what runs changes nothing"
    assert use(info, "b") == ["a", "b"]
    assert z.comm.restart_service(name), z.comm.services.last_failure
    assert z.comm.get_service_connection_info(name) == info
    assert use(info, "c") == ["a", "b", "c"]
    kill(place / "services", name)
    # Helpers of the server may hold its port a little longer than the server itself.
    until(lambda: z.comm.service_status(name)["state"] == "stopped", f"{name} is stopped")
    assert not z.comm.service_status(name)["running"]
    assert z.comm.start_service(name), z.comm.services.last_failure
    assert use(info, "d") == ["a", "b", "c", "d"]
    assert z.comm.health_check_all()[name]
    assert z.comm.stop_service(name), z.comm.services.last_failure
    assert not z.comm.service_status(name)["running"]
    assert z.comm.stop_service(name), "stopping what does not run changes nothing"
    assert z.comm.check_port(port)
    assert z.comm.services.last_failure is None


#: The ordinary user has no server as a wheel, except the MongoDB stand-in: the program and its Debian package.
OUTSIDE_WHEELS = {"postgresql": ("initdb", "postgresql"), "redis": ("redis-server", "redis-server")}

SCRIPT = """
import json, sys
from zCLI import zCLI
name, port, action = sys.argv[1:4]
z = zCLI({"deployment": "Testing", "logger": "PROD",
          "services": {"start_timeout": 300.0, name: {"port": int(port), "launcher": "local"}}})
done = getattr(z.comm, action)(name) if action != "nothing" else None
print(json.dumps({"done": done, "failure": str(z.comm.services.last_failure),
                  "status": z.comm.service_status(name)}))
z.close()
"""


@pytest.mark.parametrize("name", REDIS_AT_ONCE)
def test_ordinary_user_starts_and_stops(place: Path, name: str) -> None:
    """Each step is a separate program, which finds and stops what the program before started."""
    if name in OUTSIDE_WHEELS:
        needs(*OUTSIDE_WHEELS[name])
    user = OrdinaryUser(place)
    port = str(free_ports(1)[0])
    services = user.home / ".local" / "share" / "zcli" / "services"

    def step(action: str) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(user.run(SCRIPT, name, port, action))
        return said

    try:
        started = step("start_service")
        assert started["done"], started
        info = started["status"]["connection_info"]
        assert USE[name](info, "a") == ["a"]
        restarted = step("restart_service")
        assert restarted["done"], restarted
        assert USE[name](info, "b") == ["a", "b"]
        held = instances.find_running(services, name, None)
        assert held is not None
        assert Path(f"/proc/{held.process.pid}").stat().st_uid == user.home.stat().st_uid
        kill(services, name)
        assert not step("nothing")["status"]["running"]
        again = step("start_service")
        assert again["done"], again
        assert USE[name](info, "c") == ["a", "b", "c"]
        stopped = step("stop_service")
        assert stopped["done"], stopped
        assert not stopped["status"]["running"]
    finally:
        with contextlib.suppress(AssertionError):
            step("stop_service")


def test_start_by_two_processes_succeeds(make: Make, place: Path) -> None:
    """Both start the same service at the same time."""
    port = free_ports(1)[0]
    script = SCRIPT.replace('"start_timeout"', f'"folder": {str(place / "services")!r}, "start_timeout"')
    command = [sys.executable, "-W", "error", "-c", script, "postgresql", str(port), "start_service"]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=place) for _ in range(2)]
    said = [json.loads(run.communicate(timeout=360)[0]) for run in runs]
    assert [each["done"] for each in said] == [True, True], said
    log = (place / "services" / "postgresql" / "server.log").read_text()
    assert log.count("ready to accept connections") == 1
    assert make(postgresql={"port": port}).comm.stop_service("postgresql")


def test_start_by_two_threads_succeeds(make: Make, place: Path) -> None:
    """All start the same service at the same time."""
    from zcli_core.services.concurrency import map_concurrently

    z = make(redis={"port": free_ports(1)[0], "launcher": "local"})
    assert map_concurrently(lambda _: z.comm.start_service("redis"), range(4)) == [True] * 4
    log = (place / "services" / "redis" / "server.log").read_text()
    assert log.count("Ready to accept connections") == 1
    assert z.comm.stop_service("redis")


def test_status_without_port_finds_a_started_server(make: Make) -> None:
    """Another program started it on another port."""
    first = make()
    port = free_ports(1)[0]
    assert first.comm.start_service("redis", port=port, launcher="local"), first.comm.services.last_failure
    assert first.comm.service_status("redis")["port"] == port
    other = make()
    assert other.comm.service_status("redis")["port"] == port
    assert other.comm.stop_service("redis"), other.comm.services.last_failure
    assert not first.comm.service_status("redis")["running"]


def test_start_other_data_folder_is_another_server(make: Make, place: Path) -> None:
    """Each data folder has its own server."""
    z = make()
    port = free_ports(1)[0]
    data = place / "elsewhere"
    assert z.comm.start_service("redis", port=port, data_dir=data), z.comm.services.last_failure
    assert any(data.iterdir())
    assert z.comm.get_service_connection_info("redis")["port"] == port  # type: ignore[index]
    stranger = make(redis={"port": port})
    assert not stranger.comm.stop_service("redis"), "it was started with a data folder that this one is not told"
    assert "no launcher of zCLI started it" in str(stranger.comm.services.last_failure)
    assert stranger.comm.stop_service("redis", port=port, data_dir=data)


def test_superuser_password_is_in_a_private_file(make: Make, place: Path) -> None:
    """No account can connect without the password."""
    import psycopg

    port = free_ports(1)[0]
    z = make(postgresql={"port": port, "launcher": "local"})
    assert z.comm.start_service("postgresql"), z.comm.services.last_failure
    info = z.comm.get_service_connection_info("postgresql")
    assert info is not None
    file = Path(info["passfile"])
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.stat().st_uid == os.geteuid()
    password = file.read_text().strip().rpartition(":")[2]
    assert len(password) >= 24
    for text in (repr(z.comm.service_status()), repr(info), (place / "logs" / "services.log").read_text()):
        assert password not in text
    for host in (info["host"], info["socket"]):
        place_of_it = {"host": host, "port": port, "user": info["user"], "dbname": "postgres", "connect_timeout": 10}
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(**place_of_it, passfile=os.devnull)
        with psycopg.connect(**place_of_it, passfile=info["passfile"]):
            pass
    for file in (place / "services").rglob("*"):
        if file.is_file() and file.name != "pgpass" and "data" not in file.parts:
            assert password not in file.read_text(errors="replace"), file
    assert z.comm.service_status("postgresql")["version"]
    assert z.comm.stop_service("postgresql")


def test_started_server_outlives_zcli(make: Make, place: Path) -> None:
    """The server runs after the program has ended."""
    port = free_ports(1)[0]
    z = make(redis={"port": port, "launcher": "local"})
    assert z.comm.start_service("redis"), z.comm.services.last_failure
    z.close()
    later = make(redis={"port": port})
    assert later.comm.service_status("redis")["ready"]
    assert later.comm.stop_service("redis")

"""Other users of the machine get no password, no file and no code through a local server."""

from __future__ import annotations

import os
import socket
import stat
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from needs import needs
from service_servers import free_ports
from zcli_postgresql import backend as postgresql
from zcli_redis.backend import RedisBackend

from zcli_core.app import zCLI
from zcli_core.services.contract import LocalProcess, Target
from zcli_core.services.launchers import instances

Make = Callable[..., zCLI]


def _info(z: zCLI, name: str) -> dict[str, Any]:
    info = z.comm.get_service_connection_info(name)
    assert info is not None
    return info


# --- Redis ---


def _programs(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let zCLI find only this kind of server."""
    method = next(each for each in RedisBackend.launchers if isinstance(each, LocalProcess))
    found = method._replace(programs=())
    if kind != "valkey":
        real = needs("redis-server", "redis-server")
        file = folder / "redis-server"
        told = "exec" if kind == "redis" else 'test "$1" = --version && echo "Redis server v=6.2.14 sha=0" || exec'
        file.write_text(f'#!/bin/sh\n{told} {real} "$@"\n')
        file.chmod(0o755)
        found = method._replace(programs=("redis-server",), wheels=())
        monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setattr(RedisBackend, "launchers", (found,))


@pytest.mark.parametrize("kind", ["redis", "redis 6", "valkey"])
def test_local_redis_writes_no_file_for_a_client(
    make: Make, place: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A client can change neither its folder nor its code, in any version."""
    import redis

    _programs(kind, place, monkeypatch)
    z = make(redis={"port": free_ports(1)[0]})
    assert z.comm.start_service("redis"), z.comm.services.last_failure
    with redis.Redis.from_url(_info(z, "redis")["url"]) as client:
        for command in (
            ("CONFIG", "SET", "dir", "/tmp"),
            ("CONFIG", "SET", "dbfilename", "authorized_keys"),
            ("MODULE", "LOAD", "/tmp/module.so"),
            ("DEBUG", "SLEEP", "0"),
        ):
            # Redis 7 protects itself; an older one has no such commands.
            said = "unknown command" if kind == "redis 6" else "not allowed|protected config"
            with pytest.raises(redis.ResponseError, match=said):
                client.execute_command(*command)
        assert client.set("k", "v")
    assert z.comm.stop_service("redis"), z.comm.services.last_failure


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_local_password_is_kept_and_never_shown(
    make: Make, place: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """The connection info names its file. Without the setting, the file is deleted."""
    import redis

    _programs(kind, place, monkeypatch)
    port = free_ports(1)[0]
    z = make(redis={"port": port, "local_password": True})
    assert z.comm.start_service("redis"), z.comm.services.last_failure
    info = _info(z, "redis")
    file = Path(info["password_file"])
    assert (stat.S_IMODE(file.stat().st_mode), file.stat().st_uid) == (0o600, os.geteuid())
    password = file.read_text().strip()
    assert len(password) >= 24
    with redis.Redis.from_url(info["url"]) as client, pytest.raises(redis.AuthenticationError):
        client.ping()
    assert z.comm.restart_service("redis"), z.comm.services.last_failure
    with redis.Redis.from_url(_info(z, "redis")["url"], password=file.read_text().strip()) as client:
        assert client.ping()
    status = z.comm.service_status("redis")
    assert (status["ready"], status["needs_auth"]) == (True, True)
    held = instances.find_running(place / "services", "redis", None)
    assert held is not None
    shown = Path(f"/proc/{held.process.pid}/cmdline").read_bytes() if sys.platform == "linux" else b""
    for text in (shown.decode(), repr(status), (place / "logs" / "services.log").read_text()):
        assert password not in text
    for other in (place / "services").rglob("*"):
        if other.is_file() and password in other.read_text(errors="replace"):
            assert other.stat().st_mode & 0o077 == 0, other
    assert z.comm.stop_service("redis"), z.comm.services.last_failure
    z = make(redis={"port": port})
    assert z.comm.start_service("redis"), z.comm.services.last_failure
    assert "password_file" not in _info(z, "redis")
    assert z.comm.service_status("redis")["needs_auth"] is False
    assert not file.exists()
    assert z.comm.stop_service("redis"), z.comm.services.last_failure


def test_local_password_warns_of_a_running_server(local: tuple[zCLI, int], make: Make, place: Path) -> None:
    """The server was started without a password. The warning is logged once, and a restart sets the password."""
    z = make(redis={"port": local[1], "local_password": True})
    assert z.comm.start_service("redis")
    assert "password_file" not in _info(z, "redis")
    assert "password_file" not in _info(z, "redis")
    assert (place / "logs" / "services.log").read_text().count("local_password (zSpark) is not in force") == 1
    assert z.comm.restart_service("redis"), z.comm.services.last_failure
    assert "password_file" in _info(z, "redis")


# --- PostgreSQL ---


class Cluster(SimpleNamespace):
    """The paths of an existing cluster, with the password file of an earlier version."""

    def __init__(self, folder: Path, host: str = "127.0.0.1", port: int = 5432) -> None:
        data = folder / "data"
        super().__init__(program=Path("/bin/postgres"), data=data, folder=folder, host=host, port=port)
        self.files = SimpleNamespace(names=lambda: os.listdir(data), path=data)
        data.mkdir(exist_ok=True)
        (data / "PG_VERSION").write_text("15\n")
        (folder / "pgpass").write_text("*:*:*:postgres:secret\n")

    def write(self, file: Path, text: str) -> None:
        file.write_text(text)

    def free_pid_file(self, file: Path, program: str) -> None:
        """There is none."""


@pytest.mark.parametrize(("host", "written"), [("127.0.0.1", "127.0.0.1"), ("::1", r"\:\:1"), ("/run/pg", "/run/pg")])
def test_passfile_names_its_server(tmp_path: Path, host: str, written: str) -> None:
    """The file names host and port of the server. Each start renews them."""
    postgresql_backend = postgresql.PostgresqlBackend(None)  # type: ignore[arg-type]
    for port in (5432, 5433):
        place = Cluster(tmp_path, host, port)
        postgresql_backend.prepare(place)  # type: ignore[arg-type]
        lines = (place.folder / "pgpass").read_text().splitlines()
        assert f"{written}:{port}:*:postgres:secret" in lines
        assert all(f":{port}:*:postgres:secret" in line and not line.startswith("*") for line in lines)


def test_url_of_local_cluster_is_its_private_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that holds the TCP port is not contacted. No socket is made if its path would be too long."""
    target = Target("127.0.0.1", 5432, database="postgres")
    postgresql_backend = postgresql.PostgresqlBackend(None)  # type: ignore[arg-type]
    monkeypatch.setattr(postgresql, "_LONGEST_SOCKET_PATH", 4096)
    monkeypatch.setattr(postgresql, "knows_require_auth", lambda: True)
    place: Any = Cluster(tmp_path)
    assert f"unix_socket_directories={place.data}" in postgresql_backend.command(place)
    assert "socket" not in postgresql_backend.local_connection_info(place, target), "it is not there yet"
    (place.data / ".s.PGSQL.5432").touch()
    info = postgresql_backend.local_connection_info(place, target)
    assert info["socket"] == str(place.data)
    assert f"postgresql://postgres@/postgres?host={place.data}&port=5432&passfile=" in info["url"]
    assert "require_auth" not in info["url"], "which would import the drivers within a status"
    monkeypatch.setattr(postgresql, "_LONGEST_SOCKET_PATH", 10)
    assert "unix_socket_directories=" in postgresql_backend.command(place)
    url = postgresql_backend.local_connection_info(place, target)["url"]
    assert "@127.0.0.1:5432/" in url
    assert "require_auth=scram-sha-256" in url


def test_url_of_configured_socket_requires_scram(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder such as /tmp is not private: another user could make the socket there and get a plain-text password."""
    monkeypatch.setattr(postgresql, "knows_require_auth", lambda: True)
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / ".s.PGSQL.5432").touch()
    place: Any = Cluster(tmp_path, str(tmp_path / "shared"))
    backend = postgresql.PostgresqlBackend(None)  # type: ignore[arg-type]
    info = backend.local_connection_info(place, Target(place.host, 5432, database="postgres"))
    assert info["socket"] == place.host
    assert "require_auth=scram-sha-256" in info["url"]


@pytest.mark.parametrize(("version", "known"), [("15.18", False), ("16.1", True), ("18.0", True)])
def test_require_auth_needs_every_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, known: bool
) -> None:
    """An older libpq refuses a URL with an unknown parameter."""
    libpq = import_module("psycopg").pq.version() // 10_000
    psql = tmp_path / "psql"
    psql.write_text(f"#!/bin/sh\necho 'psql (PostgreSQL) {version}'\n")
    psql.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert postgresql.knows_require_auth.__wrapped__() == (known and libpq >= 16)


@pytest.mark.slow
def test_url_of_local_cluster_works_after_another_port(make: Make) -> None:
    """The URL leads to the socket. A program that binds the port while the server is down is never contacted."""
    import psycopg

    for port in free_ports(2):
        z = make(postgresql={"port": port, "launcher": "local"})
        assert z.comm.start_service("postgresql"), z.comm.services.last_failure
        info = _info(z, "postgresql")
        with psycopg.connect(info["url"]) as connection:
            assert connection.info.host == info["socket"]
        with psycopg.connect(host="127.0.0.1", port=port, user="postgres", passfile=info["passfile"]) as connection:
            assert connection.info.host == "127.0.0.1"
        if psycopg.pq.version() >= 160_000:
            with psycopg.connect(f"{info['url']}&require_auth=scram-sha-256"):
                pass
        assert z.comm.stop_service("postgresql"), z.comm.services.last_failure
        with socket.create_server(("127.0.0.1", port)) as stranger:
            with pytest.raises(psycopg.OperationalError, match="socket"):
                psycopg.connect(info["url"])
            stranger.setblocking(False)
            with pytest.raises(BlockingIOError):
                stranger.accept()

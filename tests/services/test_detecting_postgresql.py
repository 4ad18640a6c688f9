"""Detecting PostgreSQL, its state and whether it requires a password, with real servers in each state."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme
from service_servers import Cluster, accepts, free_ports, until, user_of

from zcli_core.app import zCLI

Make = Callable[..., zCLI]


def _own(file: Path) -> None:
    if os.geteuid() == 0:
        os.chown(file, 65534, 65534)


def test_status_trusting_server_works_with_psycopg(make: Make, cluster: Cluster) -> None:
    """The status has the version, and psycopg connects with the URL."""
    import psycopg

    with cluster.running() as port:
        z = make(postgresql={"port": port})
        status = z.comm.service_status("postgresql")
        info = z.comm.get_service_connection_info("postgresql")
        assert info is not None
        with psycopg.connect(info["url"], connect_timeout=10) as connection:
            version = connection.info.parameter_status("server_version")
    assert version is not None
    assert status == {
        "service": "postgresql",
        "running": True,
        "ready": True,
        "state": "ready",
        "port": port,
        "os": {"linux": "Linux", "darwin": "Darwin"}[sys.platform],
        "version": version.partition(" ")[0],
        "needs_auth": False,
        "owner": user_of(cluster.data) if sys.platform == "linux" else None,
        "owner_trusted": os.geteuid() != 0 or sys.platform != "linux",
        "connection_info": info,
    }
    assert info == {
        "host": "127.0.0.1",
        "port": port,
        "user": "postgres",
        "tls": False,
        "database": "postgres",
        "url": f"postgresql://postgres@127.0.0.1:{port}/postgres",
    }


def test_probe_leaves_nothing_in_the_servers_log(make: Make, cluster: Cluster) -> None:
    """It holds with and without a password, unencrypted and over TLS."""
    key = trustme.CA().issue_cert("127.0.0.1")
    key.private_key_pem.write_to_path(str(cluster.data / "server.key"))
    key.cert_chain_pems[0].write_to_path(str(cluster.data / "server.crt"))
    for name in ("server.key", "server.crt"):
        (cluster.data / name).chmod(0o600)
        _own(cluster.data / name)
    for options in ((), ("ssl=on",)):
        for method in ("trust", "scram-sha-256"):
            cluster.admit(f"host all all 127.0.0.1/32 {method}")
            with cluster.running(*options, "log_error_verbosity=verbose") as port:
                z = make(postgresql={"port": port})
                before = cluster.log.read_text()
                for _ in range(5):
                    status = z.comm.service_status("postgresql")
                    assert (status["ready"], status["needs_auth"]) == (True, method != "trust")
                assert cluster.log.read_text() == before


def test_status_tls_only_server_runs(make: Make, cluster: Cluster) -> None:
    """The server accepts sessions over TLS only."""
    key = trustme.CA().issue_cert("127.0.0.1")
    key.private_key_pem.write_to_path(str(cluster.data / "server.key"))
    key.cert_chain_pems[0].write_to_path(str(cluster.data / "server.crt"))
    for name in ("server.key", "server.crt"):
        (cluster.data / name).chmod(0o600)
        _own(cluster.data / name)
    cluster.admit("hostssl all all 127.0.0.1/32 trust", "hostnossl all all all reject")
    with cluster.running("ssl=on") as port:
        status = make(postgresql={"port": port}).comm.service_status("postgresql")
        assert (status["ready"], status["needs_auth"]) == (True, False)
        assert status["version"]
        assert status["connection_info"]["tls"]
        assert status["connection_info"]["url"].endswith("/postgres?sslmode=require")


@pytest.mark.usefixtures("nobody_is_trusted")
def test_status_slow_login_runs_and_start_waits(make: Make, cluster: Cluster) -> None:
    """A login that takes longer than the probe is not another protocol."""
    with cluster.running("post_auth_delay=1") as port:
        z = make(postgresql={"port": port}, probe_timeout=0.3)
        status = z.comm.service_status("postgresql")
        assert (status["running"], status["state"]) == (True, "not ready"), status
        assert "did not answer in time to a login" in status["error"]
        assert z.comm.start_service("postgresql"), z.comm.services.last_failure


def test_status_rejecting_server_runs(make: Make, cluster: Cluster) -> None:
    """The server rejects the configured user."""
    cluster.admit("host all all all reject")
    with cluster.running() as port:
        status = make(postgresql={"port": port}).comm.service_status("postgresql")
    assert (status["running"], status["needs_auth"]) == (True, True)


def test_status_missing_database_is_ready(make: Make, cluster: Cluster) -> None:
    """The configured database does not exist."""
    with cluster.running() as port:
        status = make(postgresql={"port": port, "database": "nowhere"}).comm.service_status("postgresql")
    assert status["ready"]


def test_status_full_server_is_not_ready(make: Make, cluster: Cluster) -> None:
    """The server has no free connections."""
    import psycopg

    with (
        cluster.running("max_connections=4", "superuser_reserved_connections=0", "max_wal_senders=0") as port,
        contextlib.ExitStack() as stack,
    ):
        for _ in range(4):
            stack.enter_context(psycopg.connect(f"postgresql://postgres@127.0.0.1:{port}/postgres"))
        status = make(postgresql={"port": port}).comm.service_status("postgresql")
    assert (status["running"], status["ready"], status["state"]) == (True, False, "not ready")
    assert "too many clients" in status["error"]


def test_status_starting_server_is_not_ready(make: Make, cluster: Cluster) -> None:
    """It recovers from an archive that makes it wait, so it stays in that state."""
    (cluster.data / "recovery.signal").touch()
    _own(cluster.data / "recovery.signal")
    gate = cluster.data / "go-on"
    wait = f"sh -c 'while ! test -e {gate}; do sleep 0.05; done; exit 1'"
    port = free_ports(1)[0]
    options = [f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories=", f"restore_command={wait}"]
    command = [cluster.bin_folder / "postgres", "-D", cluster.data, *(p for o in options for p in ("-c", o))]
    account = {"user": 65534, "group": 65534, "extra_groups": []} if os.geteuid() == 0 else {}
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, cwd=cluster.data, **account) as server:  # type: ignore[call-overload]
        try:
            until(lambda: accepts(port), "it listens")
            status = make(postgresql={"port": port}).comm.service_status("postgresql")
        finally:
            gate.touch()
            server.terminate()
            server.wait(30)
    assert (status["running"], status["ready"], status["state"]) == (True, False, "not ready")
    assert "starting up" in status["error"]
    assert status["connection_info"]["port"] == port


def test_a_unix_socket_is_followed_as_libpq_does(make: Make, cluster: Cluster, place: Path) -> None:
    sockets = place / "sockets"
    sockets.mkdir(mode=0o777)
    sockets.chmod(0o777)
    with cluster.running(f"unix_socket_directories={sockets}") as port:
        z = make(postgresql={"host": str(sockets), "port": port})
        assert z.comm.service_status("postgresql")["ready"]
        info = z.comm.get_service_connection_info("postgresql")
        assert info is not None
        import psycopg

        psycopg.connect(info["url"]).close()
    gone = z.comm.service_status("postgresql")
    assert (gone["running"], gone["state"]) == (False, "stopped")


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b"])
def test_status_unknown_host_is_unreachable(make: Make, host: str) -> None:
    """The name cannot be resolved."""
    status = make(postgresql={"host": host}).comm.service_status("postgresql")
    assert (status["running"], status["state"]) == (False, "unreachable")
    assert host in status["error"]

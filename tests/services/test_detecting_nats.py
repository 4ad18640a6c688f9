"""Detecting NATS and its state, with real servers."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from service_servers import nats, nats_program, until
from zcli_nats.service_settings import parse_url

from zcli_core.app import zCLI

Make = Callable[..., zCLI]


@pytest.fixture(scope="session")
def nats_server() -> Path:
    return nats_program()


def _errors(log: Path) -> list[str]:
    return [line for line in log.read_text().splitlines() if "[ERR]" in line]


def test_status_plain_server_is_ready(make: Make, nats_server: Path, place: Path) -> None:
    """The status has the version, and the server logs no error about the probe."""
    printed = subprocess.run([nats_server, "--version"], capture_output=True, text=True, check=True).stdout
    with nats(nats_server, place) as (port, log):
        z = make(nats={"port": port})
        status = z.comm.service_status("nats")
        info = z.comm.get_service_connection_info("nats")
    assert (status["ready"], status["needs_auth"]) == (True, False)
    assert printed.strip().endswith(f"v{status['version']}")
    url = f"nats://127.0.0.1:{port}"
    assert info == {"host": "127.0.0.1", "port": port, "user": None, "tls": False, "url": url}
    assert _errors(log) == []


def test_status_login_required_needs_auth(make: Make, nats_server: Path, place: Path) -> None:
    """The server runs and requires a login. No credential is tried, so it logs no failed login."""
    with nats(nats_server, place, "--auth", "hunter2") as (port, log):
        status = make(nats={"port": port}).comm.service_status("nats")
    assert (status["ready"], status["needs_auth"]) == (True, True)
    assert _errors(log) == []


def _enter(port: int, clients: contextlib.ExitStack) -> bool:
    """Connect a client; return whether the server has admitted it."""
    client = clients.enter_context(socket.create_connection(("127.0.0.1", port)))
    client.sendall(b"CONNECT {}\r\nPING\r\n")
    with contextlib.suppress(ConnectionError), client.makefile("rb") as replies:
        return any(line.startswith(b"PONG") for line in replies)
    return False


def test_status_full_server_is_not_ready(make: Make, nats_server: Path, place: Path) -> None:
    """The error is that of the server."""
    with nats(nats_server, place, config="max_connections: 1") as (port, _), contextlib.ExitStack() as clients:
        until(lambda: _enter(port, clients), "the server has noticed that its first client left")
        status = make(nats={"port": port}).comm.service_status("nats")
    assert (status["state"], status["running"]) == ("not ready", True)
    assert "maximum connections exceeded" in status["error"]


@pytest.fixture
def tls_files(place: Path) -> Path:
    """A folder with ca.pem, and a certificate of that authority for a server and for a client."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(place / "ca.pem"))
    trustme.CA().cert_pem.write_to_path(str(place / "other-ca.pem"))
    for who in ("server", "client"):
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_pem.write_to_path(str(place / f"{who}-key.pem"))
        issued.cert_chain_pems[0].write_to_path(str(place / f"{who}.pem"))
    return place


def _tls(files: Path, more: str = "") -> str:
    names = {"cert_file": "server.pem", "key_file": "server-key.pem", "ca_file": "ca.pem"}
    options = ", ".join(f'{name}: "{files / file}"' for name, file in names.items())
    return f"tls {{ {options} {more} }}"


@pytest.mark.parametrize(
    ("option", "login"),
    [("", ""), ("", "authorization { token: hunter2 }"), (", handshake_first: true", "")],
    ids=["after INFO", "with login", "first"],
)
def test_status_tls_server_is_ready(make: Make, nats_server: Path, tls_files: Path, option: str, login: str) -> None:
    """With and without the setting ``tls``, TLS is found. The certificate is checked against ``ca_file``."""
    with nats(nats_server, tls_files, config=f"{_tls(tls_files, option)}\n{login}") as (port, _):
        for tls in (False, True):
            z = make(nats={"port": port, "tls": tls, "ca_file": str(tls_files / "ca.pem")}, probe_timeout=2)
            status = z.comm.service_status("nats")
            assert (status["ready"], status["needs_auth"]) == (True, bool(login)), status
            info = status["connection_info"]
            assert (info["tls"], info["url"]) == (True, f"tls://127.0.0.1:{port}")
        other = make(nats={"port": port, "ca_file": str(tls_files / "other-ca.pem")}, probe_timeout=2)
        status = other.comm.service_status("nats")
    assert (status["running"], status["state"]) == (False, "foreign")
    assert "not from an authority in services.nats.ca_file" in status["error"]


def test_status_client_certificate_required(make: Make, nats_server: Path, tls_files: Path) -> None:
    """Without a certificate the error has the setting."""
    certificate = {"client_cert": str(tls_files / "client.pem"), "client_key": str(tls_files / "client-key.pem")}
    expected: dict[str, dict[str, Any]] = {"ready": certificate, "not ready": {}}
    with nats(nats_server, tls_files, config=_tls(tls_files, ", verify: true")) as (port, _):
        for state, settings in expected.items():
            status = make(nats={"port": port, "tls": True, **settings}).comm.service_status("nats")
            assert (status["state"], status["running"]) == (state, True), status
    assert "set services.nats.client_cert" in status["error"]


def test_status_tls_configured_plain_server_not_ready(make: Make, nats_server: Path, place: Path) -> None:
    """A driver that is configured to use TLS could not connect."""
    with nats(nats_server, place) as (port, _):
        status = make(nats={"port": port, "tls": True}).comm.service_status("nats")
    assert (status["state"], status["running"]) == ("not ready", True)
    assert "it answers without TLS, but services.nats.tls is on" in status["error"]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("nats://127.0.0.1:4222", ("127.0.0.1", 4222, False)),
        ("tls://user:hunter2@mq.example", ("mq.example", None, True)),
        ("nats://a:1,nats://b:2", ("a", 1, False)),
        ("mq.example:4333", ("mq.example", 4333, False)),
    ],
)
def test_url_gives_host_port_and_tls(url: str, expected: tuple[str, int | None, bool]) -> None:
    """The first server of a list counts, and a login in it is ignored."""
    assert tuple(parse_url(url).values()) == expected


@pytest.mark.parametrize("url", ["redis://127.0.0.1", "nats://", "nats://a:b@/c@host", "nats://host:port"])
def test_url_invalid_raises(url: str) -> None:
    """Another scheme, no host, an unescaped password and a port that is not a number."""
    with pytest.raises(ValueError):
        parse_url(url)

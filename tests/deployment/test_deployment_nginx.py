"""The nginx configuration of the deployment guide, with real connections through it."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest
from documents import file_in
from needs import needs
from script_runs import plain_environment
from service_servers import free_ports, until
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from zcli_core.app import zCLI
from zcli_core.testing.certificates import GOOD, KEY, client_tls

PAGE = "docs/guide/deployment/nginx.md"
DEADLINE = 20.0
TOKEN = "a-token-for-the-tests"


class Nginx(NamedTuple):
    """A running nginx, and the ports on which it takes connections with and without TLS."""

    process: psutil.Popen
    tls_port: int
    port: int

    def client(self, *, tls: bool = True, address: str = "127.0.0.1", **options: Any) -> ClientConnection:
        """Connect through nginx, from an address of the loopback network."""
        connection = socket.create_connection(
            ("127.0.0.1", self.tls_port if tls else self.port), DEADLINE, source_address=(address, 0)
        )
        if tls:
            options["ssl"] = client_tls()
        url = f"{'wss' if tls else 'ws'}://localhost/"
        return connect(url, sock=connection, proxy=None, open_timeout=DEADLINE, **options)

    def workers(self) -> set[int]:
        """The processes that take connections; those of an earlier configuration are not among them."""
        found = set()
        for child in self.process.children():
            try:
                command = " ".join(child.cmdline())
            except psutil.Error:
                continue
            if "worker process" in command and "shutting down" not in command:
                found.add(child.pid)
        return found


def _unix_server() -> str:
    """Return the line of the page's upstream that uses a Unix socket."""
    return file_in(PAGE, "upstream.conf").splitlines()[1].strip()


class Upstream(NamedTuple):
    """Where the server listens: a port, or the path of a Unix socket."""

    port: int | None
    path: Path | None

    @property
    def line(self) -> str:
        """The line of nginx's configuration."""
        return f"server 127.0.0.1:{self.port};" if self.path is None else f"server unix:{self.path};"


@pytest.fixture
def upstream(request: pytest.FixtureRequest, tmp_path: Path) -> Upstream:
    """A free port, or with the parameter ``unix`` a Unix socket."""
    if getattr(request, "param", None) == "unix":
        return Upstream(None, tmp_path / "app.sock")
    return Upstream(free_ports(1)[0], None)


@pytest.fixture
def nginx(tmp_path: Path, upstream: Upstream) -> Iterator[Nginx]:
    """Nginx with the page's configuration; only the ports, the socket and the certificate differ."""
    program = needs("nginx", "nginx-light")
    tls_port, port = free_ports(2)
    pem = tmp_path / "localhost.pem"
    pem.write_text(GOOD + KEY)
    site = file_in(PAGE, "app.conf")
    if upstream.path is not None:
        site = site.replace("server 127.0.0.1:8765;", _unix_server())
    for written, used in {
        ("server 127.0.0.1:8765;" if upstream.path is None else _unix_server()): upstream.line,
        "listen 443 ssl;": f"listen 127.0.0.1:{tls_port} ssl; listen 127.0.0.1:{port};",
        "/etc/ssl/chat.example.pem": str(pem),
        "/etc/ssl/private/chat.example.key": str(pem),
    }.items():
        assert written in site
        site = site.replace(written, used)
    temporary = "\n".join(
        f"{kind}_temp_path {tmp_path}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    # As root, nginx would run its workers as an account that cannot enter the folder of the socket.
    user = "user root; " if os.geteuid() == 0 else ""
    (tmp_path / "nginx.conf").write_text(
        f"{user}daemon off; worker_processes 2; pid {tmp_path}/nginx.pid; error_log stderr warn;\n"
        f"events {{}}\nhttp {{\naccess_log off;\n{temporary}\n{site}}}\n"
    )
    command = [program, "-p", tmp_path, "-e", "stderr", "-c", tmp_path / "nginx.conf"]
    process = psutil.Popen(command, stderr=subprocess.PIPE, text=True)
    running = Nginx(process, tls_port, port)
    try:
        with zCLI({"deployment": "Testing", "logger": "PROD", "logger_path": str(tmp_path)}) as z:
            assert z.comm.wait_for_port(tls_port, DEADLINE), process.stderr.read() if process.poll() else "no port"
        yield running
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE)


@pytest.fixture
def server(isolated: Path, upstream: Upstream) -> Iterator[zCLI]:
    """The page's server: it sends back each message with the address of its client."""

    async def echo(websocket: Any, message: str) -> None:
        address = z.comm.websocket.auth.get_client_info(websocket)["address"][0]
        await websocket.send(f"{address} says {message}")

    websocket: dict[str, Any] = {"require_auth": True, "token": TOKEN, "max_refusal_delay": 0}
    if upstream.path is None:
        websocket.update(trusted_proxies=["127.0.0.1"])
    else:
        websocket.update(trusted_proxies=["unix"], unix_path=str(upstream.path), unix_mode="660")
    with (
        zCLI({"deployment": "Testing", "logger": "PROD", "logger_path": "logs", "websocket": websocket}) as z,
        z.comm.websocket.start_background(port=upstream.port, handler=echo),
    ):
        yield z


AUTHORIZED = {"Authorization": f"Bearer {TOKEN}"}


@pytest.mark.slow
@pytest.mark.parametrize("tls", [True, False], ids=["wss", "ws"])
@pytest.mark.parametrize("upstream", ["port", "unix"], indirect=True)
def test_nginx_passes_on_client_addresses(nginx: Nginx, server: zCLI, tls: bool) -> None:
    """Two clients have two addresses, and an address that a client states itself does not count."""
    for address in ("127.0.0.7", "127.0.0.8"):
        headers = {**AUTHORIZED, "X-Forwarded-For": "203.0.113.9"}
        with nginx.client(tls=tls, address=address, additional_headers=headers) as client:
            client.send("hello")
            assert client.recv(timeout=DEADLINE) == f"{address} says hello"


@pytest.mark.slow
def test_nginx_client_without_token_gets_1008(nginx: Nginx, server: zCLI) -> None:
    """The close code and the reason arrive through nginx."""
    with nginx.client() as client, pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=DEADLINE)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1008


@pytest.mark.slow
def test_nginx_reload_under_load_drops_no_client(nginx: Nginx, server: zCLI) -> None:
    """Clients that send all the time keep their connection over a reload, and new clients connect all the time."""
    before = nginx.workers()
    assert before
    reloaded, failures = threading.Event(), []

    def keep_sending() -> None:
        try:
            with nginx.client(additional_headers=AUTHORIZED) as client:
                count, rest = 0, 50
                while rest:
                    client.send(str(count))
                    assert client.recv(timeout=DEADLINE) == f"127.0.0.1 says {count}"
                    count += 1
                    rest -= reloaded.is_set()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=keep_sending) for _ in range(8)]
    for thread in threads:
        thread.start()
    subprocess.run(["kill", "-HUP", str(nginx.process.pid)], check=True)
    while not (nginx.workers() and not nginx.workers() & before) and not failures:
        with nginx.client(additional_headers=AUTHORIZED) as client:
            client.send("new")
            assert client.recv(timeout=DEADLINE) == "127.0.0.1 says new"
    reloaded.set()
    for thread in threads:
        thread.join(DEADLINE)
    assert failures == []


@pytest.fixture
def workers(tmp_path: Path, upstream: Upstream) -> Iterator[psutil.Popen]:
    """The guide's server with two workers, as a process."""
    (tmp_path / "app.py").write_text(file_in("docs/guide/deployment.md", "app.py"), encoding="utf-8")
    variables = {
        "WEBSOCKET_PORT": str(upstream.port), "WEBSOCKET_WORKERS": "2", "ZCLI_WEBSOCKET_BACKPLANE": "local",
        "WEBSOCKET_TRUSTED_PROXIES": "127.0.0.1", "WEBSOCKET_RELOAD_SPREAD": "1",
    }  # fmt: skip
    process = psutil.Popen(
        [sys.executable, "app.py"], cwd=tmp_path, env=plain_environment(tmp_path, variables),
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        line = process.stdout.readline()
        assert "listening" in line, line + process.stdout.read()
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE)


@pytest.mark.slow
def test_nginx_server_reload_closes_clients_once(nginx: Nginx, workers: psutil.Popen) -> None:
    """While the server behind nginx is reloaded, every client gets one 1012, and no new client is refused."""
    old = {child.pid for child in workers.children()}
    closed: Counter[int] = Counter()
    ended, failures = threading.Event(), []
    served: set[int] = set()

    def keep_sending(number: int) -> None:
        try:
            while not ended.is_set():
                with nginx.client() as client, contextlib.suppress(ConnectionClosed):
                    while not ended.is_set():
                        client.send("hello")
                        assert client.recv(timeout=DEADLINE) == "127.0.0.1 says hello"
                        served.add(number)
                if not ended.is_set():
                    assert client.close_code == 1012
                    closed[number] += 1
        except BaseException as error:
            failures.append(error)
            ended.set()

    threads = [threading.Thread(target=keep_sending, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    until(lambda: len(served) == len(threads) or failures, "all clients are served")
    with nginx.client() as client:
        client.send("hello")
        client.recv(timeout=DEADLINE)
        workers.send_signal(signal.SIGHUP)
        with pytest.raises(ConnectionClosed):
            client.recv(timeout=DEADLINE)
    while old & {child.pid for child in workers.children()} and not failures:
        with nginx.client() as client, contextlib.suppress(ConnectionClosed):
            client.send("new")
            assert client.recv(timeout=DEADLINE) == "127.0.0.1 says new"
    ended.set()
    for thread in threads:
        thread.join(DEADLINE)
    assert failures == []
    assert closed == Counter(range(8))

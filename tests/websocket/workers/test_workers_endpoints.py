"""Workers on every kind of endpoint and transport, and however the program is started."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from script_runs import plain_environment
from supervised import SCRIPT, SETTINGS, Supervised, said, supervised
from websocket_serving import DEADLINE, Certificates, end_of, eventually
from websockets.sync.client import connect, unix_connect

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="workers need sockets that a process can inherit"),
]


@pytest.mark.parametrize("transport", ["wsproto", "uvicorn"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_workers_serve_tls(tmp_path: Path, certificates: Certificates, transport: str, loop: str) -> None:
    """On a name with several addresses, which get the same port; a reload closes each client once."""
    for module in {"uvicorn", "uvloop"} & {transport, loop}:
        pytest.importorskip(module)
    certificate, key = certificates.issue("workers")
    variables = {
        "ZCLI_WEBSOCKET_TRANSPORT": transport,
        "ZCLI_WEBSOCKET_LOOP": loop,
        "ZCLI_WEBSOCKET_SSL_ENABLED": "true",
        "ZCLI_WEBSOCKET_SSL_CERT": str(certificate),
        "ZCLI_WEBSOCKET_SSL_KEY": str(key),
    }
    trusting: dict[str, Any] = {"ssl": certificates.trusting()}
    with supervised(tmp_path, SCRIPT.replace("port=0", "'localhost', 0"), **variables) as script:
        assert script.url.startswith("wss://localhost:")
        with contextlib.ExitStack() as stack:
            clients, served = [], set()
            while len(clients) < 8 or len(served) < 2:
                clients.append(stack.enter_context(script.client(**trusting)))
                served.add(said(clients[-1])[0])
            script.reload()
            assert {end_of(client)[0] for client in clients} == {1012}
        script.say(**trusting)
        assert script.end()[0] == 0


def test_uvicorn_workers_serve_a_port(tmp_path: Path) -> None:
    """Without TLS."""
    pytest.importorskip("uvicorn")
    with supervised(tmp_path, ZCLI_WEBSOCKET_TRANSPORT="uvicorn") as script, script.client() as client:
        said(client)
        script.answering()
        script.reload()
        assert end_of(client)[0] == 1012
        script.answering()
        assert script.end()[0] == 0


def test_workers_with_installed_uvloop(tmp_path: Path) -> None:
    """A script that makes uvloop the event loop of the whole process."""
    with supervised(tmp_path, f"import uvloop; uvloop.install()\n{SCRIPT}") as script, script.client() as client:
        said(client)
        script.reload()
        assert end_of(client)[0] == 1012
        assert script.end()[0] == 0


def test_workers_share_a_unix_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its file stays over a reload and is removed at the end."""
    monkeypatch.chdir(tmp_path)  # the path of a Unix socket is short
    code = SCRIPT.replace("port=0, ", "")
    with supervised(tmp_path, code, ZCLI_WEBSOCKET_UNIX_PATH="s", ZCLI_WEBSOCKET_UNIX_MODE="600") as script:
        file = tmp_path / "s"
        assert script.url == f"ws+unix://{file}"
        assert file.stat().st_mode & 0o777 == 0o600
        with unix_connect("s", uri="ws://localhost/", open_timeout=DEADLINE) as client:
            before, _ = said(client)
            script.reload()
            assert end_of(client)[0] == 1012
        with unix_connect("s", uri="ws://localhost/", open_timeout=DEADLINE) as client:
            assert said(client)[0] != before
        assert script.end()[0] == 0
        assert not file.exists()


def test_workers_share_sockets_of_systemd(tmp_path: Path) -> None:
    """The supervisor tells systemd what happens and pings its watchdog; workers have none of the variables."""
    (tmp_path / "start.py").write_text(
        "import os, sys\n"
        "os.dup2(int(sys.argv[1]), 3)\n"
        "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()), WATCHDOG_USEC='90000000')\n"
        "os.execv(sys.executable, [sys.executable, '-u', 'script.py'])\n"
    )
    code = SCRIPT.replace("port=0, ", "").replace(
        "{VERSION}",
        "{int(not {'LISTEN_FDS', 'NOTIFY_SOCKET', 'WATCHDOG_USEC'}.isdisjoint(os.environ))}",
    )
    (tmp_path / "script.py").write_text(code)
    address = f"\0zcli-workers-{os.getpid()}"
    with socket.create_server(("127.0.0.1", 0)) as listening, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as told:
        if sys.platform != "linux":
            pytest.skip("abstract sockets are Linux's")
        told.bind(address)
        told.settimeout(DEADLINE)
        variables = {**SETTINGS, "NOTIFY_SOCKET": address.replace("\0", "@")}
        with subprocess.Popen(
            [sys.executable, "start.py", str(listening.fileno())], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, cwd=tmp_path, env=plain_environment(tmp_path, variables), pass_fds=[listening.fileno()],
            start_new_session=True,
        ) as process:  # fmt: skip
            script = Supervised(process, tmp_path)
            assert script.port == listening.getsockname()[1]
            assert told.recv(100) == b"WATCHDOG=1"
            ready = f"READY=1\nSTATUS=listening on {script.url} with 2 workers".encode()
            assert told.recv(100) == ready
            assert script.say()[1] == 0
            script.answering()
            script.process.send_signal(signal.SIGHUP)
            assert told.recv(100).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
            assert told.recv(100) == ready
            assert script.end()[0] == 0
            assert told.recv(100) == b"STOPPING=1\nSTATUS=stopping all workers"


@pytest.mark.parametrize("how", ["-c", "-m", "relative", "no descriptors"])
def test_workers_of_any_program(tmp_path: Path, how: str) -> None:
    """Each worker is started as the program was."""
    (tmp_path / "served_module.py").write_text(SCRIPT)
    arguments = {
        "-c": ["-c", SCRIPT],
        "-m": ["-m", "served_module"],
        "relative": ["served_module.py"],
        "no descriptors": ["served_module.py"],
    }[how]
    command = [sys.executable, "-u", *arguments]
    if how == "no descriptors":
        command = ["sh", "-c", 'exec "$@" <&- 2>&-', "sh", *command]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path,
        env=plain_environment(tmp_path, SETTINGS), start_new_session=True,
    ) as process:  # fmt: skip
        script = Supervised(process, tmp_path)
        script.answering()
        assert script.end()[0] == 0


def test_guesses_are_counted_over_all_workers(tmp_path: Path) -> None:
    """Ten wrong tokens, to any workers, let the address wait everywhere; a right token is still accepted."""
    variables = {
        "ZCLI_WEBSOCKET_REQUIRE_AUTH": "true",
        "ZCLI_WEBSOCKET_TOKEN": "a-token-for-the-tests",
        "ZCLI_WEBSOCKET_MAX_REFUSAL_DELAY": "0",
        "ZCLI_WEBSOCKET_WORKERS": "3",
    }
    reasons: list[str] = []

    def guess() -> str:
        url = f"{script.url}?token=wrong"
        with connect(url, proxy=None, open_timeout=DEADLINE) as client:
            reasons.append(end_of(client)[1])
        return reasons[-1]

    with supervised(tmp_path, **variables) as script:
        eventually(lambda: guess().startswith("too many failed attempts, wait"))
        in_row = 0
        while in_row < 10:  # in every worker
            in_row = in_row + 1 if guess().startswith("too many failed attempts, wait") else 0
        assert reasons.count("authentication failed") <= 10
        assert script.end(signal.SIGTERM)[0] == 0

"""WebSocket: the servers of the demos as processes, with the client of the library websockets."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tour_steps.walk import StepFailed, Tour, expect
from zcli_core.testing.tls_sockets import ThreadSafeSSLSocket

_ROOT = Path(__file__).resolve().parent.parent.parent
_FOLDER = Path("Demos", "Layer_0", "zComm_Demo", "lvl2_websocket")
_TOKEN = "demo_secure_token_123"
_TIMEOUT = 30.0  # seconds


def show_websocket(tour: Tour) -> str:
    # A copy, because the demo of wss:// makes a certificate in its folder.
    folder = tour.folder / _FOLDER.name
    shutil.copytree(_ROOT / _FOLDER, folder, ignore=shutil.ignore_patterns("certs", "__pycache__"))
    for show in (_default_echo, _echo, _token, _encrypted, _broadcast):
        show(tour, folder)
        tour.print("")
    return "echo, tokens, wss and broadcast; each server stopped cleanly"


def _default_echo(tour: Tour, folder: Path) -> None:
    with _Server(tour, folder, "1_websocket_server.py") as server, server.client() as client:
        _exchange(tour, client, "hello", "hello")


def _echo(tour: Tour, folder: Path) -> None:
    with _Server(tour, folder, "2_websocket_echo.py") as server, server.client() as client:
        _exchange(tour, client, "hello", "Echo: hello")


def _token(tour: Tour, folder: Path) -> None:
    with _Server(tour, folder, "3_websocket_secure.py") as server:
        for what, query, origin in (
            ("no token", "", None),
            ("a wrong token", "?token=wrong", None),
            ("the token, a page that is not allowed", f"?token={_TOKEN}", "http://evil.example"),
        ):
            with server.client(query, origin=origin) as client:
                code, reason = close_of(client)
            tour.print(f"{what}: closed {code}, {reason}", deeper=2)
            expect(code == 1008, f"{what} was not refused with 1008")
        with server.client(f"?token={_TOKEN}", origin="null") as client:
            tour.print("the token, from a page in a file:", deeper=2)
            _exchange(tour, client, "hello", "[Secure Echo]: hello")


def _encrypted(tour: Tour, folder: Path) -> None:
    maker = "demo_certificate.py"
    tour.print(f"{_FOLDER / maker}", "cyan")
    done = subprocess.run(
        [sys.executable, str(folder / maker)], capture_output=True, encoding="utf-8", timeout=_TIMEOUT, check=False
    )
    certificate = folder / "certs" / "demo.cert"
    expect(certificate.exists(), f"no certificate was made: {done.stderr}")
    tour.print("made a certificate for the names of this machine", deeper=2)
    with _Server(tour, folder, "4_websocket_wss.py") as server:
        with server.client(f"?token={_TOKEN}", ssl=_trusting(certificate)) as client:
            cipher = client.socket.cipher()
            tour.print(f"{client.socket.version()}, {cipher[0]}", deeper=2)
            _exchange(tour, client, "hello", "[Encrypted Echo]: hello")
        try:
            server.client(ssl=ssl.create_default_context())
        except ssl.SSLCertVerificationError as error:
            tour.print(f"a client that does not trust the certificate: {error.verify_message}", deeper=2)
        else:
            raise StepFailed("an untrusted certificate was accepted")


def _broadcast(tour: Tour, folder: Path) -> None:
    with _Server(tour, folder, "5_websocket_broadcast.py") as server, contextlib.ExitStack() as stack:
        one, two, three = (stack.enter_context(server.client(f"?token={_TOKEN}")) for _ in range(3))
        for client in (two, three):  # once others have its message, the server has accepted a client
            client.send("hello")
            one.recv(timeout=_TIMEOUT)
        three.recv(timeout=_TIMEOUT)
        two.recv(timeout=_TIMEOUT)
        one.send("good morning")
        received = [client.recv(timeout=_TIMEOUT) for client in (two, three)]
        tour.print("one of three clients sends 'good morning'; the others receive", deeper=2)
        for text in received:
            tour.print(f"  {text}", deeper=2)
        expect(
            all(text.endswith("says: good morning") for text in received),
            "the other clients did not receive the broadcast",
        )


class _Server:
    """The server of a demo, from its start to its end."""

    def __init__(self, tour: Tour, folder: Path, name: str) -> None:
        self._tour = tour
        self._script = folder / name
        self._stack = contextlib.ExitStack()
        self.url = ""

    def __enter__(self) -> _Server:
        self._tour.print(str(_FOLDER / self._script.name), "cyan")
        self._process = self._stack.enter_context(server_process(self._script))
        assert self._process.stdout is not None
        printed = ""
        for line in self._process.stdout:
            printed += line
            if " listening on " in line:
                self.url = line.split(" listening on ")[1].split()[0]
                self._tour.print(line.partition(";")[0], deeper=2)
                return self
        raise StepFailed(f"{self._script.name} did not start to listen: {printed.strip()}")

    def client(self, query: str = "", **options: Any) -> Any:
        from websockets.sync.client import connect

        return connect(f"{self.url}/{query}", proxy=None, open_timeout=_TIMEOUT, **options)

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        with self._stack:
            if kind is None:
                self._stop()

    def _stop(self) -> None:
        with self.client("" if self._is_open else f"?token={_TOKEN}", **self._tls()) as client:
            self._process.send_signal(signal.SIGTERM if os.name == "nt" else signal.SIGINT)
            code, reason = close_of(client)
            self._tour.print(f"Ctrl+C: the server closes its client with {code}, {reason}", deeper=2)
            expect(code == 1001, "the close code is not 1001")
        printed, _ = self._process.communicate(timeout=_TIMEOUT)
        *_, last = printed.splitlines()
        self._tour.print(last, deeper=2)
        expect(self._process.returncode == 0, f"the server ended with status {self._process.returncode}: {printed}")
        expect("stopped:" in last and "released" in last, "the server did not print that its port is released")
        expect("Traceback" not in printed, "the server printed a traceback")

    @property
    def _is_open(self) -> bool:
        return self._script.name[0] in "12"

    def _tls(self) -> dict[str, object]:
        if not self.url.startswith("wss"):
            return {}
        return {"ssl": _trusting(self._script.parent / "certs" / "demo.cert")}


@contextlib.contextmanager
def server_process(script: Path, variables: Mapping[str, str] = {}) -> Iterator[subprocess.Popen[str]]:
    """Run the server of a demo on a free port, with these variables and no other settings of the environment."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("ZCLI_", "WEBSOCKET_"))}
    with subprocess.Popen(
        [sys.executable, "-u", str(script)],
        cwd=script.parent,
        env={**inherited, "WEBSOCKET_PORT": "0", "PYTHONUTF8": "1", **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


def _trusting(certificate: Path) -> ssl.SSLContext:
    """Make a TLS context that trusts this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.sslsocket_class = ThreadSafeSSLSocket  # the client of websockets reads in another thread
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(certificate)
    return context


def _exchange(tour: Tour, client: Any, message: str, expected: str) -> None:
    client.send(message)
    received = client.recv(timeout=_TIMEOUT)
    tour.print(f"sent {message!r}, received {received!r}", deeper=2)
    expect(received == expected, f"expected {expected!r}")


def close_of(client: Any) -> tuple[int, str]:
    """Return the code and the reason with which the server closes the connection."""
    from websockets.exceptions import ConnectionClosed

    try:
        while True:
            client.recv(timeout=_TIMEOUT)
    except ConnectionClosed as closed:
        if closed.rcvd is None:
            raise StepFailed("the connection was dropped without a close frame") from closed
        return closed.rcvd.code, closed.rcvd.reason

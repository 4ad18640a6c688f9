"""The real httpbin on a loopback port, for the demos, the tour, the tests and the benchmarks.

    python Demos/local_httpbin.py            # prints the URL, serves until its standard input closes
    python Demos/local_httpbin.py --https    # prints the URL and the PEM file of the authority to trust

Needs the packages `httpbin` and, for HTTPS, `trustme` (`pip install httpbin trustme`).

Flask's development server closes each connection after one response. This server keeps connections open, as HTTP/1.1
servers do, so that connection pools reuse them.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

WSGIApp = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class LocalHttpbin:
    """An httpbin in threads of this process, as a context manager.

    Attributes:
        url: URL of the server.
        ca_file: With ``https=True``, the PEM file of the authority that signed the certificate of the server, which is
            for 127.0.0.1, ::1 and localhost. The file is removed with the server.
    """

    def __init__(self, *, https: bool = False, port: int = 0, app: WSGIApp | None = None) -> None:
        self.ca_file: Path | None = None
        self._folder = tempfile.TemporaryDirectory(prefix="local-httpbin-") if https else None
        context = self._certificate(Path(self._folder.name)) if self._folder else None
        self._server = _Server(port, app or _httpbin(), context)
        self.url = f"{'https' if https else 'http'}://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="local-httpbin", daemon=True
        )

    def _certificate(self, folder: Path) -> ssl.SSLContext:
        import trustme

        authority = trustme.CA()
        self.ca_file = folder / "authority.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1", "::1", "localhost").configure_cert(context)
        return context

    def start(self) -> LocalHttpbin:
        self._thread.start()
        return self

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._server.drop_connections()
        self._thread.join()
        if self._folder:
            self._folder.cleanup()

    def __enter__(self) -> LocalHttpbin:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.close()


@contextlib.contextmanager
def httpbin_process(*, https: bool = False, cpu: int | None = None) -> Iterator[tuple[str, Path | None]]:
    """Run httpbin in another process; yield its URL and, for HTTPS, the PEM file of its authority.

    Args:
        https: Serve HTTPS.
        cpu: The only processor on which the process runs, if the system supports that. A benchmark uses another one.
    """
    command = [sys.executable, __file__]
    command += ["--https"] if https else []
    command += ["--cpu", str(cpu)] if cpu is not None else []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            if not url:
                raise RuntimeError(f"the local httpbin did not start (exit status {process.wait()})")
            yield url, Path(process.stdout.readline().strip()) if https else None
        finally:
            process.communicate()  # closes its standard input, so that it ends


def _httpbin() -> WSGIApp:
    logging.getLogger("httpbin").setLevel(logging.ERROR)  # it warns that it serves no start page
    try:
        from httpbin import app
    except ImportError as missing:
        raise SystemExit(f"the local httpbin needs its packages: pip install httpbin trustme ({missing})") from None
    return app  # type: ignore[no-any-return]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, app: WSGIApp, context: ssl.SSLContext | None) -> None:
        self.app = app
        self.context = context
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        if self.context is not None:
            # The handshake happens with the first read, in the connection's own thread.
            connection = self.context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self._open.add(connection)
        return connection, address

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def drop_connections(self) -> None:
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError):  # a client may close its connection
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    """Reads the requests of one connection, and runs the WSGI application for each."""

    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def _respond(self) -> None:
        body = self._request_body()
        status, headers, written = "500 no status", [], []

        def start_response(new_status: str, new_headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            nonlocal status, headers
            status, headers = new_status, new_headers
            return written.append

        chunks = self.server.app(self._environ(body), start_response)
        try:
            self._send(status, headers, chunks)
        finally:
            getattr(chunks, "close", lambda: None)()

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_TRACE = _respond

    def _request_body(self) -> bytes:
        if "chunked" not in self.headers.get("Transfer-Encoding", "").lower():
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = io.BytesIO()
        while line := self.rfile.readline():
            size = int(line.split(b";")[0], 16)
            if size == 0:
                break
            body.write(self.rfile.read(size))
            self.rfile.readline()
        else:
            raise ConnectionResetError("the client closed the connection in the middle of its request")
        while self.rfile.readline().strip():
            pass
        del self.headers["Transfer-Encoding"]
        return body.getvalue()

    def _environ(self, body: bytes) -> dict[str, Any]:
        path, _, query = self.path.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": self.command,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": str(self.server.server_port),
            "SERVER_PROTOCOL": self.request_version,
            "REMOTE_ADDR": self.client_address[0],
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "https" if self.server.context else "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        if body or "Content-Length" in self.headers:
            environ["CONTENT_LENGTH"] = str(len(body))
        for name in set(self.headers.keys()):
            key = "HTTP_" + name.upper().replace("-", "_")
            if key not in ("HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"):
                environ[key] = ",".join(self.headers.get_all(name, []))
        return environ

    def _send(self, status: str, headers: list[tuple[str, str]], chunks: Iterable[bytes]) -> None:
        code, _, reason = status.partition(" ")
        self.send_response(int(code), reason)
        names = {name.lower() for name, _ in headers}
        bodiless = self.command == "HEAD" or code in ("204", "304")
        chunked = "content-length" not in names and not bodiless
        for name, value in headers:
            if name.lower() not in ("server", "date"):
                self.send_header(name, value)
        if chunked:
            self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for chunk in chunks:
            if chunk and not bodiless:
                self.wfile.write(b"%x\r\n%s\r\n" % (len(chunk), chunk) if chunked else chunk)
                if chunked:
                    self.wfile.flush()
        if chunked:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *args: Any) -> None:
        pass


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the real httpbin on 127.0.0.1 until standard input closes.")
    parser.add_argument("--port", type=int, default=0, help="port to listen on; a free one if not given")
    parser.add_argument("--https", action="store_true", help="serve HTTPS and print the authority's PEM file")
    parser.add_argument("--cpu", type=int, help="run on this processor only, where the system can do that")
    given = parser.parse_args()
    if given.cpu is not None and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {given.cpu})
    if not sys.stdin.isatty():  # a program started us and will close it: that program handles Ctrl+C
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    with LocalHttpbin(https=given.https, port=given.port) as httpbin:
        print(httpbin.url, flush=True)
        if httpbin.ca_file:
            print(httpbin.ca_file, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            sys.stdin.read()


if __name__ == "__main__":
    main()

"""The page with metrics: opening its port, and the thread that serves it."""

from __future__ import annotations

import contextlib
import errno
import logging
import selectors
import socket
import threading
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

from prometheus_client.exposition import choose_encoder

from zcli_core.errors import ListenError
from zcli_core.net.ports import held_by
from zcli_core.system.forks import call_after_fork
from zcli_prometheus.collector import PageCollector

if TYPE_CHECKING:
    from prometheus_client.registry import Collector

    from zcli_core.plugins.contract import Context
    from zcli_core.websocket.running_server import RunningServer
    from zcli_prometheus.settings import Prometheus

#: Most connections that are served at a time; one more is closed at once.
_MOST_CONNECTIONS = 16
#: Seconds that a client may be silent.
_TIMEOUT = 10.0
#: Seconds until the thread tries to accept again, if no descriptor is left.
_PAUSE = 0.5
_PATHS = ("/", "/metrics")


def open_page(server: RunningServer, settings: Prometheus, context: Context) -> MetricsPage:
    """Listen, and serve the metrics of a server.

    Raises:
        ConfigError: The metrics of the script cannot be read.
        ListenError: The port cannot be used.
    """
    collector = PageCollector(server, context.config)
    listening = _listen(settings, context)
    host, port = listening.getsockname()[:2]
    page = MetricsPage(listening, collector, context.log)
    shown = f"[{host}]" if ":" in host else host
    context.log.info("metrics for Prometheus: http://%s:%d/metrics", shown, port)
    return page


def _listen(settings: Prometheus, context: Context) -> socket.socket:
    host, port = settings.host, settings.port
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise ListenError(_explain(error, settings, context)) from error


def _explain(error: OSError, settings: Prometheus, context: Context) -> str:
    host, port = settings.host, settings.port or 0
    if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
        origin = context.config.explain("prometheus.host").origin
        return f"prometheus.host ({origin}): {host!r} is not an address of this machine"
    where = f"prometheus.port ({context.config.explain('prometheus.port').origin})"
    if error.errno == errno.EADDRINUSE:
        return f"{where}: port {port} of {host} is in use{held_by(port, host)}; stop it, or set another port"
    return f"{where}: cannot listen on port {port} of {host}: {error.strerror or error}"


class MetricsPage:
    """Serves one page over HTTP, from threads of its own."""

    def __init__(self, listening: socket.socket, collector: Collector, log: logging.Logger) -> None:
        """Start to serve.

        Args:
            listening: The socket, which this closes.
            collector: Collects the families to show.
            log: Where errors are logged.
        """
        self.collector = collector
        self.log = log
        self._listening = listening
        self._waking, self._wake = socket.socketpair()
        self._closing = False
        self._lock = threading.Lock()
        self._connections: set[socket.socket] = set()
        self._thread = threading.Thread(target=self._accept, name="zcli-prometheus", daemon=True)
        self._thread.start()
        call_after_fork(self)

    def _after_fork(self) -> None:
        """Release the port in the child process, which does not have the threads."""
        for each in (self._listening, self._waking, self._wake):
            each.close()

    def close(self) -> None:
        """Release the port. Responses that are being made are still sent; connections that wait are closed."""
        with self._lock:
            self._closing = True
            for connection in self._connections:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RD)
        with contextlib.suppress(OSError):  # closed by _after_fork()
            self._wake.send(b"x")
            self._thread.join()
        for each in (self._listening, self._waking, self._wake):
            each.close()

    def _accept(self) -> None:
        self._listening.setblocking(False)
        with selectors.DefaultSelector() as selector:
            selector.register(self._listening, selectors.EVENT_READ)
            selector.register(self._waking, selectors.EVENT_READ)
            while not self._closing:
                selector.select()
                try:
                    connection, address = self._listening.accept()
                except BlockingIOError:
                    continue
                except OSError as error:  # the client is gone, or no descriptor is left
                    self.log.debug("metrics: cannot accept a connection: %s", error)
                    selector.unregister(self._listening)
                    selector.select(_PAUSE)
                    selector.register(self._listening, selectors.EVENT_READ)
                    continue
                self._begin(connection, address)

    def _begin(self, connection: socket.socket, address: Any) -> None:
        with self._lock:
            if self._closing or len(self._connections) >= _MOST_CONNECTIONS:
                connection.close()
                return
            self._connections.add(connection)
        threading.Thread(
            target=self._serve, args=(connection, address), name="zcli-prometheus-scrape", daemon=True
        ).start()

    def _serve(self, connection: socket.socket, address: Any) -> None:
        try:
            connection.settimeout(_TIMEOUT)
            with contextlib.suppress(OSError):  # the client is gone, or silent
                _Handler(connection, address, self)  # type: ignore[arg-type]
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    server: MetricsPage  # type: ignore[assignment]
    server_version = "zCLI"
    sys_version = ""

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path not in _PATHS:
            self._respond(404, b"The metrics are at /metrics.\n")
            return
        try:
            encode, content_type = choose_encoder(self.headers.get("Accept", ""))
            body = encode(self.server.collector)
        except Exception:
            self.server.log.exception("the metrics cannot be read")
            self._respond(500, b"The metrics cannot be read; the log of the server says why.\n")
            return
        self._respond(200, body, content_type)

    do_HEAD = do_GET  # noqa: N815

    def _refuse_method(self) -> None:
        self._respond(405, b"The metrics can only be read.\n", allow="GET, HEAD")

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _refuse_method  # noqa: N815

    def _respond(
        self, status: int, body: bytes, content_type: str = "text/plain; charset=utf-8", allow: str | None = None
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if allow is not None:
            self.send_header("Allow", allow)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of http.server
        """Log nothing: Prometheus asks every few seconds."""

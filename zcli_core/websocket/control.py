"""The control socket of a running server, which ``zcli ws status`` and ``zcli ws reload`` use.

A client sends one line, ``status`` or ``reload``, and gets one JSON object: ``{"status": {...}}``, ``{"done": true}``,
or ``{"error": "..."}``.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from zcli_core.system.forks import call_after_fork
from zcli_core.websocket.control_folder import AVAILABLE, RunFolder, require_own_peer

if TYPE_CHECKING:
    from zcli_core.websocket.running_server import RunningServer

#: Seconds that one client may take for its request, and as long for the response.
_TIMEOUT = 2.0
_LONGEST_REQUEST = 64
#: Pause after an error of the system, such as too many open files, in milliseconds.
_PAUSE = 1000


@contextlib.contextmanager
def open_to_commands(server: RunningServer, title: str, log: logging.Logger) -> Iterator[None]:
    """Respond to the commands of this user while the block runs. If that is impossible, it is logged."""
    control = _open(server, title, log) if AVAILABLE else None
    try:
        yield
    finally:
        if control is not None:
            control.close()


def _open(server: RunningServer, title: str, log: logging.Logger) -> ControlSocket | None:
    try:
        folder = RunFolder(make=True)
    except OSError as error:
        log.info("zcli ws status will not show this server: %s", _reason(error))
        return None
    try:
        return ControlSocket(folder, server, title, log)
    except (OSError, RuntimeError) as error:  # RuntimeError: no further thread can be started
        folder.close()
        log.info("zcli ws status will not show this server: %s", _reason(error))
        return None


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        named = error.filename and error.filename not in error.strerror
        return f"{error.filename}: {error.strerror}" if named else error.strerror
    return str(error)


class ControlSocket:
    """A socket with a thread that responds to its clients, one after the other."""

    def __init__(self, folder: RunFolder, server: RunningServer, title: str, log: logging.Logger) -> None:
        """Listen. The object closes the folder in the end.

        Raises:
            OSError: The socket cannot be made.
            RuntimeError: The thread cannot be started.
        """
        self._folder = folder
        self._server = server
        self._log = log
        self._listener, self._name = folder.listen(title)
        self._listener.setblocking(False)
        try:
            #: The thread ends when the end for writing is closed.
            self._ending, self._end = os.pipe()
            # The thread must not keep the process alive, nor wait for a handler that blocks.
            self._thread = threading.Thread(target=self._serve, name="zcli-control", daemon=True)
            try:
                self._thread.start()
            except BaseException:
                os.close(self._ending)
                os.close(self._end)
                raise
        except BaseException:
            self._listener.close()
            folder.remove(self._name)
            raise
        self._closed = False
        call_after_fork(self)

    def _after_fork(self) -> None:
        """Close the parent's socket, which has no thread here: its clients would wait for ever."""
        if not self._closed:
            self._closed = True
            os.close(self._end)
            self._release()

    def close(self) -> None:
        """Remove the socket's file, and end the thread without waiting for it."""
        if not self._closed:
            self._closed = True
            self._folder.remove(self._name)
            os.close(self._end)

    def _release(self) -> None:
        self._listener.close()
        os.close(self._ending)
        self._folder.close()

    def _serve(self) -> None:
        try:
            self._remove_stale()
            events = select.poll()
            events.register(self._ending)
            events.register(self._listener, select.POLLIN)
            while self._ending not in (ready := dict(events.poll())):
                if ready:
                    self._answer_next()
        finally:
            self._release()

    def _remove_stale(self) -> None:
        """Remove the files of killed processes."""
        try:
            for _, sock in self._folder.connections(_TIMEOUT):
                if isinstance(sock, socket.socket):
                    sock.close()
        except OSError as error:
            self._log.debug("the folder %s cannot be read: %s", self._folder.path, _reason(error))

    def _answer_next(self) -> None:
        try:
            client, _ = self._listener.accept()
        except BlockingIOError:  # the client has left
            return
        except OSError:
            ending = select.poll()
            ending.register(self._ending)
            ending.poll(_PAUSE)
            return
        with client:
            try:
                require_own_peer(client)
                request = _read_line(client)
                if request:
                    client.settimeout(_TIMEOUT)
                    client.sendall(_encode(self._respond(request)))
            except OSError as error:
                self._log.debug("a client of the control socket got no response: %s", _reason(error))

    def _respond(self, request: str) -> dict[str, Any]:
        try:
            if request == "status":
                return {"status": self._server.status()}
            if request == "reload":
                self._server.reload()
                return {"done": True}
        except Exception as error:  # noqa: BLE001 - the client gets it
            return {"error": f"{error}" or type(error).__name__}
        return {"error": f"unknown request {request!r}"}


def _read_line(client: socket.socket) -> str:
    """Return the line that a client sends, at most 64 bytes; empty if it sends none in time."""
    deadline = time.monotonic() + _TIMEOUT
    received = b""
    while b"\n" not in received and len(received) <= _LONGEST_REQUEST:
        client.settimeout(max(deadline - time.monotonic(), 0.001))
        data = client.recv(_LONGEST_REQUEST)
        if not data:
            return ""
        received += data
    return received.partition(b"\n")[0][:_LONGEST_REQUEST].decode("utf-8", "replace")


def _encode(response: dict[str, Any]) -> bytes:
    import json

    return json.dumps(response, default=str).encode()

"""The engine that a test of a backplane needs: a process of its own, and a relay on the way to it."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from zcli_core.net.ports import find_free_port
from zcli_core.testing.tcp_peers import TcpPeer

_TICK = 0.02
_CHUNK = 64 * 1024
_LONGEST = 20.0


class EngineProcess:
    """A server of the engine on a free port of 127.0.0.1, which tests kill and freeze.

    Derive from it and write :meth:`command` and :meth:`settings`. A test may change nothing else in it.

    Attributes:
        port: The port.
        folder: A folder for the server's files, which is deleted at the end.
        executable: Path of the program.
    """

    #: The program, in ``PATH`` or beside the Python in use. Without it the tests are skipped by its name; in CI, if the
    #: variable ``CI`` is set, they fail.
    program: str
    #: Bytes that may wait for one connection until the engine cuts it; None if it has no limit.
    slow_limit: int | None = None

    def __init__(self) -> None:
        found = shutil.which(self.program) or shutil.which(self.program, path=Path(sys.executable).parent)
        if found is None:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(f"the program {self.program} is not installed")
        self.executable = found
        self.port = find_free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="zcli-engine-"))
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        """Return the command that starts the server in the foreground at :attr:`port`."""
        raise NotImplementedError

    def settings(self, port: int) -> Mapping[str, Any]:
        """Return the zSpark that selects the engine at a port of 127.0.0.1, which may be that of a relay."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the server, unless it runs, and wait until it accepts connections."""
        if self._process is not None:
            return
        end = time.monotonic() + _LONGEST
        self._process = subprocess.Popen(  # noqa: S603 - the command of a test
            self.command(), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            assert self._process.poll() is None, f"{self.program} ended with {self._process.returncode}"
            assert time.monotonic() < end, f"{self.program} does not listen on port {self.port}"
            time.sleep(_TICK)

    def kill(self) -> None:
        """End the server at once (SIGKILL)."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def freeze(self) -> None:
        """Stop the server (SIGSTOP): its connections stay open, and it does nothing."""
        assert self._process is not None
        os.kill(self._process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WNOWAIT)

    def thaw(self) -> None:
        """Let a frozen server go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Kill the server and delete its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class FaultyPath(TcpPeer):
    """A relay to a port of 127.0.0.1 that can fail as a network does. Use it as a context manager."""

    def __init__(self, server: int) -> None:
        super().__init__()
        self._server = server
        self._lives = 0
        self._forwards = threading.Event()
        self._forwards.set()
        #: Bytes of a reply that are forwarded in one tick; None: all.
        self._most: int | None = None

    def cut(self) -> None:
        """Reset all connections. New ones are forwarded."""
        self._lives += 1

    def silence(self) -> None:
        """Forward nothing more, as a firewall that has forgotten the connections. They stay open."""
        self._forwards.clear()

    def slow(self, bytes_per_second: int) -> None:
        """Forward replies slowly."""
        self._most = max(int(bytes_per_second * _TICK), 1)

    def restore(self) -> None:
        """Forward everything again."""
        self._most = None
        self._forwards.set()

    def talk(self, connection: socket.socket) -> None:
        """Forward one connection."""
        life = self._lives
        with socket.create_connection(("127.0.0.1", self._server), _LONGEST) as server:
            while not self._ending.is_set() and life == self._lives:
                if not self._forwards.wait(_TICK):
                    continue
                readable = select.select([connection, server], [], [], _TICK)[0]
                if not self._forwards.is_set():
                    continue
                if connection in readable and not self._forward(connection, server, _CHUNK):
                    return
                if server in readable and not self._forward(server, connection, self._most or _CHUNK):
                    return
                if self._most is not None:
                    time.sleep(_TICK)
            self.reset(connection)

    def _forward(self, source: socket.socket, target: socket.socket, most: int) -> bool:
        """Forward what is there; return False at the end of the connection."""
        data = source.recv(most)
        self.send(target, data)
        return bool(data)

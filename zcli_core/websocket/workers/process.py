"""One worker, as the supervisor sees it: its process, its end of the socket pair, and what it has reported."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from zcli_core.errors import BackplaneFailure, ConfigError, ListenError
from zcli_core.printable import printable
from zcli_core.websocket.workers.assignment import FOLDER, Assignment
from zcli_core.websocket.workers.channel import Channel, Message
from zcli_core.websocket.workers.command import worker_environment

if TYPE_CHECKING:
    from zcli_core.types import WebSocketMetrics, WorkerStatus

#: Signals that a terminal sends to all its processes. A worker has them blocked until it leaves them to the supervisor.
_OF_TERMINAL = (signal.SIGINT, signal.SIGHUP) if os.name == "posix" else ()
#: Most bytes of a worker's stderr that are kept until it is ready.
_MAX_OUTPUT = 256 * 1024
#: Seconds to wait for the last messages of a process that has ended. A program that it has started may keep the pair.
_LAST_MESSAGES = 0.5

State = Literal["starting", "ready", "draining"]


class WorkerFailure(Exception):  # noqa: N818 - it is handled in the supervisor only
    """A worker has ended before it was ready. The message is a clause, such as ``"it ended with exit status 1"``.

    Attributes:
        error: What ``start()`` raised in the worker, to be raised in the supervisor; None for other failures.
        output: What the worker wrote to stderr.
    """

    def __init__(self, text: str, error: Exception | None = None, output: bytes = b"") -> None:
        super().__init__(text)
        self.error = error
        self.output = output


class WorkerProcess:
    """A worker. Use it in the thread of the supervisor's event loop only, except :attr:`metrics`.

    Attributes:
        number: The place of the worker, from 1.
        state: What it does.
        told: Whether the supervisor has told it to end, so that its end is expected.
        hangs: Whether it was killed because its event loop was silent.
        silence: Number of checks since its last report.
        metrics: What it has reported last; None before the first report.
        clients_closed: How many clients it had when it stopped; None if it has not reported its end.
        prepared: Done when it waits for "accept", with which it begins to serve; or it raises WorkerFailure.
        ready: Done when it serves; or it raises WorkerFailure.
        accepts_no_more: Done when it has stopped accepting.
        ended: Done when its process has ended and its last messages were read.
    """

    def __init__(self, number: int, count: int, receive: Callable[[WorkerProcess, Message], None]) -> None:
        loop = asyncio.get_running_loop()
        self.number = number
        self._count = count
        self.state: State = "starting"
        self.told = self.hangs = False
        self.silence = 0
        self.metrics: WebSocketMetrics | None = None
        self.not_ready: list[str] = ["starting"]
        self.clients_closed: int | None = None
        self.prepared: asyncio.Future[None] = loop.create_future()
        self.ready: asyncio.Future[None] = loop.create_future()
        self.accepts_no_more: asyncio.Future[None] = loop.create_future()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.pid = 0
        self.status: int | None = None
        self._receive = receive
        self._stop_reading: Callable[[], None]
        self._began = time.monotonic()
        self._failure: Message | None = None
        self._given_up: str | None = None
        self._output = bytearray()
        self._output_ended: asyncio.Future[None] = loop.create_future()
        self._channel_ended: asyncio.Future[None] = loop.create_future()

    def __str__(self) -> str:
        return f"worker {self.number} (pid {self.pid})"

    async def start(self, command: Sequence[str], sockets: Sequence[socket.socket], quiet: bool) -> None:
        """Start the process. Only one worker may be starting its process at a time.

        Args:
            command: The command line.
            sockets: The sockets that it serves.
            quiet: Whether it shows no warnings about the configuration.
        """
        own, its = socket.socketpair()
        read, write = os.pipe()
        stderr = _stderr()
        try:
            descriptors = tuple(sock.fileno() for sock in sockets)
            assigned = Assignment(self.number, self._count, descriptors, its.fileno(), stderr, quiet)
            before = signal.pthread_sigmask(signal.SIG_BLOCK, _OF_TERMINAL)
            try:
                process = await asyncio.create_subprocess_exec(
                    *command,
                    stdin=asyncio.subprocess.DEVNULL,
                    stderr=write,
                    cwd=FOLDER,
                    env=worker_environment(assigned),
                    pass_fds=(*assigned.sockets, assigned.channel, assigned.stderr),
                )
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        except BaseException:
            own.close()
            os.close(read)
            raise
        finally:
            its.close()
            os.close(write)
            os.close(stderr)
        self.pid = process.pid
        self._process = process
        self._sock = own
        self._read_output(read)
        self._channel = Channel(own, self._received, lambda: self._channel_ended.set_result(None))
        self._watching = asyncio.get_running_loop().create_task(self._watch())

    # --- what it writes ---

    def _read_output(self, descriptor: int) -> None:
        """Keep what the worker writes to stderr until it is ready, so that one failure is shown once."""
        loop = asyncio.get_running_loop()
        os.set_blocking(descriptor, False)

        def read() -> None:
            try:
                data = os.read(descriptor, 64 * 1024)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                stop()
                return
            self._output += data
            if self.ready.done() or len(self._output) > _MAX_OUTPUT:
                self.show_output()

        def stop() -> None:
            if self._output_ended.done():
                return
            loop.remove_reader(descriptor)
            os.close(descriptor)
            self._output_ended.set_result(None)

        loop.add_reader(descriptor, read)
        self._stop_reading = stop

    def show_output(self) -> None:
        """Write to stderr what the worker has written there so far."""
        text, self._output = bytes(self._output), bytearray()
        write_stderr(text)

    # --- messages ---

    def _received(self, message: Message) -> None:
        kind = message.get("kind")
        if "metrics" in message:
            self.silence = 0
            self.metrics = message["metrics"]
            self.not_ready = message.get("not_ready", [])
        if kind == "prepared":
            if not self.prepared.done():
                self.prepared.set_result(None)
        elif kind == "ready":
            self.silence = 0
            if not self.ready.done():
                self.state = "ready"
                self.ready.set_result(None)
                self.show_output()
        elif kind == "failed":
            self._failure = message
        elif kind == "stopped accepting":
            if not self.accepts_no_more.done():
                self.accepts_no_more.set_result(None)
        elif kind == "ended":
            self.clients_closed = message.get("clients", 0)
        else:
            self._receive(self, message)

    def send(self, **message: Any) -> bool:
        """Send a message. Returns False if it is dropped."""
        return self._channel.send(message)

    # --- its end ---

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the process, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def forget(self) -> None:
        """Close the socket pair in a child process of the supervisor."""
        self._sock.close()

    async def _watch(self) -> None:
        """Wait for the end of the process, and read what it has said before."""
        try:
            self.status = await self._wait()
            await asyncio.wait({self._channel_ended, self._output_ended}, timeout=_LAST_MESSAGES)
        finally:
            self._channel.close()
            self._sock.close()
            self._stop_reading()
            for future in (self.prepared, self.ready):
                if not future.done():
                    future.set_exception(self._as_failure())
                    future.exception()  # marks it as retrieved, because it may be that no code awaits it
            for future in (self.accepts_no_more, self.ended):
                if not future.done():
                    future.set_result(None)

    async def _wait(self) -> int:
        """Wait for the end of the process. A cancellation kills it, so that it does not become a zombie."""
        while True:
            try:
                return await self._process.wait()
            except asyncio.CancelledError:
                self.kill()

    def give_up(self, text: str) -> None:
        """Kill a worker that is not ready; ``text`` is the message of its WorkerFailure."""
        self._given_up = text
        self.kill()

    @property
    def has_left(self) -> bool:
        """Whether its ``start()`` has returned."""
        return self.clients_closed is not None

    def _as_failure(self) -> WorkerFailure:
        output = bytes(self._output)
        if self._given_up is not None:
            return WorkerFailure(self._given_up, None, output)
        if self._failure is not None:
            return WorkerFailure(str(self._failure.get("text")), _error_of(self._failure), output)
        lines = output.decode(errors="replace").strip().splitlines()
        cause = f": {printable(lines[-1].strip())}" if lines else ""
        return WorkerFailure(f"{self.describe_end()} before it was ready{cause}", None, output)

    def describe_end(self) -> str:
        """Return how the process has ended, as in ``"it ended with exit status 1"``."""
        status = self.status
        if status is None:
            return "it runs"
        if status >= 0:
            return f"it ended with exit status {status}"
        name = signal.Signals(-status).name if -status in set(signal.Signals) else f"signal {-status}"
        hint = "; the system may lack memory" if -status == signal.SIGKILL and not self.told and not self.hangs else ""
        return f"it was ended by {name}{hint}"

    # --- state ---

    @property
    def uptime(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self._began

    def report(self) -> WorkerStatus:
        """Return its state."""
        metrics = self.metrics
        return {
            "number": self.number,
            "pid": self.pid,
            "state": self.state,
            "uptime": self.uptime,
            "clients": metrics["clients"] if metrics else 0,
            "rooms": metrics["rooms"] if metrics else 0,
            "not_ready": list(self.not_ready),
        }


def _error_of(failure: Message) -> Exception | None:
    """Return the error that ``start()`` raised in a worker, if the script may expect it."""
    text, arguments = str(failure.get("text")), failure.get("arguments")
    kind = failure.get("type")
    if kind == "ConfigError" and isinstance(arguments, list):
        return ConfigError([str(problem) for problem in arguments])
    if kind == "ListenError":
        return ListenError(text)
    if kind == "BackplaneFailure" and isinstance(arguments, list) and arguments:
        return BackplaneFailure(arguments[0], text)
    return None


def _stderr() -> int:
    """Return a new descriptor of this process' stderr, or of nothing if it is closed."""
    try:
        return os.dup(2)
    except OSError:
        return os.open(os.devnull, os.O_WRONLY)


def write_stderr(data: bytes) -> None:
    """Write to this process' stderr, whatever the script has put in the place of ``sys.stderr``."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
    with contextlib.suppress(OSError):
        while data:
            data = data[os.write(2, data) :]

"""The transport running in a thread of its own, and a client of raw bytes, for the tests of the WebSocket transport."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import struct
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

from websocket_frames import CLOSE, frame
from zcli_wsproto.transport import WsprotoListener, WsprotoTransport

from zcli_core.contracts.websocket import (
    Accept,
    Closed,
    Connection,
    Decision,
    Endpoint,
    HttpAnswer,
    Limits,
    Message,
    Request,
)
from zcli_core.errors import ConnectionClosed

#: Seconds after which a test gives up; nothing here takes nearly as long, however busy the machine is.
PATIENCE = 20.0

LOG = logging.getLogger("zcli.test.websocket")
KEY = "dGhlIHNhbXBsZSBub25jZQ=="

T = TypeVar("T")


def until(condition: Callable[[], T], what: str = "") -> T:
    """What the condition gives as soon as it is true."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, what or "the condition did not come true"
        time.sleep(0.005)
    return found


class Echo:
    """A receiver that sends every message back."""

    def __init__(self, server: Server, connection: Connection) -> None:
        self.server = server
        self.connection = connection

    def message(self, message: Message) -> bool:
        self.server.messages.append(message)
        with contextlib.suppress(ConnectionClosed):  # to have left too much unread closes a connection
            self.connection.send(message)
        return True

    def end(self) -> bool:
        return True

    def closed(self, closed: Closed) -> None:
        self.server.closed.append(closed)


class Server:
    """A listener on loopback; it lets everybody in unless ``decide`` says otherwise."""

    def __init__(
        self,
        limits: Limits | None = None,
        endpoint: Endpoint | None = None,
        decide: Callable[[Server, Request], Decision | Awaitable[Decision]] | None = None,
        receiver: Callable[[Server, Connection], Any] = Echo,
        run: Callable[[Any], None] = asyncio.run,
    ) -> None:
        self.limits = limits or Limits(open_timeout=PATIENCE, close_timeout=PATIENCE)
        self.endpoint = endpoint or Endpoint(port=0)
        self._decide = decide
        self._receiver = receiver
        self._run = run
        self.requests: list[Request] = []
        self.connections: list[Connection] = []
        self.messages: list[Message] = []
        self.closed: list[Closed] = []
        self.answer = HttpAnswer(426, b"upgrade, please")
        #: What the loop's exception handler was given: always a bug.
        self.loop_errors: list[dict[str, Any]] = []
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._main, daemon=True)

    # The acceptor ---------------------------------------------------------------------------------------------------

    def upgrade(self, request: Request) -> Decision | Awaitable[Decision]:
        self.requests.append(request)
        return Accept(self.opened) if self._decide is None else self._decide(self, request)

    def http(self, request: Request) -> HttpAnswer:
        self.requests.append(request)
        return self.answer

    def opened(self, connection: Connection) -> Any:
        self.connections.append(connection)
        return self._receiver(self, connection)

    # The thread -----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Server:
        self._thread.start()
        assert self._started.wait(PATIENCE)
        if self._failure is not None:
            raise self._failure
        return self

    def __exit__(self, *_: object) -> None:
        self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the server does not stop"
        assert self.loop_errors == []
        if self._failure is not None:
            raise self._failure

    def _main(self) -> None:
        try:
            self._run(self._serve())
        except BaseException as error:
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.loop.set_exception_handler(lambda _, context: self.loop_errors.append(context))
        self._stop = asyncio.Event()
        self.listener: WsprotoListener = await WsprotoTransport(LOG).listen(self.endpoint, self, self.limits)
        self._started.set()
        await self._stop.wait()
        self.listener.limits = replace(self.limits, close_timeout=0.2)  # who is still there does not answer
        await self.listener.close()
        assert not self.listener.connections

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call in the loop's thread."""

        async def run() -> T:
            return function(*arguments)

        return self.wait(run())

    def wait(self, coroutine: Any) -> Any:
        """Run a coroutine in the loop's thread."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(PATIENCE)

    @property
    def port(self) -> int:
        (address, *_) = self.listener.addresses
        assert address is not None
        return address[1]

    def connect(self, *headers: str, **options: Any) -> Client:
        """A client that has been let in."""
        return Client(self, *headers, **options)

    def socket(self) -> socket.socket:
        """A bare connection."""
        if self.endpoint.unix_path is not None:
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(PATIENCE)
            sock.connect(str(self.endpoint.unix_path))
            return sock
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def ask(self, request: bytes) -> bytes:
        """Everything that is answered to some bytes, until the server closes."""
        with self.socket() as sock:
            sock.sendall(request)
            return read_all(sock)


def read_all(sock: socket.socket) -> bytes:
    """What comes until the other side closes or resets."""
    data = b""
    try:
        while piece := sock.recv(65536):
            data += piece
    except ConnectionResetError:
        pass
    return data


def upgrade_request(*headers: str, target: str = "/chat", drop: Sequence[str] = (), version: str = "1.1") -> bytes:
    """A proper upgrade, with headers more or, by name, fewer."""
    lines = [
        "Host: 127.0.0.1", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
    ]  # fmt: skip
    kept = [line for line in lines if line.partition(":")[0] not in drop]
    return "\r\n".join([f"GET {target} HTTP/{version}", *kept, *headers, "", ""]).encode("latin-1")


class Frame(NamedTuple):
    """A frame of the server's."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0


class Client:
    """An open WebSocket connection that sends any bytes and reads frames."""

    def __init__(
        self,
        server: Server,
        *headers: str,
        extensions: str | None = None,
        tls: ssl.SSLContext | None = None,
        behind: bytes = b"",
    ) -> None:
        self.sock = server.socket()
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname="localhost")
        if extensions is not None:
            headers = (*headers, f"Sec-WebSocket-Extensions: {extensions}")
        self.sock.sendall(upgrade_request(*headers) + behind)
        self._buffer = b""
        while b"\r\n\r\n" not in self._buffer:
            self._receive()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        self.status, *lines = head.decode().split("\r\n")
        self.headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        assert self.status == "HTTP/1.1 101 Switching Protocols", head

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def _receive(self) -> None:
        piece = self.sock.recv(1 << 18)
        if not piece:
            raise EOFError
        self._buffer += piece

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._receive()
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def send(self, *frames: bytes) -> None:
        """Send bytes in one go."""
        self.sock.sendall(b"".join(frames))

    def try_to_send(self, data: bytes) -> None:
        """Send to a server that may have had enough."""
        with contextlib.suppress(OSError):
            self.sock.sendall(data)

    def read(self) -> Frame:
        """The next frame. EOFError at the end, AssertionError for a masked one."""
        first, second = self._take(2)
        assert second < 0x80, "a server does not mask"
        length = second
        if second == 126:
            (length,) = struct.unpack("!H", self._take(2))
        elif second == 127:
            (length,) = struct.unpack("!Q", self._take(8))
        return Frame(first & 0x0F, self._take(length), bool(first & 0x80), first >> 4 & 7)

    def read_to_end(self) -> list[Frame]:
        """Every frame until the server closes TCP."""
        frames = []
        while True:
            try:
                frames.append(self.read())
            except EOFError:
                return frames

    def ending(self) -> tuple[list[Frame], int | None, str]:
        """What the server sends up to its close frame, then that frame's code and reason; it must be the last."""
        *before, last = self.read_to_end()
        assert last.opcode == CLOSE, last
        if not last.payload:
            return before, None, ""
        return before, int.from_bytes(last.payload[:2], "big"), last.payload[2:].decode()

    def close_code(self) -> int | None:
        """The code of the server's close frame, the only thing that it sends."""
        before, code, _ = self.ending()
        assert before == []
        return code

    def echo(self, payload: bytes = b"are you there?", opcode: int = 0x1) -> bytes:
        """Send a message and read the answer."""
        self.send(frame(opcode, payload))
        return self.read().payload

"""A server with the WebSocket transport under test, in its own thread.

It plays the core: an acceptor that admits every client by default, and receivers that echo. During every test it checks
the contract's rules for the calls of acceptor and receivers.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from zcli_core.errors import ConnectionClosed
from zcli_core.testing.websocket.client import PATIENCE, Client, read_all, until, upgrade_request
from zcli_core.websocket.contract import (
    Accept,
    Address,
    Closed,
    Connection,
    Decision,
    Endpoint,
    Limits,
    Listener,
    Message,
    PlainResponse,
    Receiver,
    Request,
    State,
    Transport,
)

if TYPE_CHECKING:
    import ssl

T = TypeVar("T")

#: Decides on a request, as :meth:`zcli_core.websocket.contract.Acceptor.upgrade`; the first argument is the server.
Decide = Callable[["ServerUnderTest", Request], "Decision | Awaitable[Decision]"]


class Echo:
    """A receiver that records every message in ``server.messages`` and sends it back."""

    def __init__(self, server: ServerUnderTest, connection: Connection) -> None:
        self.server = server
        self.connection = connection

    def message(self, message: Message) -> bool:
        """Send the message back and go on."""
        self.server.messages.append(message)
        with contextlib.suppress(ConnectionClosed):  # a client with too much unread data is closed
            self.connection.send(message)
        return True

    def end(self) -> bool:
        """Report that every message has been handled."""
        return True

    def closed(self, closed: Closed) -> None:
        """Do nothing: the server records the end."""


class _Watched:
    """A receiver that records every call that the contract forbids, and passes calls on."""

    def __init__(self, server: ServerUnderTest, connection: Connection, receiver: Receiver) -> None:
        self._server = server
        self._connection = connection
        self._receiver = receiver
        self._inside = ""
        self._ended = False
        self.times_closed = 0

    @contextlib.contextmanager
    def _call(self, name: str) -> Any:
        self._server.note_callback(f"Receiver.{name}")
        if self._inside:
            self._server.violations.append(f"Receiver.{name} was called inside Receiver.{self._inside}")
        if self.times_closed:
            self._server.violations.append(f"Receiver.{name} was called after Receiver.closed")
        before, self._inside = self._inside, name
        try:
            yield
        finally:
            self._inside = before

    def message(self, message: Message) -> bool:
        with self._call("message"):
            if self._ended:
                self._server.violations.append("Receiver.message was called after Receiver.end")
            if type(message) not in (str, bytes):
                self._server.violations.append(f"a message of type {type(message).__name__}, not str or bytes")
            return self._receiver.message(message)

    def end(self) -> bool:
        with self._call("end"):
            if self._ended:
                self._server.violations.append("Receiver.end was called twice")
            self._ended = True
            return self._receiver.end()

    def closed(self, closed: Closed) -> None:
        with self._call("closed"):
            self.times_closed += 1
            if self._connection.state is not State.CLOSED:
                self._server.violations.append(f"Receiver.closed was called in state {self._connection.state}")
            self._server.closed.append(closed)
            self._receiver.closed(closed)


class ServerUnderTest:
    """A transport that listens on loopback inside a ``with`` block; made by the suite's fixture ``serve``.

    ``decide`` decides on upgrades (default: admit every client), ``receiver`` makes the receiver of a connection
    (default: :class:`Echo`). The end of the block drops every connection and closes the listener. It fails if the
    transport broke a rule of the contract, left a task behind, or raised into the event loop.
    """

    def __init__(
        self,
        transport: Transport,
        limits: Limits | None = None,
        endpoint: Endpoint | None = None,
        decide: Decide | None = None,
        receiver: Callable[[ServerUnderTest, Connection], Receiver] = Echo,
        run: Callable[[Any], Any] = asyncio.run,
    ) -> None:
        self.limits = limits or Limits(open_timeout=PATIENCE, close_timeout=PATIENCE)
        self.endpoint = endpoint or Endpoint(port=0)
        self._transport = transport
        self._decide = decide
        self._receiver = receiver
        self._run = run
        #: The response to a plain request; an exception is raised instead.
        self.http_response: PlainResponse | Exception = PlainResponse(426, b"upgrade, please")
        #: Every request of the acceptor, in order.
        self.requests: list[Request] = []
        #: Those of them that were upgrades.
        self.upgrades: list[Request] = []
        #: The refusals by the transport itself: cause and, if there was one, the request.
        self.refusals: list[tuple[str, Request | None]] = []
        #: The result of :meth:`refused`, in seconds.
        self.refusal_delay = 0.0
        self.connections: list[Connection] = []
        #: The messages of all connections, in order.
        self.messages: list[Message] = []
        #: The arguments of ``Receiver.closed``, in order.
        self.closed: list[Closed] = []
        #: The contexts of the event loop's exception handler; each is an error of the transport.
        self.loop_errors: list[dict[str, Any]] = []
        #: Calls that the contract forbids.
        self.violations: list[str] = []
        self.loop: asyncio.AbstractEventLoop
        self.listener: Listener
        self._watched: list[_Watched] = []
        self._callbacks = 0
        self._stop: asyncio.Event
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._main, daemon=True)

    # The acceptor -------------------------------------------------------------------------------------------------

    def note_callback(self, name: str) -> None:
        """Record that a callback of the core is called."""
        self._callbacks += 1
        if threading.current_thread() is not self._thread:
            self.violations.append(f"{name} was called in another thread than the event loop's")

    def upgrade(self, request: Request) -> Decision | Awaitable[Decision]:
        """Decide, as an :class:`zcli_core.websocket.contract.Acceptor` does."""
        self.note_callback("Acceptor.upgrade")
        self.requests.append(request)
        self.upgrades.append(request)
        return self.accept() if self._decide is None else self._decide(self, request)

    def accept(self, subprotocol: str | None = None, headers: tuple[tuple[str, str], ...] = ()) -> Accept:
        """Return the decision to admit a client; the call of ``opened`` must be the next callback."""
        decided_at = self._callbacks

        def opened(connection: Connection) -> Receiver:
            if self._callbacks != decided_at:
                self.violations.append("another callback ran between Acceptor.upgrade and Accept.opened")
            return self.open(connection)

        return Accept(opened, subprotocol, headers)

    def http(self, request: Request) -> PlainResponse:
        """Return :attr:`http_response`."""
        self.note_callback("Acceptor.http")
        self.requests.append(request)
        if isinstance(self.http_response, Exception):
            raise self.http_response
        return self.http_response

    def refused(self, cause: str, address: Address, request: Request | None = None) -> float:
        """Record the cause in :attr:`refusals`."""
        self.note_callback("Acceptor.refused")
        self.refusals.append((cause, request))
        return self.refusal_delay

    def open(self, connection: Connection) -> Receiver:
        """Record the connection and return its receiver, for :attr:`zcli_core.websocket.contract.Accept.opened`."""
        self.note_callback("Accept.opened")
        self.connections.append(connection)
        watched = _Watched(self, connection, self._receiver(self, connection))
        self._watched.append(watched)
        return watched

    # The thread ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> ServerUnderTest:
        self._thread.start()
        if not self._started.wait(PATIENCE):
            raise AssertionError(f"the transport does not listen within {PATIENCE:g} s")
        if self._failure is not None:
            self._thread.join(PATIENCE)
            raise self._failure
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._thread.is_alive():
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self.loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(3 * PATIENCE)
        if kind is not None:
            return  # the test has failed already, with a better message
        if self._thread.is_alive():
            raise AssertionError("the transport's listener does not stop")
        if self._failure is not None:
            raise self._failure
        self._check()

    def _check(self) -> None:
        if self.violations:
            raise AssertionError("the contract was broken: " + "; ".join(dict.fromkeys(self.violations)))
        if self.loop_errors:
            raise AssertionError(f"the transport raised into the event loop: {self.loop_errors}")
        counts = [watched.times_closed for watched in self._watched]
        if counts != [1] * len(counts):
            raise AssertionError(f"Receiver.closed has to be called once for each connection, and was: {counts}")

    def _main(self) -> None:
        try:
            self._run(self._serve())
        except BaseException as error:  # noqa: BLE001 - raised in the test's thread
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.loop.set_exception_handler(lambda _, context: self.loop_errors.append(context))
        self._stop = asyncio.Event()
        before = asyncio.all_tasks()
        self.listener = await self._transport.listen(self.endpoint, self, self.limits)
        self._started.set()
        await self._stop.wait()
        for connection in self.connections:
            connection.abort()
        await asyncio.wait_for(self.listener.close(), PATIENCE)
        await self._expect_no_tasks_but(before)

    async def _expect_no_tasks_but(self, before: set[Any]) -> None:
        end = self.loop.time() + PATIENCE / 2
        while left := asyncio.all_tasks() - before:
            if self.loop.time() > end:
                self.violations.append(f"tasks are left after Listener.close: {left}")
                break
            await asyncio.sleep(0.002)

    # For tests ----------------------------------------------------------------------------------------------------

    def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function in the loop's thread, where transports must be used; return or raise its outcome."""

        async def run() -> T:
            return function(*arguments)

        return self.wait(run())

    def start(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Start a coroutine in the loop's thread; return its future."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the loop's thread and wait for its outcome."""
        return self.start(coroutine).result(PATIENCE)

    @property
    def port(self) -> int:
        """The port that the transport listens on."""
        address = self.listener.addresses[0]
        if address is None:
            raise AssertionError("Listener.addresses has no port")
        return address[1]

    @property
    def connection(self) -> Connection:
        """The newest connection, as soon as there is one."""
        return until(lambda: self.connections, "no connection was opened")[-1]

    def has_closed(self) -> Closed:
        """Return how the first connection to end has ended, as soon as one has."""
        return until(lambda: self.closed, "Receiver.closed was not called")[0]

    def socket(self) -> socket.socket:
        """Return a plain TCP connection to the transport."""
        if self.endpoint.unix_path is not None:
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(PATIENCE)
            sock.connect(str(self.endpoint.unix_path))
            return sock
        host = self.endpoint.host or "127.0.0.1"
        sock = socket.create_connection((host, self.port), timeout=PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    def connect(
        self,
        *headers: str,
        extensions: str | None = None,
        tls: ssl.SSLContext | None = None,
        behind: bytes = b"",
        target: str = "/chat",
    ) -> Client:
        """Connect a client, with further headers, an offer of extensions, and bytes right after its request."""
        sock = self.socket()
        if tls is not None:
            sock = tls.wrap_socket(sock, server_hostname="localhost")
        if extensions is not None:
            headers = (*headers, f"Sec-WebSocket-Extensions: {extensions}")
        return Client(sock, upgrade_request(*headers, target=target) + behind)

    def ask(self, request: bytes) -> bytes:
        """Return everything that the server sends in response to some bytes, until it closes."""
        with self.socket() as sock:
            sock.sendall(request)
            return read_all(sock)

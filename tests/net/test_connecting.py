"""Resolving and connecting within a deadline, and recognising exceptions of signal handlers."""

from __future__ import annotations

import contextlib
import errno
import functools
import signal
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from slow_resolver import SLOW_HOST, slow_resolver

from zcli_core.errors import raised_by_signal
from zcli_core.net import connecting
from zcli_core.testing.http.peer import closed_port

STREAM = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What every name resolves to."""
    found: list[Any] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    return found


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener


@pytest.fixture
def silent() -> Iterator[int]:
    """A port whose backlog is full: connecting to it does not end."""
    with contextlib.ExitStack() as stack:
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(8):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        yield full.getsockname()[1]


def at(port: int, host: str = "127.0.0.1") -> connecting.Address:
    return connecting.Address(socket.AF_INET, (host, port))


def soon(seconds: float = 30.0) -> float:
    return time.monotonic() + seconds


def test_remaining_after_the_deadline_raises() -> None:
    """A deadline that has passed leaves no time, not a negative one."""
    with pytest.raises(TimeoutError):
        connecting.remaining(time.monotonic() - 1)


def test_resolve_families_take_turns(addresses: list[Any]) -> None:
    """RFC 8305, section 4: the system's first choice first."""
    six, four = (socket.AF_INET6, *STREAM, ("::1", 1, 0, 0)), (socket.AF_INET, *STREAM, ("127.0.0.1", 1))
    addresses += [six, six, six, four, four]
    assert [found.family for found in connecting.resolve("name.example", 1, soon())] == [
        socket.AF_INET6,
        socket.AF_INET,
        socket.AF_INET6,
        socket.AF_INET,
        socket.AF_INET6,
    ]


@pytest.mark.parametrize("host", ["", "straße.example", "a" * 64 + ".example"])
def test_resolve_invalid_name_is_an_error(host: str) -> None:
    """The error is the resolver's own kind, and no name is encoded by IDNA 2003."""
    with pytest.raises(socket.gaierror):
        connecting.resolve(host, 80, soon())


def test_resolve_slow_resolver_times_out() -> None:
    """The caller does not wait for a resolver that does not return."""
    with slow_resolver(), pytest.raises(TimeoutError) as caught:
        connecting.resolve(SLOW_HOST, 80, soon(0.05))
    assert connecting.is_deadline(caught.value)


def test_connect_refused_address_tries_the_next(listener: socket.socket) -> None:
    """The first that accepts is taken."""
    port = listener.getsockname()[1]
    with connecting.connect([at(closed_port()), at(closed_port(), "127.0.0.2"), at(port)], soon()) as sock:
        assert sock.getpeername() == listener.getsockname()


def test_connect_silent_address_is_overtaken(listener: socket.socket, silent: int) -> None:
    """An address that does not respond does not use up the deadline."""
    with connecting.connect([at(silent), at(listener.getsockname()[1])], soon(), delay=0.01) as sock:
        assert sock.getpeername() == listener.getsockname()


def test_connect_missing_family_is_passed_over(listener: socket.socket) -> None:
    """A machine without IPv6 still reaches IPv4 addresses."""
    six = connecting.Address(socket.AF_INET6, ("100::1", 9, 0, 0))
    with connecting.connect([six, at(listener.getsockname()[1])], soon()) as sock:
        assert sock.getpeername() == listener.getsockname()


def test_connect_all_refused_names_the_refusal() -> None:
    """A refusal says more than an address that is not reachable."""
    with pytest.raises(connecting.NoConnectionError) as caught:
        connecting.connect([connecting.Address(socket.AF_INET6, ("bad", 9)), at(closed_port())], soon())
    assert isinstance(caught.value.cause, ConnectionRefusedError)
    assert len(caught.value.errors) == 2


def test_connect_all_silent_times_out(silent: int) -> None:
    """All addresses together have one deadline."""
    with pytest.raises(connecting.NoConnectionError) as caught:
        connecting.connect([at(silent)] * 3, soon(0.05))
    assert isinstance(caught.value.cause, TimeoutError)


def test_connect_no_address_is_an_error() -> None:
    """Nothing to connect to is not a connection."""
    with pytest.raises(connecting.NoConnectionError) as caught:
        connecting.connect([], soon())
    assert caught.value.cause.errno == errno.EADDRNOTAVAIL


@pytest.mark.parametrize("error", [OSError(errno.EINVAL, "invalid"), KeyboardInterrupt()])
def test_connect_option_fails_closes_the_socket(
    listener: socket.socket, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """As on macOS, if the peer has reset the connection; the next address is tried."""
    made: list[socket.socket] = []

    class Odd(socket.socket):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            made.append(self)

        def setsockopt(self, *arguments: Any) -> None:
            if self is made[0]:
                raise error
            super().setsockopt(*arguments)

    port = listener.getsockname()[1]
    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", Odd)
        if isinstance(error, OSError):
            with connecting.connect([at(port)] * 2, soon(), delay=30) as sock:
                assert sock is made[1]
        else:
            with pytest.raises(KeyboardInterrupt):
                connecting.connect([at(port)], soon())
    assert made[0].fileno() == -1


def test_connect_network_times_out_is_not_the_deadline() -> None:
    """The system's ETIMEDOUT says less than a refusal."""
    errors = (OSError(errno.ETIMEDOUT, "timed out"), OSError(errno.ECONNREFUSED, "refused"))
    for order in (errors, errors[::-1]):
        assert connecting.NoConnectionError(order).cause is errors[1]
    with pytest.raises(TimeoutError) as caught:
        connecting.remaining(0)
    assert connecting.is_deadline(caught.value)
    assert not connecting.is_deadline(errors[0])


def test_connect_to_itself_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A self-connected socket has no peer, and its port is free again afterwards."""
    port = closed_port()

    class Bound(socket.socket):
        def connect_ex(self, address: Any) -> int:
            self.bind(("127.0.0.1", port))
            return super().connect_ex(address)

    with monkeypatch.context() as patch:
        patch.setattr(socket, "socket", Bound)
        with pytest.raises(connecting.NoConnectionError) as caught:
            connecting.connect([at(port)], soon())
    assert isinstance(caught.value.cause, ConnectionRefusedError)
    socket.create_server(("127.0.0.1", port)).close()


# --- signals ---


def by_arguments(number: int, frame: Any) -> None:
    raise TimeoutError("by a signal")


def by_any_arguments(*_: Any) -> None:
    raise TimeoutError("by a signal")


class Handler:
    def __call__(self, number: int, frame: Any) -> None:
        self.act("by a signal")

    def act(self, text: str) -> None:
        raise TimeoutError(text)


HANDLERS: dict[str, Callable[..., Any]] = {
    "function": by_arguments,
    "any arguments": by_any_arguments,
    "callable object": Handler(),
    "partial": functools.partial(by_any_arguments, "more"),
    "lambda": lambda number, frame: by_any_arguments(),
}


def interrupted(handler: Callable[..., Any], work: Callable[[], Any]) -> Any:
    """Run a function while a signal with this handler arrives."""
    before = signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        return work()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


needs_timer = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")


@needs_timer
@pytest.mark.usefixtures("no_garbage_collection")
@pytest.mark.parametrize("name", HANDLERS)
def test_raised_by_signal_in_a_handler_is_true(name: str, silent: int) -> None:
    """A handler's TimeoutError is not the deadline's."""
    with pytest.raises(TimeoutError, match="by a signal") as caught:
        interrupted(HANDLERS[name], lambda: connecting.connect([at(silent)], soon()))
    assert raised_by_signal(caught.value)


@needs_timer
@pytest.mark.usefixtures("no_garbage_collection")
@pytest.mark.parametrize("step", ["socket", "connect_ex", "getsockname"])
def test_connect_signal_exception_passes_through(
    step: str, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not an error of one attempt, at whatever step the signal arrives."""
    port = listener.getsockname()[1]

    class Socket(socket.socket):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self.arrive("socket")
            super().__init__(*arguments, **options)

        def connect_ex(self, address: Any) -> int:
            self.arrive("connect_ex")
            return super().connect_ex(address)

        def getsockname(self) -> Any:
            self.arrive("getsockname")
            return super().getsockname()

        @staticmethod
        def arrive(at_step: str) -> None:
            if at_step == step:
                signal.raise_signal(signal.SIGALRM)

    monkeypatch.setattr(socket, "socket", Socket)
    before = signal.signal(signal.SIGALRM, by_any_arguments)
    try:
        with pytest.raises(TimeoutError, match="by a signal"):
            connecting.connect([at(port)], soon())
    finally:
        signal.signal(signal.SIGALRM, before)


def test_raised_by_signal_elsewhere_is_false() -> None:
    """The error was raised by the code itself, wherever it was and whatever its arguments were."""
    for work in (lambda: connecting.remaining(0), lambda: by_arguments(1, 2), lambda: Handler()(1, None)):
        with pytest.raises(TimeoutError) as caught:
            work()
        assert not raised_by_signal(caught.value)
    assert not raised_by_signal(TimeoutError("never raised"))

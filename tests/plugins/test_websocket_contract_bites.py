"""The WebSocket contract suite fails for transports that break one rule each."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zcli_wsproto
from installations import clean_environment

from zcli_core.testing import WebSocketTransportContract
from zcli_core.testing.contract import make_context
from zcli_core.testing.websocket.closing import half_close
from zcli_core.testing.websocket.decisions import at_once
from zcli_core.testing.websocket.flow_control import Silent
from zcli_core.testing.websocket.frames import close, frame
from zcli_core.testing.websocket.limits import (
    LIMITS,
    in_one_frame,
)
from zcli_core.testing.websocket.server import ServerUnderTest
from zcli_core.testing.websocket.suite import missing_capability
from zcli_core.websocket.contract import Accept, Capability, Cause, Compression, PlainResponse, Refuse, State
from zcli_core.websocket.parts.events import Failure

pytestmark = pytest.mark.slow


class Proxy:
    """Passes everything to another object, except for what a subclass overrides."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class Transport(Proxy):
    """A transport with functions around its limits, its acceptor and its listener, which break a rule."""

    def __init__(self, limits: Any = None, acceptor: Any = None, listener: Any = None) -> None:
        super().__init__(zcli_wsproto.zcli_websocket_transports()[0].factory(make_context()))
        same: Callable[[Any], Any] = lambda thing: thing  # noqa: E731
        self._limits, self._acceptor, self._listener = limits or same, acceptor or same, listener or same

    async def listen(self, endpoint: Any, acceptor: Any, limits: Any) -> Any:
        return self._listener(await self.inner.listen(endpoint, self._acceptor(acceptor), self._limits(limits)))


# Broken parts ---------------------------------------------------------------------------------------------------


def unlimited(**changes: Any) -> Transport:
    """A transport that gets other limits."""
    return Transport(limits=lambda limits: replace(limits, **changes))


def opening(connection: Any = None, receiver: Any = None) -> Transport:
    """A transport whose connections or calls of receivers break a rule."""

    class Acceptor(Proxy):
        def upgrade(self, request: Any) -> Any:
            decision = self.inner.upgrade(request)
            return replace(decision, opened=self.opening(decision)) if isinstance(decision, Accept) else decision

        def opening(self, accept: Accept) -> Any:
            def opened(real: Any) -> Any:
                made = accept.opened(connection(real) if connection else real)
                return receiver(made) if receiver else made

            return opened

    return Transport(acceptor=Acceptor)


class ClosedTwice(Proxy):
    def closed(self, closed: Any) -> None:
        self.inner.closed(closed)
        self.inner.closed(closed)


class NeverClosed(Proxy):
    def closed(self, closed: Any) -> None:
        pass


class ClosedByNobody(Proxy):
    def closed(self, closed: Any) -> None:
        self.inner.closed(closed._replace(code=1006))


class LosesTheCause(Proxy):
    def closed(self, closed: Any) -> None:
        self.inner.closed(closed._replace(cause=Cause.CLOSE))


class LosesAMessage(Proxy):
    def message(self, message: Any) -> bool:
        return message == "999" or self.inner.message(message)


class NeverHeld(Proxy):
    def message(self, message: Any) -> bool:
        self.inner.message(message)
        return True


class NeverWaitsForTheEnd(Proxy):
    def end(self) -> bool:
        self.inner.end()
        return True


class BytesForText(Proxy):
    def message(self, message: Any) -> bool:
        taken: bool = self.inner.message(message.encode() if isinstance(message, str) else message)
        return taken


class OtherThread(Proxy):
    def message(self, message: Any) -> bool:
        thread = threading.Thread(target=self.inner.message, args=(message,))
        thread.start()
        thread.join()
        return True


class Nested(Proxy):
    """Delivers the end inside a message."""

    def message(self, message: Any) -> bool:
        real = self.inner._receiver.message

        def inside(message: Any) -> bool:
            self.inner.end()
            taken: bool = real(message)
            return taken

        self.inner._receiver.message = inside
        taken: bool = self.inner.message(message)
        return taken


class LeavesATask(Proxy):
    def closed(self, closed: Any) -> None:
        self.task = asyncio.get_running_loop().create_task(asyncio.sleep(60))
        self.inner.closed(closed)


class RaisesIntoTheLoop(Proxy):
    def closed(self, closed: Any) -> None:
        self.inner.closed(closed)
        raise RuntimeError("of a broken transport")


class NeverCloses(Proxy):
    def close(self, code: int = 1000, reason: str = "") -> None:
        pass


class ClosesWithAnything(Proxy):
    def close(self, code: int = 1000, reason: str = "") -> None:
        self.inner.close(code if 1000 <= code < 5000 and code not in (1004, 1005, 1006, 1015, 1016, 2999) else 1000)


class SendsQuietly(Proxy):
    """Raises nothing on a closed connection."""

    def send(self, message: Any) -> None:
        if self.inner.state is State.OPEN:
            self.inner.send(message)


class SendsLater(Proxy):
    def send(self, message: Any) -> None:
        asyncio.get_running_loop().call_soon(self.inner.send, message)


class NeverDrains(Proxy):
    write_paused = False


class HidesWhatWaits(Proxy):
    write_buffer_size = 0


class AlwaysOpen(Proxy):
    state = State.OPEN


class KeepsAccepting(Proxy):
    def stop_accepting(self) -> None:
        pass


class SwallowsErrors(Proxy):
    """Admits clients although the decision raised."""

    def upgrade(self, request: Any) -> Any:
        try:
            return self.inner.upgrade(request)
        except Exception:
            return self.inner.accept()


class DecodesPaths(Proxy):
    def upgrade(self, request: Any) -> Any:
        return self.inner.upgrade(replace(request, path=request.path.replace("%20", " ")))


class PassesWholeUrls(Proxy):
    def upgrade(self, request: Any) -> Any:
        return self.inner.upgrade(replace(request, path=f"http://{request.headers['host']}{request.path}"))


class DropsHeadersOfResponses(Proxy):
    def http(self, request: Any) -> Any:
        received = self.inner.http(request)
        return PlainResponse(received.status, received.body)


class SendsAtOnce(Proxy):
    def upgrade(self, request: Any) -> Any:
        decision = self.inner.upgrade(request)
        return replace(decision, delay=0.0) if isinstance(decision, Refuse | PlainResponse) else decision


class RefusesQuietly(Proxy):
    def refused(self, *_: Any) -> float:
        return 0.0


class SaysPlain(Proxy):
    def upgrade(self, request: Any) -> Any:
        return self.inner.upgrade(replace(request, tls=False))


class Careless(Proxy):
    """A decoder that ignores failures of one code."""

    def __init__(self, inner: Any, code: int, instead: Any) -> None:
        super().__init__(inner)
        self._code, self._instead = code, instead

    def next(self) -> Any:
        event = self.inner.next()
        return self._instead if isinstance(event, Failure) and event.code == self._code else event


def overlooking(code: int, instead: Any) -> Transport:
    """A transport that replaces a violation of the protocol by something else."""

    def careless(real: Any) -> Any:
        real._decoder = Careless(real._decoder, code, instead)
        return real

    return opening(connection=careless)


def hurried() -> Transport:
    """A transport that ends its data right after its close frame."""

    def hurry(real: Any) -> Any:
        write, transport = real._write, real._transport

        def write_last(data: bytes) -> None:
            write(data)
            if data[0] == 0x88:
                transport.write_eof()

        real._write = write_last
        return real

    return opening(connection=hurry)


def limits(**changes: Any) -> Callable[[], Transport]:
    return lambda: unlimited(**changes)


def receiver(broken: type[Proxy]) -> Callable[[], Transport]:
    return lambda: opening(receiver=broken)


def connection(broken: type[Proxy]) -> Callable[[], Transport]:
    return lambda: opening(connection=broken)


def acceptor(broken: type[Proxy]) -> Callable[[], Transport]:
    return lambda: Transport(acceptor=broken)


#: The broken rule, the broken transport, the test that must fail (without ``test_``), and its arguments.
BROKEN: list[tuple[str, Callable[[], Transport], str, dict[str, Any]]] = [
    ("ignores max_size", limits(max_size=1 << 30), "max_size_is_exact", {"way": in_one_frame, "offer": None}),
    ("ignores max_fragments", limits(max_fragments=1 << 30), "max_fragments_is_exact", {}),
    ("ignores max_headers", limits(max_headers=1 << 30), "too_many_headers_are_refused", {"count": 129}),
    ("ignores max_header_bytes", limits(max_header_bytes=1 << 30), "max_header_bytes_is_exact", {"wanted": 1}),
    ("has other limits", limits(max_header_bytes=2999), "max_header_bytes_is_exact", {"wanted": 0}),
    (
        "ignores max_pending_connections",
        limits(max_pending_connections=1 << 30),
        "pending_over_the_limit_closes_the_oldest",
        {"what": "nothing"},
    ),
    ("ignores open_timeout", limits(open_timeout=60), "slow_upgrade_ends_after_open_timeout", {}),
    ("waits for decisions", limits(open_timeout=60), "decision_over_open_timeout_is_refused_1011", {}),
    ("ignores close_timeout", limits(close_timeout=60), "close_handshake_has_one_deadline", {"begun_by": "server"}),
    ("ignores max_send_buffer", limits(max_send_buffer=1 << 40), "slow_reader_is_closed_with_1013", {}),
    ("sends no pings", limits(ping_interval=0), "client_that_sends_pongs_stays", {}),
    ("pings only the silent", limits(ping_interval=60), "busy_client_is_pinged_too", {}),
    ("hides what waits", connection(HidesWhatWaits), "data_inside_tls_counts_as_unread", {}),
    ("sends pings unasked", limits(ping_interval=0.05), "interval_0_sends_no_ping", {}),
    ("compresses unasked", limits(compression=Compression()), "compression_off_agrees_on_nothing", {}),
    ("calls closed twice", receiver(ClosedTwice), "close_by_client_without_code_reports_1005", {}),
    ("never calls closed", receiver(NeverClosed), "close_by_client_without_code_reports_1005", {}),
    ("loses the code", receiver(ClosedByNobody), "close_by_client_reports_code_and_reason", {}),
    ("loses the cause", receiver(LosesTheCause), "closed_reports_the_cause", {"cause": Cause.SLOW, "code": 1013}),
    (
        "loses the last message",
        receiver(LosesAMessage),
        "eof_delivers_all_messages_first",
        {"leave": half_close, "receiver": Silent, "tls": False},
    ),
    ("holds messages back", connection(SendsLater), "send_in_a_callback_writes_at_once", {"messages": 2, "tls": False}),
    ("ends too early", hurried, "fin_waits_for_the_clients_close", {"why": "violation", "ends_with": "close frame"}),
    ("never holds delivery", receiver(NeverHeld), "held_delivery_stops_reading", {}),
    (
        "does not wait for the end",
        receiver(NeverWaitsForTheEnd),
        "end_is_called_after_the_last_message",
        {"end": close()},
    ),
    ("delivers text as bytes", receiver(BytesForText), "frames_right_after_the_upgrade_are_handled", {}),
    ("calls from another thread", receiver(OtherThread), "frames_right_after_the_upgrade_are_handled", {}),
    ("calls inside a call", receiver(Nested), "one_byte_after_the_upgrade_is_kept", {}),
    ("leaves a task", receiver(LeavesATask), "one_byte_after_the_upgrade_is_kept", {}),
    ("raises into the loop", receiver(RaisesIntoTheLoop), "one_byte_after_the_upgrade_is_kept", {}),
    ("never closes", connection(NeverCloses), "close_without_arguments_sends_1000", {}),
    ("takes any code", connection(ClosesWithAnything), "close_invalid_code_raises_valueerror", {"code": 1006}),
    ("sends into the void", connection(SendsQuietly), "closing_connection_sends_nothing", {"ended": True}),
    ("never asks to drain", connection(NeverDrains), "drain_keeps_a_sender_within_the_limit", {}),
    ("is open for ever", connection(AlwaysOpen), "close_by_server_ends_with_the_clients_close", {}),
    ("fails open", acceptor(SwallowsErrors), "invalid_decision_is_500_and_logged", {"bad": "raises", "way": at_once}),
    (
        "passes on whole URLs",
        acceptor(PassesWholeUrls),
        "target_can_be_a_whole_url",
        {"target": "ws://chat.example:81/chat?a=b", "expected": ("/chat", "a=b")},
    ),
    (
        "forgets half-closed clients",
        receiver(NeverWaitsForTheEnd),
        "half_closed_client_gets_its_responses",
        {},
    ),
    ("decodes paths", acceptor(DecodesPaths), "request_is_passed_unchanged", {}),
    ("drops headers", acceptor(DropsHeadersOfResponses), "plain_request_gets_the_cores_response", {}),
    (
        "does not delay responses",
        acceptor(SendsAtOnce),
        "delayed_decision_is_sent_later",
        {"kind": "response", "way": at_once},
    ),
    ("refuses without a word", acceptor(RefusesQuietly), "max_header_bytes_is_exact", {"wanted": 1}),
    ("denies TLS", acceptor(SaysPlain), "tls_client_is_served", {"size": 10}),
    ("drops nobody", lambda: Transport(listener=KeepsAccepting), "stop_accepting_cancels_decisions", {}),
    (
        "takes any text",
        lambda: overlooking(1007, "?"),
        "invalid_utf8_closes_with_1007",
        {"bad": b"\x80", "way": "whole"},
    ),
    (
        "takes any frame",
        lambda: overlooking(1002, None),
        "invalid_frame_closes_with_1002",
        {"bad": frame(3), "bytewise": False},
    ),
    (
        "gives another code",
        lambda: overlooking(1007, Failure(1002, "")),
        "text_ending_inside_a_character_is_1007",
        {"cut": 2},
    ),
]


@pytest.mark.parametrize(("make", "name", "given"), [case[1:] for case in BROKEN], ids=[case[0] for case in BROKEN])
def test_suite_broken_transport_fails(
    make: Callable[[], Transport],
    name: str,
    given: dict[str, Any],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The test for that rule fails for the broken transport and passes for the original."""
    (test,) = [
        getattr(WebSocketTransportContract(), found)
        for found in dir(WebSocketTransportContract)
        if found.startswith(f"test_{name}")
    ]
    run(test, Transport(), given, caplog)
    caplog.clear()
    monkeypatch.setattr("zcli_core.testing.websocket.client.PATIENCE", 0.4)
    monkeypatch.setattr("zcli_core.testing.websocket.server.PATIENCE", 0.4)
    with pytest.raises((Exception, pytest.fail.Exception)):
        run(test, make(), given, caplog)


@pytest.mark.parametrize("capability", [each for each in Capability if each is not Capability.TURNS])
def test_capability_has_a_broken_transport(capability: Capability) -> None:
    """Of every capability that a transport may lack, a test is seen to fail for a transport that promises it."""
    promised = frozenset(Capability) - {capability}
    suite = {name: getattr(WebSocketTransportContract, name) for name in dir(WebSocketTransportContract)}
    proven = [suite[name] for _, _, start, _ in BROKEN for name in suite if name.startswith(f"test_{start}")]
    given = [case[3] for case in BROKEN]
    needed = [missing_capability(test, each, promised) for test, each in zip(proven, given, strict=True)]
    assert capability in needed


def run(test: Callable[..., None], transport: Transport, given: dict[str, Any], caplog: Any) -> None:
    """Run a test of the suite with the fixtures that it needs."""
    serve = functools.partial(ServerUnderTest, transport)
    wanted = inspect.signature(test).parameters
    with contextlib.ExitStack() as stack:
        fixtures: dict[str, Any] = {"serve": serve, "caplog": caplog}
        if {"server", "client", "limited"} & set(wanted):
            fixtures["server"] = fixtures["limited"] = stack.enter_context(serve(LIMITS))
        if "client" in wanted:
            fixtures["client"] = stack.enter_context(fixtures["server"].connect())
        test(**given, **{name: fixture for name, fixture in fixtures.items() if name in wanted})


SUITE_OF_AN_AUTHOR = """
import zcli_wsproto
from test_websocket_contract_bites import ClosedTwice, opening
from zcli_core.testing import WebSocketTransportContract

class TestMine(WebSocketTransportContract):
    transport = staticmethod(lambda context: opening(receiver=ClosedTwice))

class TestNothing(WebSocketTransportContract):
    pass
"""


def test_suite_failure_names_the_rule(tmp_path: Path) -> None:
    """It also shows the compared values, and a suite without a transport gets an error that says so."""
    (tmp_path / "test_mine.py").write_text(SUITE_OF_AN_AUTHOR)
    environment = clean_environment(os.environ, tmp_path)
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "upgrade_of_the_rfc or unasked or close_by",
    ]
    done = subprocess.run(
        [*command, str(tmp_path)],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the contract was broken: Receiver.closed was called after Receiver.closed" in done.stdout
    assert "TestNothing must set the class attribute 'transport' to a provider of your plugin" in done.stdout

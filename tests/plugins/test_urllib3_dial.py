"""Connecting to hosts with several addresses."""

from __future__ import annotations

import socket
import threading
import time
from typing import Any

import pytest
from zcli_urllib3 import dial

from zcli_core.comm.http import HttpClient
from zcli_core.contracts.http import TransportFailure
from zcli_core.testing.http.peer import ScriptedServer, answering, closed_port, response

STREAM = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What every name resolves to."""
    found: list[Any] = []
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    return found


def v4(address: str, port: int) -> tuple[Any, ...]:
    return (socket.AF_INET, *STREAM, (address, port))


def test_the_next_address_is_tried_when_one_refuses(http: HttpClient, addresses: list[Any]) -> None:
    with ScriptedServer(answering(response())) as server:
        addresses += [v4("127.0.0.1", closed_port()), v4("127.0.0.2", closed_port()), v4("127.0.0.1", server.port)]
        assert http.get("http://several.example/"), http.last_failure


def test_an_address_that_keeps_silent_is_overtaken_by_the_next(
    http: HttpClient, addresses: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, ScriptedServer(answering(response())) as server:
        fillers = [socket.socket() for _ in range(8)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        addresses += [v4("127.0.0.1", full.getsockname()[1]), v4("127.0.0.1", server.port)]
        started = time.monotonic()
        assert http.get("http://several.example/", timeout=30), http.last_failure
        assert time.monotonic() - started < 20
        for filler in fillers:
            filler.close()


def test_a_family_that_this_machine_lacks_is_passed_over(http: HttpClient, addresses: list[Any]) -> None:
    with ScriptedServer(answering(response())) as server:
        addresses += [(socket.AF_INET6, *STREAM, ("100::1", 9, 0, 0)), v4("127.0.0.1", server.port)]
        assert http.get("http://several.example/", timeout=30), http.last_failure


def test_the_failure_of_all_addresses_is_refused_if_any_refused(http: HttpClient, addresses: list[Any]) -> None:
    addresses += [v4("127.0.0.1", closed_port()), v4("127.0.0.2", closed_port())]
    assert http.get("http://several.example/") is None
    assert http.last_failure is not None
    assert http.last_failure.kind == "refused"


def test_all_addresses_together_have_one_deadline(http: HttpClient, addresses: list[Any]) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        fillers = [socket.socket() for _ in range(8)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        addresses += [v4("127.0.0.1", full.getsockname()[1])] * 3
        started = time.monotonic()
        assert http.get("http://several.example/", timeout=0.6) is None
        assert 0.5 < time.monotonic() - started < 8
        for filler in fillers:
            filler.close()
    assert http.last_failure is not None
    assert http.last_failure.kind == "timeout"


def test_slow_resolver_times_out(http: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The call does not wait for a resolver that does not return."""
    ended = threading.Event()

    def never(*_: object, **__: object) -> list[object]:
        ended.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", never)
    assert http.get("http://slow-to-resolve.example/", timeout=0.1) is None
    ended.set()
    assert http.last_failure is not None
    assert http.last_failure.kind == "timeout"
    assert http.last_failure.elapsed < 8


def test_the_families_take_turns() -> None:
    six, four = (socket.AF_INET6, 1, 6, "six"), (socket.AF_INET, 1, 6, "four")
    mixed = list(dial._alternating([six, six, six, four, four]))
    assert [address[3] for address in mixed] == ["six", "four", "six", "four", "six"]


def test_a_connection_to_itself_is_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    port = closed_port()

    def connect(address: Any, deadline: float) -> Any:
        itself = dial.DeadlineSocket(socket.AF_INET)
        itself.deadline = deadline
        itself.bind(("127.0.0.1", port))
        itself.connect(("127.0.0.1", port))
        return itself

    monkeypatch.setattr(dial, "_connect", connect)
    with pytest.raises(TransportFailure, match="refused"):
        dial.dial("127.0.0.1", port, time.monotonic() + 10)

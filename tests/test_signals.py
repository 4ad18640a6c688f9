"""An exception of a signal handler passes through every call and is not reported as a failure."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from zCLI import zCLI
from zcli_core.config.sections import Http
from zcli_core.http.client import HttpClient
from zcli_core.http.contract import HttpRequest, RawResponse
from zcli_core.net.ports import wait_for_port
from zcli_core.testing.http.peer import ScriptedServer, closed_port

pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer"),
    pytest.mark.usefixtures("no_garbage_collection"),
]


class SoftTimeLimit(Exception):
    """What the handler raises."""


@contextmanager
def ringing(error: Exception, after: float = 0.1) -> Iterator[None]:
    def ring(*_: Any) -> None:
        raise error

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, after)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class Slow:
    """A transport that takes its time."""

    content_codings = ()

    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        time.sleep(60)
        raise NotImplementedError

    def close(self) -> None:
        pass


def test_client_handler_without_arguments_passes_through() -> None:
    """Linters make people delete the arguments that a handler does not use."""

    def ring(signum: int, frame: object) -> None:
        del signum, frame
        raise TimeoutError("mine")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    try:
        with pytest.raises(TimeoutError, match="mine"):
            HttpClient(Http(), Slow, logging.getLogger("zcli.test")).request("GET", "http://host.example/")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("error", [SoftTimeLimit("mine"), RuntimeError("mine")], ids=lambda error: type(error).__name__)
def test_client_signal_exception_passes_through(caplog: pytest.LogCaptureFixture, error: Exception) -> None:
    """The transport did not break, whichever it is."""
    client = HttpClient(Http(), Slow, logging.getLogger("zcli.test"))
    with pytest.raises(type(error)) as caught, ringing(error):
        client.request("GET", "http://127.0.0.1:9/")
    assert caught.value is error
    assert client.last_failure is None
    assert not caplog.records
    client.close()


@pytest.mark.parametrize("transport", ["urllib3", "curl"])
def test_http_get_signal_exception_passes_through(isolated: Path, transport: str) -> None:
    """Through the whole of zCLI, also while the transport is still being imported."""
    with ScriptedServer(ScriptedServer.hold) as server, zCLI({"http": {"transport": transport}}) as z:
        for error in (SoftTimeLimit("mine"), TimeoutError("mine")):
            with pytest.raises(type(error)) as caught, ringing(error):
                z.comm.http_get(server.url, timeout=30)
            assert caught.value is error
            # The transport is imported now. Python's importlib would drop a TimeoutError, which is an OSError.
            z.comm.http_get(f"http://127.0.0.1:{closed_port()}/")


def test_factory_signal_exception_is_not_a_config_error(isolated: Path, site: Any) -> None:
    """A provider that is being made when the signal comes is not broken."""
    site.plugin(
        "slow_making",
        """
import time
from zcli_core import hookimpl
from zcli_core.plugins.contract import Provider

@hookimpl
def zcli_http_transports():
    return [Provider("slow", "", lambda context: time.sleep(60))]
""",
    )
    with zCLI({"http": {"transport": "slow"}}) as z, pytest.raises(SoftTimeLimit), ringing(SoftTimeLimit("mine"), 0.3):
        z.comm.http_get("http://127.0.0.1:9/")


def test_wait_for_port_signal_exception_passes_through() -> None:
    """A handler's OSError is not an error of the probe."""
    with pytest.raises(ConnectionRefusedError, match="mine"), ringing(ConnectionRefusedError("mine")):
        wait_for_port(closed_port(), timeout=30)

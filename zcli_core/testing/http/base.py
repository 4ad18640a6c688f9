"""What the parts of the HTTP suite share: transports made for a test, and calls that fail the test if they hang."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import pytest

from zcli_core.http.contract import (
    DEFAULT_PORTS,
    Body,
    FailureKind,
    Headers,
    HttpRequest,
    HttpTransport,
    RawResponse,
    TransportFailure,
    Url,
)
from zcli_core.printable import printable
from zcli_core.testing.certificates import AUTHORITY
from zcli_core.testing.contract import Contract, Offered, shared_context

#: The deadline, in seconds, of a call that ends before it.
ENOUGH = 20.0
#: The deadline, in seconds, of a call that times out. On a loaded machine it may already time out while connecting.
SHORT = 0.1
#: How many seconds late a call may end on a loaded machine. A call without a deadline would take a minute or longer.
GRACE = 8.0
#: The largest body, in bytes, where it does not matter.
LARGEST = 16 * 1024 * 1024

#: Sent in the query and in Authorization with every request that must fail. No message may contain it.
SECRET = "hidden-from-every-message"  # noqa: S105 - not a real secret

_PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def url_of(address: str) -> Url:
    """Return the URL of an address in the form that a transport gets."""
    parts = urlsplit(address)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Url(parts.scheme, parts.hostname or "", parts.port or DEFAULT_PORTS[parts.scheme], target)


class Caller:
    """Calls a transport as the core does. If a call does not return, the test fails."""

    def __init__(self, transport: HttpTransport) -> None:
        self.transport = transport

    def send(
        self,
        address: str,
        method: str = "GET",
        headers: Iterable[tuple[str, str]] = (),
        body: Body = None,
        *,
        within: float = ENOUGH,
        max_bytes: int = LARGEST,
        shows_certificate: bool = False,
    ) -> RawResponse:
        """Send one request with ``within`` seconds to its deadline; raise what the transport raises."""
        request = HttpRequest(method, url_of(address), Headers(headers), body)
        request.shows_certificate = shows_certificate
        return self.send_request(request, within, max_bytes)

    def send_here(self, address: str, body: Body = None) -> RawResponse:
        """Send a GET, or with a body a PUT, in the calling thread. If it does not return, the test does not end."""
        request = HttpRequest("GET" if body is None else "PUT", url_of(address), Headers(), body)
        return self.transport.send(request, time.monotonic() + ENOUGH, LARGEST)

    def send_request(self, request: HttpRequest, within: float, max_bytes: int = LARGEST) -> RawResponse:
        """Send a request that is made already; see :meth:`send`."""
        outcomes: queue.SimpleQueue[RawResponse | BaseException] = queue.SimpleQueue()
        deadline = time.monotonic() + within

        def work() -> None:
            try:
                outcomes.put(self.transport.send(request, deadline, max_bytes))
            except BaseException as error:  # noqa: BLE001 - raised below
                outcomes.put(error)

        threading.Thread(target=work, name="zcli-contract-call", daemon=True).start()
        try:
            outcome = outcomes.get(timeout=max(within, 0) + GRACE)
        except queue.Empty:
            pytest.fail(f"send() did not end within {GRACE:g} s of its deadline", pytrace=False)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def fails(
        self,
        kinds: FailureKind | set[FailureKind],
        address: str,
        method: str = "GET",
        headers: Iterable[tuple[str, str]] = (),
        body: Body = None,
        *,
        within: float = ENOUGH,
        max_bytes: int = LARGEST,
    ) -> TransportFailure:
        """Send a request that must fail with one of these kinds, and with a message of one line without secrets."""
        address += f"{'&' if '?' in address else '?'}key={SECRET}"
        headers = [("Authorization", f"Bearer {SECRET}"), *headers]
        with pytest.raises(TransportFailure) as caught:
            self.send(address, method, headers, body, within=within, max_bytes=max_bytes)
        failure = caught.value
        assert failure.kind in ({kinds} if isinstance(kinds, str) else kinds), str(failure)
        assert failure.message.strip()
        assert printable(failure.message) == failure.message, "the message is one line that a terminal can show"
        assert SECRET not in failure.message
        return failure

    def may_fail(
        self, kinds: FailureKind | set[FailureKind], address: str, *, within: float = ENOUGH
    ) -> RawResponse | None:
        """Return the response to a GET, or None if it fails with one of these kinds, which is right too."""
        try:
            return self.send(address, within=within)
        except TransportFailure as failure:
            if failure.kind not in ({kinds} if isinstance(kinds, str) else kinds):
                raise
            return None

    def times_out(
        self,
        address: str,
        method: str = "GET",
        headers: Iterable[tuple[str, str]] = (),
        body: Body = None,
        *,
        within: float = SHORT,
    ) -> TransportFailure:
        """Send a request that must fail at its deadline: not before, and not much later."""
        started = time.monotonic()
        failure = self.fails("timeout", address, method, headers, body, within=within)
        assert within * 0.9 <= time.monotonic() - started < within + GRACE
        return failure


MakeCaller = Callable[..., Caller]


class HttpContract(Contract):
    """The base class of the parts of the suite."""

    #: The transport to test: the Provider that the plugin's hook ``zcli_http_transports`` returns.
    transport: ClassVar[Offered[HttpTransport]]

    @pytest.fixture(autouse=True)
    def _nothing_from_outside(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Remove the proxies of the user who runs the tests from the environment."""
        for name in _PROXY_VARIABLES:
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)

    @pytest.fixture
    def ca_file(self, tmp_path: Path) -> str:
        """The path of a file with the suite's own authority, for ``http.ca_file``."""
        file = tmp_path / "authority.pem"
        file.write_text(AUTHORITY)
        return str(file)

    @pytest.fixture
    def make_caller(self, caplog: pytest.LogCaptureFixture) -> Iterator[MakeCaller]:
        """Makes transports with settings of the section ``http``. Checks at the end of the test that no secret was
        logged."""
        made: list[Caller] = []
        caplog.set_level(logging.DEBUG, logger="zcli.testing")

        def make(**http: Any) -> Caller:
            given = self.settings.get("http", {})
            section = {**(given if isinstance(given, Mapping) else {}), **http}
            made.append(Caller(self.make("transport", shared_context({**self.settings, "http": section}))))
            return made[-1]

        yield make
        for caller in made:
            caller.transport.close()
        assert SECRET not in caplog.text

    @pytest.fixture
    def caller(self, make_caller: MakeCaller) -> Caller:
        """A transport with the settings of the class."""
        return make_caller()

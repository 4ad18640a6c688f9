"""HTTP clients over a transport in memory, and a clock that moves only when a test says so."""

from __future__ import annotations

import logging
import time
from typing import Any

from verb_client import VerbClient

from zcli_core.config.sections import Http
from zcli_core.http.client import HttpClient
from zcli_core.http.contract import HttpFailure, RawResponse
from zcli_core.testing import MockTransport, make_response

URL = "http://host.example/"


def client_over(responses: Any, on_request: Any = None, on_response: Any = None, **settings: Any) -> HttpClient:
    """A client with these settings of the section ``http``.

    ``responses`` is a transport, or what MockTransport takes.
    """
    transport = responses if hasattr(responses, "send") else MockTransport(responses)
    return VerbClient(Http(**settings), lambda: transport, logging.getLogger("zcli.test.http"), on_request, on_response)


def redirect(location: str, status: int = 302, *headers: tuple[str, str]) -> RawResponse:
    """A redirect with more header fields."""
    return make_response(status, headers=[("Location", location), *headers])


class Clock:
    """Stands in for the module ``time`` of the client and of MockTransport. Sleeping only moves the clock."""

    def __init__(self) -> None:
        self.now = time.monotonic()
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def failure_of(http: HttpClient) -> HttpFailure:
    """The failure of the last call, which must have failed."""
    assert http.last_failure is not None
    return http.last_failure

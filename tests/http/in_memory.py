"""An HTTP client over a transport in memory that keeps requests and returns prepared outcomes."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from verb_client import VerbClient

from zcli_core.config.sections import Http
from zcli_core.http.contract import HttpRequest, RawResponse
from zcli_core.http.parts.bodies import BodySource

Outcome = RawResponse | Exception | Callable[[HttpRequest], RawResponse]


def raw_response(status: int = 200, *fields: tuple[str, str], body: bytes = b"") -> RawResponse:
    """Return a raw response."""
    return RawResponse(status, "reason", list(fields), body)


@dataclass
class Sent:
    """A request as it was sent, with its body read."""

    request: HttpRequest
    body: bytes
    deadline: float

    @property
    def target(self) -> str:
        return self.request.url.target

    def header(self, name: str) -> str | None:
        return self.request.headers.get(name)


class Transport:
    """Returns its outcomes in turn, then always the last one."""

    content_codings = ("gzip",)

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes) or [raw_response()]
        self.sent: list[Sent] = []

    @property
    def last(self) -> Sent:
        return self.sent[-1]

    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        given = request.body
        body = given if isinstance(given, bytes) else b"" if given is None else b"".join(BodySource(request, given))
        self.sent.append(Sent(request, body, deadline))
        found = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, RawResponse) else found(request)

    def close(self) -> None:
        pass


def in_memory(*outcomes: Outcome, **settings: Any) -> tuple[VerbClient, Transport]:
    """Return a client and its transport."""
    transport = Transport(*outcomes)
    return VerbClient(Http(**settings), lambda: transport, logging.getLogger("zcli.test.http")), transport

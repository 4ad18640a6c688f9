"""An HTTP client over a transport that keeps requests and gives prepared answers, without a socket."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from verb_client import VerbClient

from zcli_core.config.sections import Http
from zcli_core.http.client import HttpClient
from zcli_core.http.contract import HttpRequest, RawResponse

Answer = RawResponse | Exception | Callable[[HttpRequest], RawResponse]


def answer(status: int = 200, *fields: tuple[str, str], body: bytes = b"") -> RawResponse:
    """A raw response."""
    return RawResponse(status, "reason", list(fields), body)


@dataclass
class Sent:
    """A request as it would have gone out, its body read."""

    request: HttpRequest
    body: bytes
    deadline: float

    @property
    def target(self) -> str:
        return self.request.url.target

    def header(self, name: str) -> str | None:
        return self.request.headers.get(name)


class Transport:
    """Gives its answers in turn; the last one for every further request."""

    content_codings = ("gzip",)

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers) or [answer()]
        self.sent: list[Sent] = []

    @property
    def last(self) -> Sent:
        return self.sent[-1]

    def exchange(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        given = request.body
        body = given if isinstance(given, bytes) else b"" if given is None else b"".join(given)
        self.sent.append(Sent(request, body, deadline))
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, RawResponse) else found(request)

    def close(self) -> None:
        pass


def in_memory(*answers: Answer, **settings: Any) -> tuple[HttpClient, Transport]:
    """A client over such a transport."""
    transport = Transport(*answers)
    return VerbClient(Http(**settings), lambda: transport, logging.getLogger("zcli.test.http")), transport

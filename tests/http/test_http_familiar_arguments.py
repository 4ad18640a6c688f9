"""Arguments and attributes that people know from other clients."""

from __future__ import annotations

import inspect
import json
import math
import pickle
import socket
import time
from collections.abc import Callable, Iterator
from copy import copy, deepcopy
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest
from in_memory import in_memory, raw_response

from zcli_core.http.client import HttpClient
from zcli_core.http.contract import Headers, HttpRequest, HttpResponse, RawResponse, TransportFailure, Url
from zcli_core.http.retries import retry_after
from zcli_core.testing.http.peer import ScriptedServer

URL = "http://host.example/dir/page"
VERBS = ("get", "post", "put", "patch", "delete", "head", "options")


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("verify", "http.ca_file"),
        ("ssl", "http.ca_file"),
        ("cert", "http.client_cert"),
        ("proxies", "HTTPS_PROXY"),
        ("proxy", "HTTPS_PROXY"),
        ("cookies", "Cookie"),
        ("stream", "http.max_response_bytes"),
        ("allow_redirects", "follow_redirects="),
        ("content", "data="),
        ("query", "params="),
        ("tiemout", "did you mean 'timeout'"),
        ("nonsense_of_mine", "nonsense_of_mine= is not an argument"),
    ],
)
@pytest.mark.parametrize("verb", VERBS)
def test_argument_of_other_clients_names_ours(verb: str, name: str, hint: str) -> None:
    """The TypeError says what to use instead."""
    http, transport = in_memory()
    for call in (getattr(http, verb), lambda *a, **k: http.request(verb, *a, **k)):
        with pytest.raises(TypeError, match=hint):
            call(URL, **{name: True})
    assert not transport.sent


@pytest.mark.parametrize("verb", VERBS)
def test_headers_and_timeout_may_be_positional(verb: str) -> None:
    """The third and fourth argument of every verb are headers and timeout."""
    http, transport = in_memory()
    started = time.monotonic()
    getattr(http, verb)(URL, {"a": "1"}, {"X-One": "1"}, 500)
    assert transport.last.header("X-One") == "1"
    assert transport.last.deadline == pytest.approx(started + 500, abs=60)
    first = "data" if verb in ("post", "put", "patch") else "params"
    assert list(inspect.signature(getattr(http, verb)).parameters)[:4] == ["url", first, "headers", "timeout"]


# --- (connect, read) ---


def test_timeout_pair_limits_each_attempt() -> None:
    """An attempt that hangs leaves time for a second one."""
    http, transport = in_memory(TransportFailure("timeout", "hung"), raw_response(), timeout=100)
    started = time.monotonic()
    assert http.get(URL, timeout=(2, 3), retries=1)
    assert [sent.deadline for sent in transport.sent] == pytest.approx([started + 5] * 2, abs=20)
    assert {(sent.request.connect_timeout, sent.request.read_timeout) for sent in transport.sent} == {(2.0, 3.0)}


def test_timeout_pair_holds_after_a_redirect() -> None:
    """The request that follows a redirect has the same limits."""
    http, transport = in_memory(raw_response(302, ("Location", "/b")), raw_response())
    assert http.get(URL, timeout=(2, 3))
    assert (transport.last.request.connect_timeout, transport.last.request.read_timeout) == (2.0, 3.0)


@pytest.mark.parametrize(
    ("timeout", "retries", "seconds"),
    [
        ((2, 3), 0, 10),
        ((2, 30), 0, 32),
        ((2, 30), 2, 96),
        ((None, 30), 0, 30),
        ((2, None), 1, 10),
        ((None, None), 0, 10),
    ],
)
def test_timeout_pair_lengthens_the_call(timeout: Any, retries: int, seconds: float) -> None:
    """The call has http.timeout, or as long as its attempts need."""
    waits: list[float] = []

    def fail(request: HttpRequest) -> RawResponse:
        raise TransportFailure("tls", "final")

    http, transport = in_memory(fail, timeout=10)
    send = transport.send

    def note(request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        waits.append(deadline - time.monotonic())
        return send(request, deadline, max_bytes)

    transport.send = note  # type: ignore[method-assign]
    assert http.get(URL, timeout=timeout, retries=retries) is None
    per_attempt = sum(timeout) if None not in timeout else seconds
    assert waits == pytest.approx([min(per_attempt, seconds)], abs=4)


def test_timeout_without_a_pair_is_not_repeated() -> None:
    """A timeout that used up the call is final."""

    def use_up(request: HttpRequest) -> RawResponse:
        while time.monotonic() < transport.last.deadline:
            pass
        raise TransportFailure("timeout", "the deadline passed")

    http, transport = in_memory(use_up)
    assert http.get(URL, timeout=0.01, retries=3) is None
    assert len(transport.sent) == 1


@pytest.mark.parametrize("timeout", [(1,), (1, 2, 3), (0, 1), (1, -1), ("1", 2), (True, 1), (1, math.inf), ()])
def test_timeout_pair_that_is_invalid_raises(timeout: Any) -> None:
    """A pair has two numbers of seconds above 0."""
    with pytest.raises(ValueError, match="timeout must be a number of seconds above 0"):
        in_memory()[0].get(URL, timeout=timeout)


@pytest.fixture(params=["make_http", "make_curl"])
def over_sockets(request: pytest.FixtureRequest) -> HttpClient:
    client: HttpClient = request.getfixturevalue(request.param)()
    return client


def test_read_limit_ends_a_hanging_attempt(over_sockets: HttpClient) -> None:
    """The server responds to the second connection only."""

    def handle(server: ScriptedServer, connection: socket.socket) -> None:
        server.read_request(connection)
        if server.connections == 1:
            connection.recv(1)  # until the client closes
        else:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    with ScriptedServer(handle) as server:
        found = over_sockets.get(server.url, timeout=(60, 0.2), retries=5)  # more than one, for a loaded machine
    assert found is not None
    assert found.content == b"ok"


def test_connect_limit_ends_an_attempt(over_sockets: HttpClient) -> None:
    """A TLS handshake without a response is part of connecting."""

    def handle(server: ScriptedServer, connection: socket.socket) -> None:
        while connection.recv(65536):
            pass

    with ScriptedServer(handle) as server:
        url = server.url.replace("http:", "https:")
        assert over_sockets.get(url, timeout=(0.2, 60)) is None
    assert over_sockets.last_failure is not None
    assert over_sockets.last_failure.kind == "timeout"
    assert over_sockets.last_failure.elapsed < 30


# --- the response ---


def respond(*fields: tuple[str, str], body: bytes = b"", status: int = 200) -> HttpResponse:
    found = in_memory(raw_response(status, *fields, body=body))[0].get(URL, follow_redirects=False)
    assert found is not None
    return found


def test_response_has_cookies_by_name() -> None:
    """Cookies that are deleted are left out; the last of a name counts."""
    yesterday = format_datetime(datetime.now(timezone.utc) - timedelta(days=1), usegmt=True)
    tomorrow = format_datetime(datetime.now(timezone.utc) + timedelta(days=1), usegmt=True)
    fields = ("a=1; Path=/", "b=x=y; Secure", "a=2", "gone=1; Max-Age=0", "old=1; expires=" + yesterday, "no name")
    fields += ("kept=1; Max-Age=60; Expires=" + yesterday, f"c=; Expires={tomorrow}", "d=1; Max-Age=-1", "=v")
    found = respond(*(("Set-Cookie", field) for field in fields))
    assert found.cookies == {"a": "2", "b": "x=y", "kept": "1", "c": ""}
    assert respond().cookies == {}


def test_response_has_links_by_relation() -> None:
    """Links are absolute, and their parameters are read by RFC 8288."""
    found = respond(
        (
            "Link",
            '<?page=2>; rel="next last"; title="a, \\"b\\"; <c>", </x>;rel=prev;REL=ignored , <http://o.example/>',
        ),
        ("link", "<y>; rel = self; flag; empty="),
    )
    page2 = {"url": "http://host.example/dir/page?page=2", "rel": "next last", "title": 'a, "b"; <c>'}
    assert found.links["next"] == found.links["last"] == page2
    assert found.links["prev"] == {"url": "http://host.example/x", "rel": "prev"}
    assert found.links["http://o.example/"] == {"url": "http://o.example/"}
    assert found.links["self"] == {"url": "http://host.example/dir/y", "rel": "self", "flag": "", "empty": ""}
    assert respond(("Link", "<http://[>; rel=next, nonsense")).links == {}


@pytest.mark.parametrize(
    "field", ["<" * 60_000, "<a>" + "; a= " * 12_000 + '"', "<a>; a" + " " * 60_000, "<a>;" * 15_000]
)
def test_link_header_is_read_in_linear_time(field: str) -> None:
    """No header makes the pattern backtrack."""
    assert isinstance(respond(("Link", field)).links, dict)


@pytest.mark.parametrize(
    ("status", "fields", "expected"),
    [
        (302, [("Location", "/")], True),
        (302, [], False),
        (200, [("Location", "/")], False),
        (304, [("Location", "/")], False),
    ],
)
def test_response_is_redirect(status: int, fields: list[tuple[str, str]], expected: bool) -> None:
    """A redirect has one of five statuses and a Location."""
    assert respond(*fields, status=status).is_redirect is expected


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (b"", "utf-8"),
        ("ü".encode(), "utf-8"),
        ("ü".encode("utf-8-sig"), "utf-8-sig"),
        ("ü".encode("utf-16"), "utf-16"),
        ("ü".encode("utf-32"), "utf-32"),
        ("ü".encode("latin-1"), "windows-1252"),
    ],
)
def test_response_apparent_encoding(body: bytes, encoding: str) -> None:
    """The bytes decide, not the header."""
    found = respond(("Content-Type", "text/plain; charset=koi8-r"), body=body)
    assert found.apparent_encoding == encoding
    assert body.decode(encoding) == ("ü" if body else "")


@pytest.mark.parametrize(
    ("content_type", "body", "expected"),
    [
        ("application/json; charset=ISO-8859-1", '{"a":"é"}'.encode("latin-1"), {"a": "é"}),
        ("application/json; charset=utf-8", "﻿[1]".encode(), [1]),
        ("application/json; charset=utf-16le", "[1]".encode("utf-16-le"), [1]),
        ("application/json; charset=shift_jis", '"日本"'.encode("shift_jis"), "日本"),
        ("application/json; charset=unknown-to-us", '"é"'.encode(), "é"),
        ("application/json", '"é"'.encode("utf-32"), "é"),
    ],
)
def test_json_reads_the_declared_charset(content_type: str, body: bytes, expected: Any) -> None:
    """The charset of Content-Type counts, then RFC 8259."""
    assert respond(("Content-Type", content_type), body=body).json() == expected


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"\xff",
        b'"\xed\xa0\x80"',
        b"{" * 200_000,
        b'{"a":' * 100_000,
        b"-" + b"9" * 5000,
        b"\x00\x00\xfe\xff\x00",
        b"[1",
        b"nul",
        b"\xff\xfe[",
        b"1" * 5000 + b"]",
    ],
    ids=range(12),
)
@pytest.mark.parametrize("content_type", ["application/json", "text/plain; charset=utf-16", "x; charset=ascii"])
def test_json_that_is_invalid_raises_one_error(body: bytes, content_type: str) -> None:
    """Whatever came, json() raises JSONDecodeError and says what came."""
    with pytest.raises(json.JSONDecodeError, match="the body of 200"):
        respond(("Content-Type", content_type), body=body).json()


def test_json_error_of_an_option_is_kept() -> None:
    """An error of the caller's own function comes out, a ValueError with its cause."""
    with pytest.raises(KeyError):
        respond(body=b'{"a": 1}').json(object_hook=lambda found: found["b"])
    with pytest.raises(json.JSONDecodeError) as caught:
        respond(body=b"1").json(parse_int=lambda text: int("x"))
    assert isinstance(caught.value.__cause__, ValueError)


def test_content_type_given_twice_is_the_last() -> None:
    """Two Content-Type fields are not joined into one."""
    kind = ("Content-Type", "text/plain; charset=latin-1")
    assert respond(kind, kind, body=b"\xe9").text == "é"


# --- redirects and Retry-After ---


def test_location_twice_is_one_only_if_identical() -> None:
    """The same Location twice is followed, two different ones are refused."""
    http, transport = in_memory(raw_response(302, ("Location", "/b"), ("location", "/b")), raw_response())
    assert http.get(URL)
    assert transport.last.target == "/b"
    http, _ = in_memory(raw_response(302, ("Location", "/b"), ("Location", "/c")))
    assert http.get(URL) is None
    assert http.last_failure is not None
    assert http.last_failure.kind == "protocol"


@pytest.fixture
def far_from_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if not hasattr(time, "tzset"):
        pytest.skip("this system has no tzset")
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Pacific/Kiritimati")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("far_from_utc")
@pytest.mark.parametrize("form", ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %e %H:%M:%S %Y"])
def test_retry_after_date_is_utc(form: str) -> None:
    """A date is UTC in each of HTTP's forms, wherever this machine is."""
    moment = datetime.now(timezone.utc) + timedelta(seconds=100)
    waits = retry_after(Headers([("Retry-After", moment.strftime(form))]))
    assert waits == pytest.approx(100, abs=20)


@pytest.mark.parametrize(
    "value",
    ["Mon, 99 Foo 2026 99:99:99 GMT", "Mon, 01 Jan 99999999999999999999 00:00:00 GMT", "1,2", "\u0661", "x " * 500],
)
def test_retry_after_invalid_text_is_ignored(value: str) -> None:
    """The text is neither a number nor a date."""
    assert retry_after(Headers([("Retry-After", value)])) in (None, 0.0)


def test_retry_after_twice_is_the_longest_wait() -> None:
    """Two fields are not joined into text that nothing can read."""
    assert retry_after(Headers([("Retry-After", "1"), ("retry-after", "2")])) == 2


# --- copies ---


@pytest.mark.parametrize("copied", [lambda found: pickle.loads(pickle.dumps(found)), deepcopy])
@pytest.mark.parametrize("body", ["files", "data", "generator", "bytes"])
def test_response_can_be_copied_after_an_upload(copied: Callable[[Any], Any], body: str) -> None:
    """A response is whole without the file that its request sent, also through its history."""
    with open(__file__, "rb") as file:
        given: dict[str, Any] = {
            "files": {"files": {"f": file}},
            "data": {"data": file},
            "generator": {"data": iter([b"x"])},
            "bytes": {"data": b"x"},
        }[body]
        moves = [raw_response(303, ("Location", "/b")), raw_response(200, ("A", "1"), body=b"found")]
        found = in_memory(*moves)[0].post(URL, timeout=(1, 2), **given)
        same = copied(found)
    assert (same.status_code, same.content, same.headers["a"], same.url) == (
        200,
        b"found",
        "1",
        "http://host.example/b",
    )
    first = same.history[0].request
    assert (first.method, first.url, first.read_timeout) == ("POST", Url("http", "host.example", 80, "/dir/page"), 2.0)
    assert first.body == (b"x" if body == "bytes" else None)


def test_request_keeps_its_body_in_a_shallow_copy() -> None:
    """Only what leaves the process or is copied deeply goes without the file."""
    request = HttpRequest("PUT", Url("http", "host", 80, "/"), Headers(), iter([b"x"]))
    request.connect_timeout = 1.0
    same = copy(request)
    assert same.body is request.body
    assert same.connect_timeout == 1.0

"""What can be asked of an answer."""

from __future__ import annotations

import encodings.aliases
import json

import pytest

from zcli_core.comm.http import HttpClient
from zcli_core.contracts.http import Headers, HttpResponse, HttpStatusError
from zcli_core.testing.http.peer import ScriptedServer, answering, response


def get(http: HttpClient, answer: bytes) -> HttpResponse:
    with ScriptedServer(answering(answer)) as server:
        found = http.get(server.url)
    assert found is not None, http.last_failure
    return found


@pytest.mark.parametrize("status", [200, 204, 304, 404, 418, 500, 503])
def test_every_answer_is_true_whatever_its_status(http: HttpClient, httpbin: str, status: int) -> None:
    found = http.get(f"{httpbin}/status/{status}")
    assert found
    assert found.status_code == status
    assert found.ok == (status < 400)
    assert http.last_failure is None


def test_raise_for_status_raises_for_errors_and_returns_the_response_else(http: HttpClient, httpbin: str) -> None:
    good = http.get(f"{httpbin}/status/200")
    bad = http.get(f"{httpbin}/status/404", params={"key": "secret"})
    assert good is not None
    assert bad is not None
    assert good.raise_for_status() is good
    with pytest.raises(HttpStatusError, match=r"GET http://.*/status/404\?key=\*\*\*: 404 NOT FOUND") as caught:
        bad.raise_for_status()
    assert caught.value.response is bad


def test_url_is_the_address_that_answered(http: HttpClient, httpbin: str) -> None:
    found = http.get(f"{httpbin}/get#part", params={"a": "ü"})
    assert found is not None
    assert found.url == f"{httpbin}/get?a=%C3%BC"


def test_elapsed_is_in_seconds_and_counts_the_body(http: HttpClient, httpbin: str) -> None:
    found = http.get(f"{httpbin}/drip?duration=0.3&numbytes=3&delay=0")
    assert found is not None
    assert 0.15 < found.elapsed < 10


@pytest.mark.parametrize(
    ("content_type", "body", "text"),
    [
        ("text/plain", "naïve".encode(), "naïve"),
        ("text/plain; charset=iso-8859-1", "naïve".encode("latin-1"), "naïve"),
        ('text/html; level=1; CHARSET="windows-1252"', "“naïve”".encode("cp1252"), "“naïve”"),
        ("text/plain; charset=no-such-thing", "naïve".encode(), "naïve"),
        ("text/plain; charset=base64", b"naive", "naive"),
        ("text/plain; charset=", b"naive", "naive"),
        ("text/plain; charset=idna", "naïve".encode(), "naïve"),
        ("text/plain", b"\xef\xbb\xbfmarked", "marked"),
        ("text/plain", b"broken \xff", "broken \ufffd"),
    ],
)
def test_text_is_decoded_as_content_type_says_else_as_utf_8(
    http: HttpClient, content_type: str, body: bytes, text: str
) -> None:
    assert get(http, response(body, "200 OK", f"Content-Type: {content_type}")).text == text


def test_text_is_text_whatever_codec_of_pythons_the_charset_names(http: HttpClient) -> None:
    for codec in sorted({*encodings.aliases.aliases.values(), "idna", "punycode", "undefined", "raw_unicode_escape"}):
        found = get(http, response(b"a\xff-b\x00.\xc3", "200 OK", f"Content-Type: text/plain; charset={codec}"))
        assert isinstance(found.text, str)


def test_json_that_is_none_raises_a_value_error_that_says_what_came(http: HttpClient) -> None:
    page = get(http, response(b"<html>", "502 Bad Gateway", "Content-Type: text/html"))
    with pytest.raises(json.JSONDecodeError, match="the body of 502 \\(text/html\\) is not JSON"):
        page.json()


def test_json_may_be_utf_16_and_takes_the_options_of_json_loads(http: HttpClient) -> None:
    assert get(http, response('{"ü": 1.5}'.encode("utf-16"))).json(parse_float=str) == {"ü": "1.5"}


def test_header_names_do_not_care_about_case_and_may_repeat(http: HttpClient) -> None:
    headers = get(
        http, response(b"", "200 OK", "X-One: a", "x-one: b", "Set-Cookie: c=1, d", "set-cookie: e=2")
    ).headers
    assert headers["x-ONE"] == "a, b"
    assert headers.get_all("Set-Cookie") == ["c=1, d", "e=2"]
    assert headers.get("missing") is None
    assert "SET-COOKIE" in headers
    assert list(headers) == ["Content-Length", "X-One", "Set-Cookie"]
    assert len(headers) == 3


def test_a_folded_header_is_one_value(http: HttpClient) -> None:
    assert get(http, response(b"", "200 OK", "X-Long: first", " second")).headers["X-Long"] == "first second"


def test_a_reason_cannot_steer_the_terminal_that_shows_it(http: HttpClient) -> None:
    assert get(http, response(b"", "200 \x1b[31mOK\x07é")).reason == "\ufffd[31mOK\ufffdé"


def test_a_reason_may_be_missing(http: HttpClient) -> None:
    found = get(http, response(b"", "299"))
    assert (found.status_code, found.reason) == (299, "")


@pytest.mark.parametrize("interim", ["100 Continue", "102 Processing", "103 Early Hints"])
def test_interim_answers_are_skipped(http: HttpClient, interim: str) -> None:
    early = f"HTTP/1.1 {interim}\r\nLink: </style.css>\r\n\r\n".encode()
    assert get(http, early + early + response(b"final")).content == b"final"


def test_a_body_without_length_ends_with_the_connection(http: HttpClient) -> None:
    with ScriptedServer(answering(b"HTTP/1.0 200 OK\r\n\r\nall of it", keep_open=False)) as server:
        found = http.get(server.url)
    assert found is not None
    assert found.content == b"all of it"


def test_headers_can_be_set_added_and_taken_out() -> None:
    headers = Headers([("A", "1"), ("a", "2")])
    headers["a"] = "3"
    headers.add("B", "4")
    assert headers.items() == [("a", "3"), ("B", "4")]
    assert headers.pop("b") == ["4"]
    assert headers.pop("b") == []
    copy = headers.copy()
    copy["a"] = "5"
    assert headers["A"] == "3"


def test_the_repr_of_headers_shows_names_only() -> None:
    assert repr(Headers([("Authorization", "Bearer secret")])) == "<Headers Authorization>"

"""What a script can read from a response."""

from __future__ import annotations

import encodings.aliases
import json

import pytest
from http_clients import URL, Clock, client_over

from zcli_core.http.contract import Headers, HttpResponse, HttpStatusError, RawResponse
from zcli_core.testing import MockRequest, make_response


def get(response: RawResponse) -> HttpResponse:
    """Return the response object of a script for a raw response."""
    found = client_over(response).get(URL)
    assert found is not None
    return found


@pytest.mark.parametrize("status", [200, 204, 304, 399, 400, 404, 500])
def test_response_is_true_for_every_status(status: int) -> None:
    """``if response:`` asks whether there is a response; ``ok`` asks whether the status is below 400."""
    found = get(make_response(status))
    assert found
    assert found.status_code == status
    assert found.ok == (status < 400)


def test_raise_for_status_raises_for_errors_only() -> None:
    """The message shows no query value; a response without an error is returned."""
    good = get(make_response())
    assert good.raise_for_status() is good
    bad = client_over(make_response(404)).get(f"{URL}path", params={"key": "secret"})
    assert bad is not None
    with pytest.raises(HttpStatusError, match=r"^GET http://host\.example/path\?key=\*\*\*: 404 Not Found$") as caught:
        bad.raise_for_status()
    assert caught.value.response is bad


def test_url_is_the_one_that_was_sent() -> None:
    """With the query from ``params``, without the fragment."""
    found = client_over(make_response()).get(f"{URL}get#part", params={"a": "ü"})
    assert found is not None
    assert found.url == f"{URL}get?a=%C3%BC"


def test_elapsed_counts_redirects_and_retries(clock: Clock) -> None:
    """In seconds, from the beginning of the call to the end of each response."""
    responses = iter(
        [
            make_response(302, headers={"Location": "/"}),
            make_response(503, headers={"Retry-After": "2"}),
            make_response(),
        ]
    )

    def respond(request: MockRequest) -> RawResponse:
        clock.now += 0.25
        return next(responses)

    found = client_over(respond).get(URL, retries=1)
    assert found is not None
    assert found.elapsed == pytest.approx(2.75)
    assert found.history[0].elapsed == pytest.approx(0.25)


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
def test_text_is_decoded_by_its_charset(content_type: str, body: bytes, text: str) -> None:
    """The one that Content-Type names, or UTF-8 if it names none that Python can read text in."""
    assert get(make_response(200, body, headers={"Content-Type": content_type})).text == text


def test_text_is_str_for_every_python_codec() -> None:
    """Some codecs do not decode to text, or cannot replace what does not fit."""
    for codec in sorted({*encodings.aliases.aliases.values(), "idna", "punycode", "undefined", "raw_unicode_escape"}):
        headers = {"Content-Type": f"text/plain; charset={codec}"}
        assert isinstance(get(make_response(200, b"a\xff-b\x00.\xc3", headers=headers)).text, str)


@pytest.mark.parametrize(
    "charset", ["x" * 60_000, "x-unknown-7", "utf--8", "utf_.8", "unicode_escape", "utf-8" + "-0" * 40, "../os"]
)
def test_charset_that_python_does_not_know_is_not_kept(charset: str) -> None:
    """Python's codecs keep every name they were asked for, so a server could fill the memory."""
    known = set(encodings._cache)  # type: ignore[attr-defined]  # private, so the stubs lack it
    headers = {"Content-Type": f"text/plain; charset={charset}"}
    response = get(make_response(body=b"na\xc3\xafve", headers=headers))
    assert (response.text, response.encoding) == ("na\u00efve", "utf-8")
    with pytest.raises(ValueError, match="is not JSON"):
        response.json()
    assert set(encodings._cache) == known  # type: ignore[attr-defined]  # private, so the stubs lack it


def test_json_invalid_body_raises_and_says_what_came() -> None:
    """Status and Content-Type, because it is often the page of a proxy."""
    page = get(make_response(502, b"<html>", headers={"Content-Type": "text/html"}))
    with pytest.raises(json.JSONDecodeError, match=r"the body of 502 \(text/html\) is no"):
        page.json()


def test_json_utf_16_and_options_are_read() -> None:
    """RFC 8259, section 8.1; the options are those of ``json.loads``."""
    assert get(make_response(200, '{"ü": 1.5}'.encode("utf-16"))).json(parse_float=str) == {"ü": "1.5"}


def test_headers_ignore_case_and_may_repeat() -> None:
    """RFC 9110, section 5.3."""
    fields = [("X-One", "a"), ("x-one", "b"), ("Set-Cookie", "c=1, d"), ("set-cookie", "e=2")]
    headers = get(make_response(headers=fields)).headers
    assert headers["x-ONE"] == "a, b"
    assert headers.get_all("Set-Cookie") == ["c=1, d", "e=2"]
    assert headers.get("missing") is None
    assert "SET-COOKIE" in headers
    assert list(headers) == ["X-One", "Set-Cookie"]
    assert len(headers) == 2


def test_reason_control_characters_are_replaced() -> None:
    """They could steer the terminal that shows the reason."""
    assert get(make_response(reason="\x1b[31mOK\x07é")).reason == "\\x1b[31mOK\\x07é"


def test_headers_can_be_set_added_and_taken_out() -> None:
    """A copy is independent."""
    headers = Headers([("A", "1"), ("a", "2")])
    headers["a"] = "3"
    headers.add("B", "4")
    assert headers.items() == [("a", "3"), ("B", "4")]
    assert headers.pop("b") == ["4"]
    assert headers.pop("b") == []
    copy = headers.copy()
    copy["a"] = "5"
    assert headers["A"] == "3"


def test_headers_repr_shows_names_only() -> None:
    """Values may be credentials."""
    assert repr(Headers([("Authorization", "Bearer secret")])) == "<Headers Authorization>"

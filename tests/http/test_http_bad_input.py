"""Bad input: an invalid URL gives None with a cause, an invalid argument raises an error before anything is sent."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from http_clients import URL, client_over, failure_of

from zcli_core.http.client import HttpClient
from zcli_core.http.contract import TransportFailure
from zcli_core.testing import MockTransport, make_response


@pytest.fixture
def http() -> HttpClient:
    """A client that must not send anything: any request is an error of the test."""
    return client_over([])


@pytest.mark.parametrize(
    "url",
    [
        "",
        "   ",
        "ftp://x",
        "http://",
        "https:///path",
        "http:/one-slash",
        "example.com/path",
        "/path",
        "mailto:someone@example.com",
        "http://host:port/",
        "http://host:0/",
        "http://host:65536/",
        "http://[::1/",
        "http://[no-address]/",
        "http://a..b/",
        "http://.a/",
        "http://" + "a" * 64 + ".example/",
        "http://" + "a." * 130 + "example/",
        "http://exa mple/",
        "http://exa%20mple/",
        "http://host/\r\nX-Evil: 1",
        "http://host/\x00",
        "http://host/\udcff",
        "http://host/?q=\udcff",
        "http://us\udcffer:password@host/",
        "http://us%3Aer:password@host/",
        None,
        5,
        b"http://host/",
    ],
)
def test_get_invalid_url_returns_none(http: HttpClient, url: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The cause is in last_failure, and in one warning in the log."""
    assert http.get(url) is None
    assert failure_of(http).kind == "invalid_url"
    assert failure_of(http).message
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "invalid_url" in caplog.text


def test_get_url_in_white_space_is_stripped() -> None:
    """White space around a URL comes from files and terminals."""
    mock = MockTransport(make_response())
    assert client_over(mock).get("  http://host.example/path\n")
    assert str(mock.requests[0].url) == "http://host.example/path"


def test_get_url_with_password_never_shows_it(caplog: pytest.LogCaptureFixture) -> None:
    """Neither in the failure nor in the log, however broken the URL is."""
    caplog.set_level(logging.DEBUG)
    http = client_over(TransportFailure("refused", "nothing listens there"))
    for url in (
        "ftp://user:hidden@host/?key=hidden",
        "http://user:hid/den@host/?hidden",
        "http://user:hidden@host:hidden/",
        "http://user:hidden@",
        "http://user:hid@den:hidden@host name/",
        "user:hidden@host",
        "http://host:99999/?token=hidden",
        "http://127.0.0.1:9/?token=hidden&hidden",
        "http://user:hidden@127.0.0.1:9/",
    ):
        assert http.get(url) is None
        assert "hidden" not in str(http.last_failure)
    assert "hidden" not in caplog.text


@pytest.mark.parametrize("timeout", [0, -1, -0.5, "2", True, False, math.nan, math.inf, [1], 1j])
def test_get_invalid_timeout_raises(http: HttpClient, timeout: Any) -> None:
    """A timeout is a finite number above 0."""
    with pytest.raises(ValueError, match="timeout must be a number of seconds above 0"):
        http.get(URL, timeout=timeout)


@pytest.mark.parametrize("retries", [-1, 1.5, "1", True])
def test_get_invalid_retries_raises(http: HttpClient, retries: Any) -> None:
    """Retries are an integer from 0."""
    with pytest.raises(ValueError, match="retries must be an integer"):
        http.get(URL, retries=retries)


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("", ValueError),
        ("GE T", ValueError),
        ("GET\r\n", ValueError),
        ("CONNECT", ValueError),
        (None, TypeError),
        (b"GET", TypeError),
    ],
)
def test_request_invalid_method_raises(http: HttpClient, method: Any, error: type[Exception]) -> None:
    """A method is a token (RFC 9110, section 9.1); CONNECT opens a tunnel."""
    with pytest.raises(error, match="method"):
        http.request(method, URL)


@pytest.mark.parametrize(
    "bodies",
    [
        {"data": {}, "form": {}},
        {"data": b"", "json": 0},
        {"json": [], "files": {"f": b""}},
        {"data": "x", "form": {"a": 1}, "files": {"f": b""}},
    ],
)
def test_post_two_bodies_raises_and_names_both(http: HttpClient, bodies: Any) -> None:
    """A request has one body."""
    with pytest.raises(ValueError, match="a request has only one body") as caught:
        http.post(URL, **bodies)
    assert all(name in str(caught.value) for name in bodies)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"data": 5}, TypeError),
        ({"data": {"a": object()}}, TypeError),
        ({"json": {1, 2}}, TypeError),
        ({"json": math.nan}, ValueError),
        ({"data": io.StringIO("text")}, TypeError),
        ({"data": [b"not JSON"]}, TypeError),
        ({"form": "a=1"}, TypeError),
        ({"form": 5}, TypeError),
        ({"form": {"a": {}}}, TypeError),
        ({"params": 5}, TypeError),
        ({"files": {}}, ValueError),
        ({"files": b"content"}, TypeError),
        ({"files": {"f": 5}}, TypeError),
        ({"files": {"f": ("name",)}}, TypeError),
        ({"files": {"f": ("name", b"", "text/plain\r\nX: 1")}}, ValueError),
        ({"headers": "X: 1"}, TypeError),
        ({"headers": 5}, TypeError),
        ({"headers": {"X": object()}}, TypeError),
        ({"headers": {"X": True}}, TypeError),
        ({"headers": {"X Y": "1"}}, ValueError),
        ({"headers": {"": "1"}}, ValueError),
        ({"headers": {5: "1"}}, ValueError),
        ({"headers": {"X": "a\rEvil: 1"}}, ValueError),
        ({"headers": {"X": "a\nEvil: 1"}}, ValueError),
        ({"headers": {"X": "a\0"}}, ValueError),
        ({"headers": {"X": "a\x1b[2J"}}, ValueError),
        ({"headers": {"X": b"a\x7f"}}, ValueError),
        ({"headers": {"User-Agent": "a\x01"}}, ValueError),
        ({"headers": {"X": "€"}}, ValueError),
        ({"headers": {"Content-Length": "3"}, "data": b"four"}, ValueError),
        ({"headers": {"Content-Length": "x"}, "data": b"x"}, ValueError),
        ({"headers": {"Content-Length": "3"}}, ValueError),
        ({"headers": [("Content-Length", "5"), ("content-length", "3")], "data": b"abc"}, ValueError),
        ({"headers": [("Content-Length", "5"), ("Content-Length", "3")], "data": iter([b"abc"])}, ValueError),
        ({"headers": [("Host", "a"), ("Host", "b")]}, ValueError),
        ({"headers": [("Content-Type", "text/plain"), ("Content-Type", "text/html")], "data": b"x"}, ValueError),
        ({"headers": {"Transfer-Encoding": "chunked"}, "data": b"x"}, ValueError),
        ({"auth": 5}, TypeError),
        ({"auth": ("user",)}, TypeError),
        ({"auth": ("us:er", "password")}, ValueError),
        ({"auth": ""}, ValueError),
        ({"auth": "tok en"}, ValueError),
        ({"auth": "token", "headers": {"authorization": "x"}}, ValueError),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value.__name__,
)
def test_post_invalid_argument_raises(http: HttpClient, body: Any, error: type[Exception]) -> None:
    """Nothing is sent, and no secret is in the message."""
    with pytest.raises(error) as caught:
        http.post(URL, **body)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("argument", ["json", "data"])
@pytest.mark.parametrize("value", [{"a": {1, 2}}, [math.nan], {(1, 2): 3}, ["\ud800"]], ids=repr)
def test_post_not_json_names_the_argument(http: HttpClient, argument: str, value: Any) -> None:
    """The errors of the json module name only the type."""
    with pytest.raises((TypeError, ValueError), match=f"^{argument} cannot be encoded as JSON: "):
        http.post(URL, **{argument: value})


def test_post_lone_surrogate_names_the_argument(http: HttpClient) -> None:
    """Text is sent as UTF-8."""
    with pytest.raises(ValueError, match=r"^data contains a lone surrogate"):
        http.post(URL, "\ud800")


def test_headers_tab_and_latin_1_are_sent() -> None:
    """RFC 9110, section 5.5."""
    mock = MockTransport(make_response())
    assert client_over(mock).get(URL, headers={"X": "a\tb\xe9"})
    assert mock.requests[0].headers["X"] == "a\tb\xe9"


def test_get_invalid_header_is_named_without_value(http: HttpClient) -> None:
    """The value may be a credential."""
    with pytest.raises(ValueError, match="header Authorization") as caught:
        http.get(URL, headers={"Authorization": "Bearer hidden”"})
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(("blocks", "length"), [([b"12"], "3"), ([b"12", b"34"], "3")])
def test_post_body_of_other_length_gives_none(blocks: list[bytes], length: str) -> None:
    """The Content-Length that the script announced must be true; what was sent until then cannot be taken back."""
    http = client_over(make_response())
    assert http.post(URL, data=iter(blocks), headers={"Content-Length": length}) is None
    assert http.last_failure is not None
    assert http.last_failure.kind == "body"
    assert f"than the {length} bytes of its Content-Length" in http.last_failure.message


@pytest.mark.parametrize("error", [OSError("disk"), TimeoutError("mine"), KeyError("k")])
def test_post_iterable_that_raises_passes_the_error_on(error: Exception) -> None:
    """It is the script's own error, not a failure of the network."""

    def blocks() -> Iterator[bytes]:
        yield b"first"
        raise error

    with pytest.raises(type(error)) as caught:
        client_over(make_response()).post(URL, data=blocks())
    assert caught.value is error


def test_post_iterable_of_numbers_raises() -> None:
    """An iterable yields bytes."""
    with pytest.raises(TypeError, match=r"must yield bytes, .* int"):
        client_over(make_response()).post(URL, data=iter([1]))


def test_post_missing_file_raises_at_once(http: HttpClient, tmp_path: Path) -> None:
    """Before anything is sent."""
    with pytest.raises(FileNotFoundError):
        http.post(URL, files={"f": tmp_path / "missing"})


def test_closed_client_raises() -> None:
    """Closing twice is allowed."""
    mock = MockTransport(make_response())
    http = client_over(mock)
    assert http.get(URL)
    http.close()
    http.close()
    assert mock.closed
    with pytest.raises(RuntimeError, match="closed"):
        http.get(URL)
    with pytest.raises(RuntimeError, match="closed"):
        http.use_transport(mock)

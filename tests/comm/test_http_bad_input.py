"""Bad input: None with a cause for what the network or a URL does, an error at once for a mistake in the arguments."""

from __future__ import annotations

import gzip
import io
import logging
import math
import socket
from collections.abc import Callable
from typing import Any

import pytest

from zcli_core.comm.http import HttpClient
from zcli_core.testing.http.peer import ScriptedServer, answering, closed_port, reset, response

URL = "http://127.0.0.1:9/"


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
        "http://host:70000/",
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
def test_a_url_that_is_none_gives_none_and_the_cause(
    http: HttpClient, url: Any, caplog: pytest.LogCaptureFixture
) -> None:
    assert http.get(url) is None
    assert http.last_failure is not None
    assert http.last_failure.kind == "invalid_url"
    assert http.last_failure.message
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "invalid_url" in caplog.text


def test_a_host_without_address_gives_none(http: HttpClient) -> None:
    assert http.get("http://no-such-host.invalid/", timeout=20) is None
    assert http.last_failure is not None
    assert http.last_failure.kind == "dns"
    assert "no-such-host.invalid" in http.last_failure.message


def test_a_port_without_listener_gives_none(http: HttpClient) -> None:
    assert http.get(f"http://127.0.0.1:{closed_port()}/") is None
    assert http.last_failure is not None
    assert http.last_failure.kind == "refused"


def test_a_reset_gives_none(http: HttpClient) -> None:
    def handle(server: ScriptedServer, connection: socket.socket) -> None:
        server.read_request(connection)
        reset(connection)

    with ScriptedServer(handle) as server:
        assert http.get(server.url) is None
    assert http.last_failure is not None
    assert http.last_failure.kind == "reset"


def test_a_connection_closed_without_an_answer_gives_none(http: HttpClient) -> None:
    def handle(server: ScriptedServer, connection: socket.socket) -> None:
        server.read_request(connection)

    with ScriptedServer(handle) as server:
        assert http.get(server.url) is None
        assert server.connections == 1  # it was a fresh connection: nothing says that another would do better
    assert http.last_failure is not None
    assert http.last_failure.kind == "reset"


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
        (b"HTTP/1.1 abc OK\r\n\r\n", "abc"),
        (b"HTTP/1.1 200 OK\r\nno header\r\nContent-Length: 2\r\n\r\nok", "no header"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!", "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n" + b"a" * 10, "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\nless", "Content-Length"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "Transfer-Encoding"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nless", "before the end"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 100\r\n\r\n" + gzip.compress(b"less"),
            "before the end",
        ),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot hex\r\n", ""),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", "before the end"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 8\r\n\r\nnot gzip", "Content-Encoding"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n", ""),
        (b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 1000 + b"\r\n", "headers"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_an_answer_that_is_no_http_gives_none(http: HttpClient, answer: bytes, why: str) -> None:
    with ScriptedServer(answering(answer, keep_open=False)) as server:
        assert http.get(server.url) is None
    assert http.last_failure is not None
    assert http.last_failure.kind == "protocol", http.last_failure
    assert why in http.last_failure.message


@pytest.mark.parametrize("line", [b"X-Endless: a\r\n", b"a"])
def test_endless_headers_give_none_long_before_memory_runs_out(http: HttpClient, line: bytes) -> None:
    def handle(server: ScriptedServer, connection: socket.socket) -> None:
        server.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            connection.sendall(line * 5000)

    with ScriptedServer(handle) as server:
        assert http.get(server.url) is None
    assert http.last_failure is not None
    assert http.last_failure.kind == "protocol"


def test_a_url_is_stripped_of_the_white_space_around_it(http: HttpClient, httpbin: str) -> None:
    assert http.get(f"  {httpbin}/get\n")


@pytest.mark.parametrize("timeout", [0, -1, -0.5, "2", True, False, math.nan, math.inf, [1], 1j])
def test_a_timeout_that_is_none_raises_value_error(http: HttpClient, timeout: Any) -> None:
    with pytest.raises(ValueError, match="timeout must be a number of seconds above 0"):
        http.get(URL, timeout=timeout)


@pytest.mark.parametrize("retries", [-1, 1.5, "1", True])
def test_a_number_of_retries_that_is_none_raises_value_error(http: HttpClient, retries: Any) -> None:
    with pytest.raises(ValueError, match="retries must be a whole number"):
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
def test_a_method_that_is_none_raises(http: HttpClient, method: Any, error: type[Exception]) -> None:
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
def test_two_bodies_raise_value_error_that_names_both(http: HttpClient, bodies: Any) -> None:
    with pytest.raises(ValueError, match="a request has one body") as caught:
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
        ({"data": [b"bytes are no JSON"]}, TypeError),
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
        ({"headers": {"X": "a\r\nEvil: 1"}}, ValueError),
        ({"headers": {"X": "€"}}, ValueError),
        ({"headers": {"Content-Length": "3"}, "data": b"four"}, ValueError),
        ({"headers": {"Content-Length": "x"}, "data": b"x"}, ValueError),
        ({"headers": {"Content-Length": "3"}}, ValueError),
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
def test_an_argument_that_cannot_be_sent_raises(http: HttpClient, body: Any, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        http.post(URL, **body)
    assert "secret" not in str(caught.value)


def test_a_header_that_cannot_be_sent_is_named_without_its_value(http: HttpClient) -> None:
    with pytest.raises(ValueError, match="header Authorization") as caught:
        http.get(URL, headers={"Authorization": "Bearer hidden”"})
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(("blocks", "length"), [([b"12"], "3"), ([b"12", b"34"], "3")])
def test_body_of_another_length_gives_none(http: HttpClient, blocks: list[bytes], length: str) -> None:
    """A body of another length than announced ends the call, and the connection, with a cause."""
    with ScriptedServer(answering(response())) as server:
        assert http.post(server.url, data=iter(blocks), headers={"Content-Length": length}) is None
        assert http.get(server.url) is not None
        assert server.connections == 2
    assert http.last_failure is None


@pytest.mark.parametrize("error", [OSError("disk"), TimeoutError("mine"), KeyError("k")])
def test_what_the_callers_iterable_raises_comes_out_as_it_is(http: HttpClient, httpbin: str, error: Exception) -> None:
    def blocks() -> Any:
        yield b"first"
        raise error

    with pytest.raises(type(error)) as caught:
        http.post(f"{httpbin}/post", data=blocks())
    assert caught.value is error


def test_an_iterable_of_something_else_than_bytes_raises(http: HttpClient, httpbin: str) -> None:
    with pytest.raises(TypeError, match="must yield bytes, got int"):
        http.post(f"{httpbin}/post", data=iter([1]))


def test_a_file_that_is_not_there_raises_at_once(http: HttpClient, tmp_path: Any) -> None:
    with pytest.raises(FileNotFoundError):
        http.post(URL, files={"f": tmp_path / "missing"})


def test_a_closed_client_raises(make_http: Callable[..., HttpClient]) -> None:
    http = make_http()
    http.close()
    http.close()
    with pytest.raises(RuntimeError, match="closed"):
        http.get(URL)


def test_passwords_in_urls_that_cannot_be_read_are_not_shown(
    http: HttpClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
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

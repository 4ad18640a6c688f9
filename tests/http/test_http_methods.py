"""What the client sends: methods, queries, bodies, headers and credentials, and round trips to httpbin."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from http_clients import URL, client_over, failure_of

from zcli_core.http.client import HttpClient
from zcli_core.http.contract import HttpRequest, HttpResponse
from zcli_core.testing import MockRequest, MockTransport, make_response

VERBS = ("get", "post", "put", "patch", "delete", "head", "options")


def sent(method: str, url: str = URL, *arguments: Any, **options: Any) -> MockRequest:
    """The one request that a call of the client's method sends."""
    mock = MockTransport([make_response()])
    assert getattr(client_over(mock), method)(url, *arguments, **options)
    return mock.requests[0]


# --- methods and queries ---


@pytest.mark.parametrize("verb", VERBS)
def test_verb_sends_its_method(verb: str) -> None:
    """``http.get`` sends GET, and so on."""
    assert sent(verb).method == verb.upper()


def test_request_takes_any_method_in_any_case() -> None:
    """It also takes methods without a function of their own."""
    mock = MockTransport(make_response())
    assert client_over(mock).request("trace", URL)
    assert client_over(mock).request("M-Search", URL)
    assert [request.method for request in mock.requests] == ["TRACE", "M-SEARCH"]


def test_params_are_added_to_the_query_of_the_url() -> None:
    """Lists repeat the name, None leaves it out, and everything is percent-encoded."""
    params = {"many": ["a", "b c"], "none": None, "flag": True, "number": 1.5, "ünï": "&=?"}
    query = sent("get", f"{URL}?first=1", params=params).url.target.partition("?")[2]
    expected = [("first", "1"), ("many", "a"), ("many", "b c"), ("flag", "true"), ("number", "1.5"), ("ünï", "&=?")]
    assert parse_qsl(query) == expected
    assert query.isascii()


@pytest.mark.parametrize(
    ("params", "query"), [([("a", "1"), ("a", "2")], "a=1&a=2"), ("a=1&b=%20", "a=1&b=%20")], ids=["pairs", "text"]
)
def test_params_may_be_pairs_or_a_query(params: Any, query: str) -> None:
    """Given by position, as the verbs without a body take them."""
    assert sent("get", URL, params).url.target == f"/?{query}"


# --- bodies ---


@pytest.mark.parametrize("value", [{"name": "Alice"}, [1, "zwei", None], {}, []])
def test_data_dict_or_list_is_sent_as_json(value: Any) -> None:
    """With the Content-Type that says so."""
    request = sent("post", data=value)
    assert request.json() == value
    assert request.headers["Content-Type"] == "application/json"


@pytest.mark.parametrize("value", ["text", 0, False, {"ü": "ö"}])
def test_json_sends_any_value(value: Any) -> None:
    """In UTF-8, without escapes (RFC 8259)."""
    request = sent("put", json=value)
    assert request.body == json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()
    assert request.headers["Content-Type"] == "application/json"


def test_form_is_sent_as_an_html_form() -> None:
    """Lists repeat the name."""
    request = sent("post", form={"a": "1 2", "b": ["x", "y"]})
    assert parse_qsl(request.body.decode()) == [("a", "1 2"), ("b", "x"), ("b", "y")]
    assert request.headers["Content-Type"] == "application/x-www-form-urlencoded"


@pytest.mark.parametrize(
    ("data", "body", "content_type"),
    [
        ("naïve", "naïve".encode(), "text/plain; charset=utf-8"),
        (b"\x00\xff", b"\x00\xff", None),
        (bytearray(b"\x00\xff"), b"\x00\xff", None),
    ],
    ids=["str", "bytes", "bytearray"],
)
def test_data_text_or_bytes_is_sent_as_it_is(data: Any, body: bytes, content_type: str | None) -> None:
    """Text in UTF-8 with a Content-Type that says so; of bytes nothing is said."""
    request = sent("post", data=data)
    assert (request.body, request.headers.get("content-type")) == (body, content_type)


def test_data_iterable_is_sent_without_a_length() -> None:
    """Empty blocks are left out, because they would end a body in chunks."""
    mock = MockTransport(make_response())
    assert client_over(mock).post(URL, data=(block for block in (b"one ", b"", b"two")))
    assert mock.requests[0].body == b"one two"
    assert "content-length" not in mock.requests[0].headers


def test_data_file_is_sent_from_its_position() -> None:
    """With the length of the rest."""
    file = io.BytesIO(b"skipped and sent")
    file.seek(12)
    request = sent("post", data=file)
    assert (request.body, request.headers["Content-Length"]) == (b"sent", "4")


# --- headers ---


@pytest.mark.parametrize("name", ["User-Agent", "Accept", "Accept-Encoding", "Content-Type"])
def test_headers_none_leaves_out_a_default(name: str) -> None:
    """Each header that zCLI would send; that a transport adds none is tested by its suite."""
    with_it = sent("post", data={"a": 1}).headers.items()
    without_it = sent("post", data={"a": 1}, headers={name: None}).headers.items()
    assert [field for field in with_it if field not in without_it] == [
        (field, value) for field, value in with_it if field == name
    ]
    assert len(without_it) == len(with_it) - 1


def test_headers_replace_the_defaults() -> None:
    """In any case; a value may be a number or bytes."""
    headers = sent("get", headers={"user-agent": "mine/1", "Accept": None, "X-Number": 7, "X-Bytes": b"raw"}).headers
    assert headers.get_all("User-Agent") == ["mine/1"]
    assert (headers["X-Number"], headers["X-Bytes"]) == ("7", "raw")
    assert "Accept" not in headers


def test_user_agent_is_the_configured_one() -> None:
    """``http.user_agent``."""
    mock = MockTransport(make_response())
    assert client_over(mock, user_agent="configured/2").get(URL)
    assert mock.requests[0].headers["User-Agent"] == "configured/2"


def test_max_bytes_is_the_configured_one() -> None:
    """``http.max_response_bytes``; that a transport keeps to it is tested by its suite."""
    mock = MockTransport(make_response(200, b"12345"))
    assert client_over(mock, max_response_bytes=5).get(URL)
    assert mock.requests[0].max_bytes == 5
    http = client_over(mock, max_response_bytes=4)
    assert http.get(URL) is None
    assert failure_of(http).kind == "too_large"


@pytest.mark.parametrize(
    ("codings", "accept"), [(("zstd", "br", "gzip"), "zstd, br, gzip"), ((), "identity"), (None, "identity")]
)
def test_accept_encoding_names_the_transports_codings(codings: tuple[str, ...] | None, accept: str) -> None:
    """``identity`` for a transport that decodes none, or does not say; the script's own header comes first."""
    mock = MockTransport(make_response(), content_codings=codings or ())
    if codings is None:
        del mock.content_codings
    http = client_over(mock)
    assert http.get(URL)
    assert http.get(URL)
    assert http.get(URL, headers={"Accept-Encoding": "identity;q=0.5"})
    assert [request.headers["accept-encoding"] for request in mock.requests] == [accept, accept, "identity;q=0.5"]


# --- credentials ---


def basic(pair: str) -> str:
    """The Authorization header of a user and a password (RFC 7617)."""
    return "Basic " + base64.b64encode(pair.encode()).decode()


def test_auth_pair_is_basic_in_utf_8() -> None:
    """RFC 7617, section 2.1."""
    assert sent("get", auth=("user", "päss")).headers["Authorization"] == basic("user:päss")


def test_auth_string_is_a_bearer_token() -> None:
    """RFC 6750, section 2.1."""
    assert sent("get", auth="abc.def").headers["Authorization"] == "Bearer abc.def"


def test_auth_function_signs_the_request() -> None:
    """It sees the method, the URL and the body."""

    def sign(request: HttpRequest) -> None:
        request.headers["X-Signature"] = f"{request.method} {request.url.target} {request.body!r}"

    headers = sent("post", f"{URL}path", data=b"body", auth=sign).headers
    assert headers["X-Signature"] == "POST /path b'body'"


def test_auth_function_that_raises_passes_the_error_on() -> None:
    """It is the script's own error, and nothing is sent."""

    def sign(request: HttpRequest) -> None:
        raise LookupError("no key")

    with pytest.raises(LookupError, match="no key"):
        client_over([]).get(URL, auth=sign)


@pytest.mark.parametrize(
    "arguments", [{"auth": "token"}, {"headers": {"authorization": "Bearer token"}}], ids=["auth", "header"]
)
def test_url_credentials_give_way_to_the_scripts_own(arguments: dict[str, Any]) -> None:
    """Whether these are an argument or a header."""
    assert sent("get", "http://user:password@host.example/", **arguments).headers["Authorization"] == "Bearer token"


def test_url_credentials_are_sent_and_never_shown(caplog: pytest.LogCaptureFixture) -> None:
    """As Basic authentication; neither the response nor the log has them."""
    caplog.set_level("DEBUG")
    mock = MockTransport(make_response())
    response = client_over(mock).get("http://user:p%40ss@host.example/")
    assert mock.requests[0].headers["Authorization"] == basic("user:p@ss")
    assert response is not None
    assert response.url == URL
    assert "p%40ss" not in caplog.text
    assert "p@ss" not in caplog.text + repr(response) + repr(response.request) + repr(response.request.headers)


def test_netrc_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Credentials come from the script only."""
    (tmp_path / ".netrc").write_text("machine host.example login user password secret")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "Authorization" not in sent("get").headers


# --- round trips: what the client encodes, a transport sends and a real server reads ---


def json_of(response: HttpResponse | None) -> Any:
    assert response is not None
    assert response.status_code == 200
    return response.json()


def test_httpbin_every_verb_over_https(make_http: Callable[..., HttpClient], httpbin_https: Any) -> None:
    """With the authority of ``http.ca_file``."""
    http = make_http(ca_file=httpbin_https.ca_file)
    for verb in ("get", "post", "put", "patch", "delete"):
        assert json_of(getattr(http, verb)(f"{httpbin_https.url}/anything"))["method"] == verb.upper()
    for verb in ("head", "options"):
        response = getattr(http, verb)(f"{httpbin_https.url}/get")
        assert (response.ok, response.content) == (True, b"")


def test_httpbin_reads_params_form_and_json(http: HttpClient, httpbin: str) -> None:
    """Whatever characters are in them."""
    pairs = {"many": ["a", "b c"], "ünï": "&=?+%"}
    assert json_of(http.get(f"{httpbin}/get", params=pairs))["args"] == pairs
    assert json_of(http.post(f"{httpbin}/post", form=pairs))["form"] == pairs
    assert json_of(http.post(f"{httpbin}/post", data=pairs))["json"] == pairs


def test_httpbin_reads_files_of_every_form(http: HttpClient, httpbin: str, tmp_path: Path) -> None:
    """Together with the fields of a form."""
    path = tmp_path / "note.txt"
    path.write_text("from a path")
    with path.open("rb") as opened:
        files = {
            "path": path,
            "opened": opened,
            "bytes": b"raw",
            "text": 'ü"\r\n',
            "named": ("x.json", b"{}", "application/json"),
            "stream": ("s.bin", io.BufferedReader(io.BytesIO(b"streamed"))),  # type: ignore[arg-type]
        }
        data = json_of(http.post(f"{httpbin}/post", form={"field": "value"}, files=files))
    assert data["form"] == {"field": "value"}
    assert data["files"] == {
        "path": "from a path",
        "opened": "from a path",
        "bytes": "raw",
        "text": 'ü"\r\n',
        "named": "{}",
        "stream": "streamed",
    }


def test_httpbin_file_name_stays_in_its_header(http: HttpClient, httpbin: str) -> None:
    """Quotes and line breaks in it are escaped."""
    data = json_of(http.post(f"{httpbin}/post", files={"f": ('a"\r\nX-Evil: 1\r\n\r\n.txt', b"content")}))
    assert data["files"] == {"f": "content"}


@pytest.mark.parametrize("path", ["gzip", "deflate", "stream/1", "basic-auth/user/p%C3%A4ss"])
def test_httpbin_response_is_decoded(http: HttpClient, httpbin: str, path: str) -> None:
    """The codings that the client asks for, chunks, and the credentials that httpbin compares."""
    assert json_of(http.get(f"{httpbin}/{path}", auth=("user", "päss")))

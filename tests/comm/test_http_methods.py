"""Requests that work, against the real httpbin: every verb, every kind of body, headers, params and credentials."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zcli_core.comm.http import HttpClient
from zcli_core.config.sections import Http
from zcli_core.contracts.http import HttpRequest, HttpResponse, RawResponse
from zcli_core.testing.http.peer import ScriptedServer, answering, response


def answered(response: HttpResponse | None) -> Any:
    assert response is not None
    assert response.status_code == 200
    return response.json()


@pytest.mark.parametrize("verb", ["get", "post", "put", "patch", "delete"])
def test_every_verb_reaches_httpbin_under_its_own_name(http: HttpClient, httpbin: str, verb: str) -> None:
    data = answered(getattr(http, verb)(f"{httpbin}/anything"))
    assert data["method"] == verb.upper()


def test_every_verb_works_over_https_with_the_authority_in_ca_file(
    make_http: Callable[..., HttpClient], httpbin_https: Any
) -> None:
    http = make_http(ca_file=httpbin_https.ca_file)
    for verb in ("get", "post", "put", "patch", "delete"):
        assert answered(getattr(http, verb)(f"{httpbin_https.url}/anything"))["method"] == verb.upper()


def test_head_gives_status_and_headers_without_a_body(http: HttpClient, httpbin: str) -> None:
    response = http.head(f"{httpbin}/get")
    assert response is not None
    assert response.ok
    assert int(response.headers["Content-Length"]) > 0
    assert response.content == b""


def test_options_says_what_is_allowed(http: HttpClient, httpbin: str) -> None:
    response = http.options(f"{httpbin}/get")
    assert response is not None
    assert "GET" in response.headers["Allow"]


def test_request_takes_any_method_in_any_case(http: HttpClient, httpbin: str) -> None:
    assert answered(http.request("trace", f"{httpbin}/anything"))["method"] == "TRACE"


def test_params_are_added_to_the_query_that_the_url_has(http: HttpClient, httpbin: str) -> None:
    params = {"many": ["a", "b c"], "none": None, "flag": True, "number": 1.5, "ünï": "&=?"}
    args = answered(http.get(f"{httpbin}/get?first=1", params=params))["args"]
    assert args == {"first": "1", "many": ["a", "b c"], "flag": "true", "number": "1.5", "ünï": "&=?"}


def test_params_may_be_pairs_or_a_ready_query(http: HttpClient, httpbin: str) -> None:
    assert answered(http.get(f"{httpbin}/get", [("a", "1"), ("a", "2")]))["args"] == {"a": ["1", "2"]}
    assert answered(http.get(f"{httpbin}/get", "a=1&b=%20"))["args"] == {"a": "1", "b": " "}


@pytest.mark.parametrize("value", [{"name": "Alice"}, [1, "zwei", None], {}, []])
def test_a_dict_or_list_as_data_is_sent_as_json(http: HttpClient, httpbin: str, value: Any) -> None:
    data = answered(http.post(f"{httpbin}/post", data=value))
    assert data["json"] == value
    assert data["headers"]["Content-Type"] == "application/json"


@pytest.mark.parametrize("value", ["text", 0, False, {"ü": "ö"}])
def test_json_sends_any_value(http: HttpClient, httpbin: str, value: Any) -> None:
    assert answered(http.put(f"{httpbin}/put", json=value))["json"] == value


def test_form_is_sent_as_an_html_form(http: HttpClient, httpbin: str) -> None:
    assert answered(http.post(f"{httpbin}/post", form={"a": "1 2", "b": ["x", "y"]}))["form"] == {
        "a": "1 2",
        "b": ["x", "y"],
    }


def test_str_is_sent_as_utf_8_text_and_bytes_as_they_are(http: HttpClient, httpbin: str) -> None:
    data = answered(http.post(f"{httpbin}/post", data="naïve"))
    assert data["data"] == "naïve"
    assert data["headers"]["Content-Type"] == "text/plain; charset=utf-8"
    assert answered(http.post(f"{httpbin}/post", data=b"\x00\xff"))["data"].startswith("data:application/octet-stream")


def test_an_iterable_is_sent_in_chunks(http: HttpClient, httpbin: str) -> None:
    assert answered(http.post(f"{httpbin}/post", data=(block for block in (b"one ", b"", b"two"))))["data"] == "one two"


def test_a_file_is_sent_with_its_length_from_where_it_stands(http: HttpClient, httpbin: str) -> None:
    file = io.BytesIO(b"skipped and sent")
    file.seek(12)
    data = answered(http.post(f"{httpbin}/post", data=file))
    assert data["data"] == "sent"
    assert data["headers"]["Content-Length"] == "4"


def test_files_of_every_form_are_sent_with_the_form(http: HttpClient, httpbin: str, tmp_path: Path) -> None:
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
        data = answered(http.post(f"{httpbin}/post", form={"field": "value"}, files=files))
    assert data["form"] == {"field": "value"}
    assert data["files"] == {
        "path": "from a path",
        "opened": "from a path",
        "bytes": "raw",
        "text": 'ü"\r\n',
        "named": "{}",
        "stream": "streamed",
    }


def test_a_file_name_cannot_break_out_of_its_header(http: HttpClient, httpbin: str) -> None:
    data = answered(http.post(f"{httpbin}/post", files={"f": ('a"\r\nX-Evil: 1\r\n\r\n.txt', b"content")}))
    assert data["files"] == {"f": "content"}


@pytest.mark.parametrize("name", ["User-Agent", "Accept", "Accept-Encoding", "Content-Type"])
def test_every_header_that_zcli_would_send_can_be_left_out(http: HttpClient, name: str) -> None:
    """Neither ours nor what urllib3 and http.client would put in its place is sent."""
    with ScriptedServer(answering(response())) as server:
        assert http.post(server.url, data={"a": 1}), http.last_failure
        assert http.post(server.url, data={"a": 1}, headers={name: None}), http.last_failure
    with_it, without_it = (set(request.split(b"\r\n")) for request in server.requests)
    assert [line.partition(b":")[0].decode() for line in with_it - without_it] == [name]
    assert not without_it - with_it


class CodingTransport:
    """Notes the Accept-Encoding that it is given; ``codings`` is what it says that it undoes."""

    def __init__(self, codings: tuple[str, ...] | None) -> None:
        self.asked: list[str] = []
        if codings is not None:
            self.content_codings = codings

    def exchange(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        self.asked.append(request.headers["accept-encoding"])
        return RawResponse(200, "OK", [], b"")

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("codings", "accept"), [(("zstd", "br", "gzip"), "zstd, br, gzip"), ((), "identity"), (None, "identity")]
)
def test_servers_are_asked_for_the_codings_that_the_transport_undoes(
    codings: tuple[str, ...] | None, accept: str
) -> None:
    transport = CodingTransport(codings)
    http = HttpClient(Http(), lambda: transport, logging.getLogger("zcli.test"))
    assert http.get("http://127.0.0.1/")
    assert http.get("http://127.0.0.1/")
    assert http.get("http://127.0.0.1/", headers={"Accept-Encoding": "identity;q=0.5"})
    assert transport.asked == [accept, accept, "identity;q=0.5"]


def test_the_callers_headers_replace_the_defaults_and_none_leaves_one_out(http: HttpClient, httpbin: str) -> None:
    headers = {"user-agent": "mine/1", "Accept": None, "X-Number": 7, "X-Bytes": b"raw"}
    seen = answered(http.get(f"{httpbin}/headers", headers=headers))["headers"]
    assert seen["User-Agent"] == "mine/1"
    assert seen["X-Number"] == "7"
    assert seen["X-Bytes"] == "raw"
    assert "Accept" not in seen


def test_the_configured_user_agent_is_sent(make_http: Callable[..., HttpClient], httpbin: str) -> None:
    http = make_http(user_agent="configured/2")
    assert answered(http.get(f"{httpbin}/user-agent")) == {"user-agent": "configured/2"}


def test_a_pair_is_basic_authentication_in_utf_8(http: HttpClient, httpbin: str) -> None:
    assert answered(http.get(f"{httpbin}/basic-auth/user/p%C3%A4ss", auth=("user", "päss")))["authenticated"]


def test_a_string_is_a_bearer_token(http: HttpClient, httpbin: str) -> None:
    assert answered(http.get(f"{httpbin}/bearer", auth="abc.def"))["token"] == "abc.def"


def test_a_function_signs_the_request(http: HttpClient, httpbin: str) -> None:
    def sign(request: HttpRequest) -> None:
        request.headers["X-Signature"] = f"{request.method} {request.url.target} {request.body!r}"

    seen = answered(http.post(f"{httpbin}/anything", data=b"body", auth=sign))["headers"]
    assert seen["X-Signature"] == "POST /anything b'body'"


def test_what_the_function_raises_comes_out(http: HttpClient, httpbin: str) -> None:
    def sign(request: HttpRequest) -> None:
        raise LookupError("no key")

    with pytest.raises(LookupError, match="no key"):
        http.get(f"{httpbin}/get", auth=sign)


def test_credentials_in_the_url_are_basic_authentication_and_shown_nowhere(
    http: HttpClient, httpbin: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    url = httpbin.replace("://", "://user:p%40ss@") + "/basic-auth/user/p%40ss"
    response = http.get(url)
    assert answered(response)["authenticated"]
    assert response is not None
    assert "p%40ss@" not in response.url
    assert "p%40ss@" not in caplog.text
    assert "p@ss" not in caplog.text + repr(response) + repr(response.request) + repr(response.request.headers)


def test_netrc_is_not_read(http: HttpClient, httpbin: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login user password secret")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "Authorization" not in answered(http.get(f"{httpbin}/headers"))["headers"]


@pytest.mark.parametrize("path", ["gzip", "deflate"])
def test_content_encoding_is_undone(http: HttpClient, httpbin: str, path: str) -> None:
    assert answered(http.get(f"{httpbin}/{path}"))["method"] == "GET"


def test_an_answer_in_chunks_is_read_whole(http: HttpClient, httpbin: str) -> None:
    response = http.get(f"{httpbin}/stream/5")
    assert response is not None
    assert len(response.text.splitlines()) == 5


def test_a_binary_answer_comes_byte_by_byte(http: HttpClient, httpbin: str) -> None:
    response = http.get(f"{httpbin}/bytes/100000", params={"seed": 1})
    assert response is not None
    assert len(response.content) == 100_000

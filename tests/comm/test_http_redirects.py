"""Redirects: followed with the right method and body, and without taking credentials to another site."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from zcli_core.comm.http import HttpClient
from zcli_core.contracts.http import HttpRequest
from zcli_core.testing.http.peer import ScriptedServer, answering, response


def redirect(location: str, status: str = "302 Found", *headers: str) -> bytes:
    return response(b"", status, f"Location: {location}", *headers)


def test_a_chain_is_followed_and_kept_as_history(http: HttpClient, httpbin: str) -> None:
    found = http.get(f"{httpbin}/redirect/3")
    assert found is not None
    assert found.url == f"{httpbin}/get"
    assert [(r.status_code, r.url) for r in found.history] == [
        (302, f"{httpbin}/redirect/3"),
        (302, f"{httpbin}/relative-redirect/2"),
        (302, f"{httpbin}/relative-redirect/1"),
    ]


def test_a_redirect_is_the_answer_where_it_is_not_followed(
    http: HttpClient, make_http: Callable[..., HttpClient], httpbin: str
) -> None:
    for found in (
        http.get(f"{httpbin}/redirect/1", follow_redirects=False),
        make_http(max_redirects=0).get(f"{httpbin}/redirect/1"),
    ):
        assert found is not None
        assert found.status_code == 302


def test_a_redirect_without_location_is_the_answer(http: HttpClient, httpbin: str) -> None:
    found = http.get(f"{httpbin}/status/304")
    assert found is not None
    assert found.status_code == 304


def test_a_loop_ends_after_max_redirects(make_http: Callable[..., HttpClient]) -> None:
    http = make_http(max_redirects=3)
    with ScriptedServer(answering(redirect("/round?key=secret"))) as server:
        assert http.get(server.url) is None
        assert len(server.requests) == 4
    assert http.last_failure is not None
    assert http.last_failure.kind == "too_many_redirects"
    assert "secret" not in http.last_failure.message


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        ("301 Moved", "POST", "GET"),
        ("302 Found", "POST", "GET"),
        ("303 See Other", "POST", "GET"),
        ("303 See Other", "PUT", "GET"),
        ("303 See Other", "HEAD", "HEAD"),
        ("301 Moved", "PUT", "PUT"),
        ("302 Found", "HEAD", "HEAD"),
        ("307 Temporary", "POST", "POST"),
        ("308 Permanent", "PATCH", "PATCH"),
    ],
)
def test_the_method_and_the_body_change_together(http: HttpClient, status: str, method: str, then: str) -> None:
    with ScriptedServer(answering(redirect("/next", status), response(b"" if method == "HEAD" else b"ok"))) as server:
        body = None if method == "HEAD" else b"the body"
        assert http.request(method, f"{server.url}/first", data=body, headers={"Content-Type": "x/y"})
        first, second = server.requests
    assert first.startswith(f"{method} /first".encode())
    assert second.startswith(f"{then} /next".encode())
    assert second.endswith(b"the body") == (then == method and body is not None)
    assert (b"Content-Type" in second) == (then == method)


def test_a_file_is_sent_again_from_where_it_began(http: HttpClient) -> None:
    file = io.BytesIO(b"not this, but this")
    file.seek(10)
    with ScriptedServer(answering(redirect("/next", "307 Temporary"), response())) as server:
        assert http.post(server.url, data=file)
        assert all(request.endswith(b"\r\n\r\nbut this") for request in server.requests)
        assert len(server.requests) == 2


def test_a_body_that_can_be_read_once_is_not_sent_half(http: HttpClient) -> None:
    with ScriptedServer(answering(redirect("/next", "307 Temporary"), response())) as server:
        headers = {"Content-Length": "4"}
        assert http.post(server.url, data=iter([b"once"]), headers=headers) is None
        assert len(server.requests) == 1
    assert http.last_failure is not None
    assert http.last_failure.kind == "unrepeatable_body"


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/absolute", "/absolute"),
        ("relative", "/a/relative"),
        ("../up", "/up"),
        ("?only=query", "/a/b?only=query"),
        ("//127.0.0.1:{port}/network", "/network"),
        ("http://127.0.0.1:{port}/whole#fragment", "/whole"),
        ("/sp ace/ü", "/sp%20ace/%C3%BC"),
        ("/%zz/%41", "/%25zz/%41"),
    ],
)
def test_a_location_may_be_relative_and_unencoded(http: HttpClient, location: str, path: str) -> None:
    answers: list[bytes] = []

    def handle(server: ScriptedServer, connection: Any) -> None:
        answers[:] = [redirect(location.format(port=server.port)), response()]
        answers[0] = answers[0].decode("latin-1").encode("utf-8")
        while server.read_request(connection):
            connection.sendall(answers[len(server.requests) - 1])

    with ScriptedServer(handle) as server:
        found = http.get(f"{server.url}/a/b")
        assert found is not None, http.last_failure
        assert found.url == server.url + path
        assert server.requests[1].startswith(f"GET {path} ".encode())


@pytest.mark.parametrize("location", ["ftp://host/", "file:///etc/passwd", "http://", "http://[bad", "http://h:99999/"])
def test_a_location_that_cannot_be_followed_gives_none(http: HttpClient, location: str) -> None:
    with ScriptedServer(answering(redirect(location))) as server:
        assert http.get(server.url) is None
    assert http.last_failure is not None
    assert http.last_failure.kind == "invalid_url"
    assert "redirected" in http.last_failure.message


def test_credentials_stay_on_their_site(http: HttpClient) -> None:
    secrets = {
        "Authorization": "Bearer hidden",
        "Cookie": "session=hidden",
        "X-Api-Key": "hidden",
        "X-Company-Thing": "hidden",
        "Proxy-Authorization": "hidden",
        "Accept-Language": "de",
    }
    with ScriptedServer(answering(response())) as other, ScriptedServer(answering(redirect(other.url))) as server:
        assert http.get(server.url, headers=secrets)
        assert server.requests[0].count(b"hidden") == 5
        assert b"hidden" not in other.requests[0]
        assert b"Accept-Language: de" in other.requests[0]


def test_credentials_go_along_on_the_same_site(http: HttpClient, httpbin: str) -> None:
    found = http.get(f"{httpbin}/redirect-to?url=/headers", auth="token", headers={"X-Api-Key": "mine"})
    assert found is not None
    assert found.json()["headers"]["Authorization"] == "Bearer token"
    assert found.json()["headers"]["X-Api-Key"] == "mine"


def test_a_function_is_not_asked_to_sign_for_another_site_not_even_on_the_way_back(http: HttpClient) -> None:
    signed: list[str] = []

    def sign(request: HttpRequest) -> None:
        signed.append(str(request.url))
        request.headers["Authorization"] = "signature"

    back: list[bytes] = []

    def other_handle(server: ScriptedServer, connection: Any) -> None:
        while server.read_request(connection):
            connection.sendall(back[0])

    with (
        ScriptedServer(other_handle) as other,
        ScriptedServer(answering(redirect("/second"), redirect(other.url), response())) as server,
    ):
        back.append(redirect(f"{server.url}/back"))
        assert http.get(f"{server.url}/first", auth=sign)
        assert signed == [f"{server.url}/first", f"{server.url}/second"]
        assert b"Authorization" not in other.requests[0]
        assert b"Authorization" not in server.requests[2]


def test_credentials_in_a_location_are_not_used(http: HttpClient) -> None:
    def handle(server: ScriptedServer, connection: Any) -> None:
        while server.read_request(connection):
            again = redirect(f"http://user:planted@127.0.0.1:{server.port}/next")
            connection.sendall(again if len(server.requests) == 1 else response())

    with ScriptedServer(handle) as server:
        found = http.get(server.url)
        assert found is not None
        assert found.url == f"{server.url}/next"
        assert b"Authorization" not in server.requests[1]


def test_https_is_not_left_for_http(make_http: Callable[..., HttpClient], httpbin_https: Any, httpbin: str) -> None:
    http = make_http(ca_file=httpbin_https.ca_file)
    assert http.get(f"{httpbin_https.url}/redirect-to", {"url": f"{httpbin}/get?key=secret"}) is None
    assert http.last_failure is not None
    assert http.last_failure.kind == "insecure_redirect"
    assert "secret" not in http.last_failure.message


def test_http_may_move_to_https(make_http: Callable[..., HttpClient], httpbin_https: Any, httpbin: str) -> None:
    http = make_http(ca_file=httpbin_https.ca_file)
    found = http.get(f"{httpbin}/redirect-to", {"url": f"{httpbin_https.url}/get"})
    assert found is not None
    assert found.url == f"{httpbin_https.url}/get"


def test_cookies_are_sent_on_within_a_call_and_forgotten_after_it(http: HttpClient, httpbin: str) -> None:
    found = http.get(f"{httpbin}/cookies/set?first=1&second=2", headers={"Cookie": "own=0; first=old"})
    assert found is not None
    assert found.json()["cookies"] == {"own": "0", "first": "1", "second": "2"}
    again = http.get(f"{httpbin}/cookies")
    assert again is not None
    assert again.json()["cookies"] == {}


def test_a_cookie_that_a_later_redirect_deletes_is_not_sent(http: HttpClient) -> None:
    answers = (
        redirect("/second", "302 Found", "Set-Cookie: a=1; Path=/", "Set-Cookie: b=2; Path=/second"),
        redirect("/third", "302 Found", "Set-Cookie: a=; Max-Age=0; Path=/"),
        response(),
    )
    with ScriptedServer(answering(*answers)) as server:
        assert http.get(f"{server.url}/first")
        assert b"Cookie: b=2; a=1" in server.requests[1]
        assert b"Cookie" not in server.requests[2]


def test_cookies_of_one_site_do_not_go_to_another_host(http: HttpClient, httpbin: str) -> None:
    elsewhere = httpbin.replace("127.0.0.1", "localhost")
    answers = (redirect(f"{elsewhere}/cookies", "302 Found", "Set-Cookie: session=hidden"),)
    with ScriptedServer(answering(*answers)) as server:
        found = http.get(server.url)
    assert found is not None, http.last_failure
    assert found.json()["cookies"] == {}

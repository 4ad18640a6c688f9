"""Redirects: followed with the right method and body, and without taking credentials to another site."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from http_clients import URL, client_over, failure_of, redirect

from zCLI import zCLI
from zcli_core.errors import ConfigError
from zcli_core.http.client import HttpClient
from zcli_core.http.contract import HttpRequest
from zcli_core.testing import MockTransport, make_response


@pytest.mark.parametrize(("settings", "arguments"), [({}, {"follow_redirects": False}), ({"max_redirects": 0}, {})])
def test_redirect_not_followed_is_the_response(settings: dict[str, Any], arguments: dict[str, Any]) -> None:
    """By argument, and by configuration."""
    found = client_over([redirect("/next")], **settings).get(URL, **arguments)
    assert found is not None
    assert (found.status_code, found.history) == (302, ())


@pytest.mark.parametrize("status", [300, 302, 304])
def test_redirect_without_location_is_the_response(status: int) -> None:
    """There is nowhere to go."""
    found = client_over([make_response(status)]).get(URL)
    assert found is not None
    assert found.status_code == status


def test_redirects_are_followed_and_kept_as_history() -> None:
    """The oldest first; the URL is that of the last response."""
    found = client_over([redirect("/one"), redirect("two", 301), make_response()]).get(f"{URL}a/b")
    assert found is not None
    assert found.url == f"{URL}two"
    assert [(r.status_code, r.url) for r in found.history] == [(302, f"{URL}a/b"), (301, f"{URL}one")]


def test_redirect_loop_ends_after_max_redirects() -> None:
    """With a failure that shows no query value."""
    mock = MockTransport(redirect("/round?key=secret"))
    http = client_over(mock, max_redirects=3)
    assert http.get(URL) is None
    assert len(mock.requests) == 4
    assert failure_of(http).kind == "too_many_redirects"
    assert "secret" not in failure_of(http).message


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (303, "POST", "GET"),
        (303, "PUT", "GET"),
        (303, "HEAD", "HEAD"),
        (301, "PUT", "PUT"),
        (302, "HEAD", "HEAD"),
        (307, "POST", "POST"),
        (308, "PATCH", "PATCH"),
    ],
)
def test_redirect_changes_method_and_body_together(status: int, method: str, then: str) -> None:
    """RFC 9110, section 15.4: with the body go the headers about it."""
    mock = MockTransport([redirect("/next", status), make_response()])
    body = None if method == "HEAD" else b"the body"
    assert client_over(mock).request(method, f"{URL}first", data=body, headers={"Content-Type": "x/y"})
    first, second = mock.requests
    assert (first.method, first.url.target, first.body) == (method, "/first", body or b"")
    assert (second.method, second.url.target) == (then, "/next")
    assert second.body == (first.body if then == method else b"")
    assert ("content-type" in second.headers) == (then == method)


def test_redirect_sends_a_file_again_from_its_position() -> None:
    """Where it was when the call began."""
    file = io.BytesIO(b"not this, but this")
    file.seek(10)
    mock = MockTransport([redirect("/next", 307), make_response()])
    assert client_over(mock).post(URL, data=file)
    assert [request.body for request in mock.requests] == [b"but this"] * 2


def test_redirect_of_an_unrepeatable_body_fails() -> None:
    """An iterator that was read is not sent half or empty."""
    mock = MockTransport([redirect("/next", 307)])
    http = client_over(mock)
    assert http.post(URL, data=iter([b"once"]), headers={"Content-Length": "4"}) is None
    assert len(mock.requests) == 1
    assert failure_of(http).kind == "unrepeatable_body"


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/absolute", "http://host.example/absolute"),
        ("relative", "http://host.example/a/relative"),
        ("../up", "http://host.example/up"),
        ("?only=query", "http://host.example/a/b?only=query"),
        ("//other.example:81/network", "http://other.example:81/network"),
        ("http://host.example/whole#fragment", "http://host.example/whole"),
        ("/sp ace/ü".encode().decode("latin-1"), "http://host.example/sp%20ace/%C3%BC"),
        ("/%zz/%41", "http://host.example/%25zz/%41"),
    ],
)
def test_redirect_location_may_be_relative_or_unencoded(location: str, url: str) -> None:
    """RFC 3986, section 5.2; bytes beyond ASCII are UTF-8, which a header carries as Latin-1."""
    mock = MockTransport([redirect(location), make_response()])
    found = client_over(mock).get(f"{URL}a/b")
    assert found is not None
    assert found.url == url
    assert str(mock.requests[1].url) == url


@pytest.mark.parametrize("location", ["ftp://host/", "file:///etc/passwd", "http://", "http://[bad", "http://h:99999/"])
def test_redirect_to_an_invalid_url_fails(location: str) -> None:
    """The message says that a redirect led there."""
    http = client_over([redirect(location)])
    assert http.get(URL) is None
    assert failure_of(http).kind == "invalid_url"
    assert "redirected" in failure_of(http).message


# --- credentials ---


SECRETS = {
    "Authorization": "Bearer hidden",
    "Cookie": "session=hidden",
    "X-Api-Key": "hidden",
    "X-Company-Thing": "hidden",
    "Proxy-Authorization": "hidden",
}


@pytest.mark.parametrize("other", ["http://other.example/", "http://host.example:81/", "http://sub.host.example/"])
def test_redirect_to_another_site_drops_credentials(other: str) -> None:
    """Whatever header they are in; headers that cannot be credentials go along."""
    mock = MockTransport([redirect(other), make_response()])
    assert client_over(mock).get(URL, headers={**SECRETS, "Accept-Language": "de"})
    first, second = mock.requests
    assert [first.headers[name] for name in SECRETS] == list(SECRETS.values())
    assert [name for name in SECRETS if name in second.headers] == []
    assert second.headers["Accept-Language"] == "de"


def test_redirect_on_the_same_site_keeps_credentials() -> None:
    """The same scheme, host and port."""
    mock = MockTransport([redirect("/headers"), make_response()])
    assert client_over(mock).get(URL, auth="token", headers={"X-Api-Key": "mine"})
    assert mock.requests[1].headers["Authorization"] == "Bearer token"
    assert mock.requests[1].headers["X-Api-Key"] == "mine"


def test_redirect_to_another_site_is_never_signed_again() -> None:
    """Neither there, nor on the way back: the other site decides where that leads."""
    signed: list[str] = []

    def sign(request: HttpRequest) -> None:
        signed.append(str(request.url))
        request.headers["Authorization"] = "signature"

    mock = MockTransport(
        [redirect("/second"), redirect("http://other.example/"), redirect(f"{URL}back"), make_response()]
    )
    assert client_over(mock).get(f"{URL}first", auth=sign)
    assert signed == [f"{URL}first", f"{URL}second"]
    assert ["authorization" in request.headers for request in mock.requests] == [True, True, False, False]


def test_redirect_credentials_in_location_are_not_used() -> None:
    """The server could plant them."""
    mock = MockTransport([redirect("http://user:planted@host.example/next"), make_response()])
    found = client_over(mock).get(URL)
    assert found is not None
    assert found.url == f"{URL}next"
    assert "authorization" not in mock.requests[1].headers


# --- the client certificate ---


def shown_in(steps: list[str], **settings: Any) -> list[bool]:
    """Whether each request of a chain of redirects through these URLs may show the client certificate."""
    mock = MockTransport([*map(redirect, steps[1:]), make_response()])
    assert client_over(mock, client_cert=Path("me.pem"), **settings).get(steps[0])
    return [request.shows_certificate for request in mock.requests]


A, A_TOO, A_PORT, B = "https://a.example/", "https://a.example/two", "https://a.example:8443/", "https://b.example/"


@pytest.mark.parametrize(
    ("hosts", "steps", "shown"),
    [
        (None, [A, A_TOO], [True, True]),
        (None, [A, B, A], [True, False, False]),
        (None, [A, A_PORT], [True, False]),
        (None, ["http://a.example/", A, A_TOO], [True, True, True]),
        (("a.example", "b.example"), [A, B, A_PORT], [True, True, True]),
        (("a.example:8443",), [A, A_PORT], [False, False]),
        (("BÜCHER.example:443",), ["https://bücher.example/", "https://xn--bcher-kva.example/"], [True, True]),
        (("b.example",), [A, B], [False, False]),
        ((), [A], [False]),
    ],
)
def test_redirect_takes_the_certificate_to_its_hosts_only(
    hosts: tuple[str, ...] | None, steps: list[str], shown: list[bool]
) -> None:
    """The first site, or the listed ones; a site that may not see it ends it for the rest of the call."""
    assert shown_in(steps, client_cert_hosts=hosts) == shown


def test_certificate_hosts_that_are_not_hosts_are_refused() -> None:
    """A pattern or a URL would match no host, silently."""
    with pytest.raises(ConfigError, match=r"http\.client_cert_hosts.*api\.example"):
        zCLI({"deployment": "Testing", "http": {"client_cert_hosts": ["https://a.example/"]}})


# --- https ---


def test_redirect_from_https_to_http_fails() -> None:
    """The request would not be encrypted; the message shows no query value."""
    mock = MockTransport([redirect(f"{URL}?key=secret")])
    http = client_over(mock)
    assert http.get("https://host.example/") is None
    assert len(mock.requests) == 1
    assert failure_of(http).kind == "insecure_redirect"
    assert "secret" not in failure_of(http).message


def test_redirect_from_http_to_https_is_followed() -> None:
    """On the usual ports it is the same site, and credentials go along."""
    mock = MockTransport([redirect("https://host.example/"), make_response()])
    found = client_over(mock).get(URL, auth="token")
    assert found is not None
    assert found.url == "https://host.example/"
    assert mock.requests[1].headers["Authorization"] == "Bearer token"


# --- cookies ---


def test_cookies_last_for_one_call() -> None:
    """They are added to the script's own and replace one of the same name."""
    mock = MockTransport(
        [redirect("/second", 302, ("Set-Cookie", "first=1; Path=/"), ("Set-Cookie", "second=2; Path=/"))]
        + [make_response()] * 2
    )
    http = client_over(mock)
    assert http.get(URL, headers={"Cookie": "own=0; first=old"})
    assert sorted(mock.requests[1].headers["Cookie"].split("; ")) == ["first=1", "own=0", "second=2"]
    assert http.get(URL)
    assert "cookie" not in mock.requests[2].headers


def test_cookie_headers_of_the_caller_become_one() -> None:
    """Separated as cookies are (RFC 6265, section 5.4), not as lists."""
    mock = MockTransport([redirect("/second", 302, ("Set-Cookie", "a=1; Path=/")), make_response()])
    assert client_over(mock).get(URL, headers=[("Cookie", "b=2"), ("Cookie", "c=3")])
    assert mock.requests[1].headers["Cookie"] == "b=2; c=3; a=1"


def test_cookie_deleted_by_a_later_redirect_is_not_sent() -> None:
    """And a cookie with a path is sent only below it."""
    mock = MockTransport(
        [
            redirect("/second", 302, ("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2; Path=/second")),
            redirect("/third", 302, ("Set-Cookie", "a=; Max-Age=0; Path=/")),
            make_response(),
        ]
    )
    assert client_over(mock).get(f"{URL}first")
    assert mock.requests[1].headers["Cookie"] == "b=2; a=1"
    assert "cookie" not in mock.requests[2].headers


def test_cookie_does_not_go_to_another_host() -> None:
    """Neither one that the redirect sets nor the script's own (RFC 6265, section 5.4)."""
    mock = MockTransport([redirect("http://other.example/", 302, ("Set-Cookie", "session=hidden")), make_response()])
    assert client_over(mock).get(URL, headers={"Cookie": "own=hidden"})
    assert "cookie" not in mock.requests[1].headers


@pytest.mark.parametrize(
    ("domain", "sent"),
    [
        ("github.io", "evil.github.io"),
        (".github.io", "evil.github.io"),
        ("evil.github.io", "evil.github.io"),
        ("victim.github.io", None),
        ("", "evil.github.io"),
    ],
)
def test_cookie_with_a_domain_is_for_its_host_only(domain: str, sent: str | None) -> None:
    """A site must not set cookies for its neighbours below a public suffix; it may name itself."""
    cookie = ("Set-Cookie", f"session=planted; Path=/; domain={domain}")
    steps = [redirect(f"http://{host}/", 302, cookie) for host in ("victim.github.io", "evil.github.io", "a.github.io")]
    mock = MockTransport([*steps, make_response()])
    assert client_over(mock).get("http://evil.github.io/")
    assert [request.url.host for request in mock.requests if "cookie" in request.headers] == [sent] * (sent is not None)


# --- round trips ---


def test_httpbin_redirects_and_cookies(http: HttpClient, httpbin: str) -> None:
    """A real server's Location and Set-Cookie headers over a real transport."""
    found = http.get(f"{httpbin}/redirect/3")
    assert found is not None
    assert (found.url, len(found.history)) == (f"{httpbin}/get", 3)
    found = http.get(f"{httpbin}/cookies/set?first=1&second=2", headers={"Cookie": "own=0"})
    assert found is not None
    assert found.json()["cookies"] == {"own": "0", "first": "1", "second": "2"}

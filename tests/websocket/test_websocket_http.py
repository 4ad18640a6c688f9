"""Plain HTTP on the WebSocket port: ``/health``, and a page for browsers."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Callable
from typing import Any

import pytest
from websocket_serving import DEADLINE, Certificates, Served, eventually

Serve = Callable[..., Served]


def _ask(served: Served, method: str, path: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=DEADLINE)
    connection.request(method, path, headers=headers)
    return connection.getresponse()


def test_health_is_200_without_a_count(serve: Serve) -> None:
    """``full`` if no other client is accepted; the number of clients is not shown, because no strategy is called."""
    served = serve(max_connections=2, require_auth=True, token="x")
    with contextlib.ExitStack() as stack:
        for count, status in ((0, "ok"), (1, "ok"), (2, "full")):
            eventually(lambda count=count: served.websocket.client_count == count)
            answer = _ask(served, "GET", "/health?from=probe")
            assert (answer.status, answer.headers["Content-Type"]) == (200, "application/json")
            assert json.loads(answer.read()) == {"status": status}
            if count < 2:
                stack.enter_context(served.client("/?token=x"))
    assert _ask(served, "HEAD", "/health").read() == b""


def test_other_path_is_426_with_an_explanation(serve: Serve) -> None:
    """As text for programs, as a page for browsers."""
    served = serve()
    answer = _ask(served, "GET", "/")
    assert (answer.status, answer.headers["Upgrade"]) == (426, "websocket")
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert b"ws://" in answer.read()
    page = _ask(served, "GET", "/nowhere", Accept="text/html,application/xhtml+xml")
    assert (page.status, page.headers["Content-Type"]) == (426, "text/html; charset=utf-8")
    assert b"<h1>" in page.read()
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


def test_page_over_https_mentions_the_certificate(serve: Serve, certificates: Certificates) -> None:
    """Users open it to accept the certificate."""
    certificate, key = certificates.issue("a")
    served = serve(ssl_enabled=True, ssl_cert=str(certificate), ssl_key=str(key))
    connection = http.client.HTTPSConnection(
        "localhost", served.port, timeout=DEADLINE, context=certificates.trusting()
    )
    connection.request("GET", "/", headers={"Accept": "text/html"})
    text = connection.getresponse().read().decode()
    connection.close()
    assert "your browser accepts its certificate now" in text
    assert 'new WebSocket("wss://"' in text


def test_options_lists_the_methods(serve: Serve) -> None:
    """Load balancers and browsers send OPTIONS (RFC 9110, 9.3.7)."""
    answer = _ask(serve(), "OPTIONS", "/health")
    assert (answer.status, answer.headers["Allow"], answer.read()) == (204, "GET, HEAD, OPTIONS", b"")
    assert answer.headers["Access-Control-Allow-Origin"] is None


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
@pytest.mark.parametrize(
    ("settings", "origin", "allowed"),
    [
        ({"allowed_origins": ["https://chat.example"]}, "https://chat.example", True),
        ({"allowed_origins": ["https://chat.example"]}, "https://evil.example", False),
        ({"require_auth": True, "token": "x"}, "http://localhost:3000", True),
        ({"require_auth": True, "token": "x"}, "https://evil.example", False),
    ],
)
def test_health_is_readable_for_allowed_pages(
    serve: Serve, method: str, settings: dict[str, Any], origin: str, allowed: bool
) -> None:
    """And not for other pages (CORS)."""
    preflight = {"Access-Control-Request-Method": "GET"} if method == "OPTIONS" else {}
    answer = _ask(serve(**settings), method, "/health", Origin=origin, **preflight)
    assert answer.headers["Access-Control-Allow-Origin"] == (origin if allowed else None)
    assert answer.headers["Vary"] == ("Origin" if allowed else None)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_other_methods_are_405(serve: Serve, method: str) -> None:
    """The port is read-only."""
    answer = _ask(serve(), method, "/health")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")

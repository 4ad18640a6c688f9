"""Plain HTTP on the WebSocket port: ``/health``, ``/ready``, and a page for browsers."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from websocket_serving import DEADLINE, Certificates, Served, eventually

from zcli_core.app import zCLI
from zcli_core.errors import ListenError
from zcli_core.net.headers import Headers
from zcli_core.websocket.contract import Acceptor, Endpoint, Limits, Request

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


def _readiness(served: Served) -> tuple[int, Any]:
    answer = _ask(served, "GET", "/ready?from=probe")
    assert (answer.headers["Content-Type"], answer.headers["Cache-Control"]) == ("application/json", "no-store")
    return answer.status, json.loads(answer.read())


def test_ready_full_server_is_503(serve: Serve) -> None:
    """It is ready again as soon as a client has left. ``/health`` stays 200, because a full server works."""
    served = serve(max_connections=1, require_auth=True, token="x")
    assert _readiness(served) == (200, {"ready": True})
    with served.client("/?token=x"):
        eventually(lambda: served.websocket.client_count == 1)
        assert _readiness(served) == (503, {"ready": False, "because": ["full"]})
        assert _ask(served, "HEAD", "/ready").status == 503
        assert _ask(served, "GET", "/health").status == 200
    eventually(lambda: _readiness(served) == (200, {"ready": True}), "it is ready again")


READY = Request("GET", "/ready", "", Headers(), None, None, tls=False)


def test_ready_draining_server_is_503(serve: Serve) -> None:
    """A server of another process may still pass requests on while the handlers finish."""
    working, finish = threading.Event(), threading.Event()

    def handler(websocket: Any, message: str) -> None:
        working.set()
        finish.wait(DEADLINE)

    served = serve(handler=handler)
    with served.client() as client:
        client.send("work")
        assert working.wait(DEADLINE)
        core = served.handle._run.server
        assert core is not None
        assert core.gate.http(READY).status == 200
        served.websocket.stop(wait=False)
        answer = eventually(lambda: (answer := core.gate.http(READY)).status == 503 and answer, "it is draining")
        assert json.loads(answer.body) == {"ready": False, "because": ["draining"]}
        finish.set()


def test_ready_starting_server_is_503(make_z: Callable[..., zCLI]) -> None:
    """A transport may accept requests before it has started completely."""
    answers = []

    class Early:
        async def listen(self, endpoint: Endpoint, acceptor: Acceptor, limits: Limits) -> Any:
            answers.append(acceptor.http(READY))
            raise OSError("no port")

    websocket = make_z().comm.websocket
    vars(websocket)["_plugins"] = (Early(), ())
    with pytest.raises(ListenError):
        websocket.start_background(port=0)
    assert json.loads(answers[0].body) == {"ready": False, "because": ["starting"]}


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


@pytest.mark.parametrize("path", ["/health", "/ready"])
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
def test_state_is_readable_for_allowed_pages(
    serve: Serve, method: str, path: str, settings: dict[str, Any], origin: str, allowed: bool
) -> None:
    """And not for other pages (CORS)."""
    preflight = {"Access-Control-Request-Method": "GET"} if method == "OPTIONS" else {}
    answer = _ask(serve(**settings), method, path, Origin=origin, **preflight)
    assert answer.headers["Access-Control-Allow-Origin"] == (origin if allowed else None)
    assert answer.headers["Vary"] == ("Origin" if allowed else None)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_other_methods_are_405(serve: Serve, method: str) -> None:
    """The port is read-only."""
    answer = _ask(serve(), method, "/health")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")

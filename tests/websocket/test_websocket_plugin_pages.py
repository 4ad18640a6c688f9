"""Plugins respond to plain HTTP on the WebSocket port: the hook ``zcli_websocket_http``."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import Callable
from typing import Any

import pytest
from asgi_serving import InMemoryServer
from installations import Site
from websocket_serving import DEADLINE, Served, eventually

from zcli_core.app import zCLI

Serve = Callable[..., Served]
MakeZ = Callable[..., zCLI]

TOKEN = "a-token-of-the-tests"
SIZE = 300_000
PAGES = """
from zcli_core.websocket.contract import PlainResponse

asked = []

@hookimpl
def zcli_websocket_http(request, admits, server, context):
    asked.append((request.method, request.path, request.tls, context.config.title))
    if request.path == "/clients":
        return PlainResponse(200, str(server.client_count).encode())
    if request.path == "/app.js":
        return PlainResponse(200, b"x" * 300_000, (("Content-Type", "text/javascript"), ("ETag", '"1"')))
    if request.path == "/admits":
        return PlainResponse(200, str(admits()).encode())
"""

on_both_transports = pytest.mark.parametrize("transport", ["wsproto", "uvicorn"])


@pytest.fixture
def asked(site: Site) -> Callable[[Served], list[Any]]:
    """Installs a plugin with two pages; returns a function that returns what the plugin of a server was asked."""
    site.plugin("pages", PAGES)
    return lambda served: served.z.plugins.records["pages"].plugin.asked


def get(served: Served, path: str, method: str = "GET", **headers: str) -> tuple[Any, bytes]:
    """Return the response to a plain request, and its body."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=DEADLINE)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def admitted(served: Served, query: str = "", **headers: str) -> bool:
    """Return what ``admits()`` says of a client."""
    return get(served, f"/admits{query}", **headers)[1] == b"True"


@on_both_transports
def test_plugin_page_arrives_whole(serve: Serve, asked: Callable[[Served], list[Any]], transport: str) -> None:
    """With its headers; zCLI adds those that keep a page from misusing it."""
    served = serve(transport=transport)
    response, body = get(served, "/app.js?v=1")
    assert (response.status, len(body)) == (200, SIZE)
    assert (response.headers["Content-Type"], response.headers["ETag"]) == ("text/javascript", '"1"')
    assert (response.headers["X-Content-Type-Options"], response.headers["Vary"]) == ("nosniff", "Origin")
    assert asked(served) == [("GET", "/app.js", False, served.z.config.title)]


@pytest.mark.usefixtures("asked")
def test_plugin_page_gets_the_server_of_its_object(serve: Serve) -> None:
    """With two servers in a process, each page sees the clients of its own one."""
    first, second = serve(), serve()
    with first.client():
        eventually(lambda: get(first, "/clients")[1] == b"1", "the client")
        assert get(second, "/clients")[1] == b"0"


@on_both_transports
def test_plugin_page_head_has_its_length(serve: Serve, asked: Callable[[Served], list[Any]], transport: str) -> None:
    """HEAD has the headers of GET and no body."""
    response, body = get(serve(transport=transport), "/app.js", "HEAD")
    assert (response.status, response.headers["Content-Length"], body) == (200, str(SIZE), b"")


@pytest.mark.usefixtures("asked")
def test_plugin_page_is_served_by_an_asgi_app(make_z: MakeZ) -> None:
    """``asgi()`` has the same pages, whole."""

    async def main() -> tuple[dict[str, Any], dict[str, Any]]:
        app = make_z().comm.websocket.asgi()
        server = InMemoryServer(app, "/app.js", type="http", method="GET", scheme="http")
        found = await server.next(), await server.next()
        await server.ended()
        return found

    start, body = asyncio.run(main())
    assert (start["status"], dict(start["headers"])[b"content-length"]) == (200, str(SIZE).encode())
    assert len(body["body"]) == SIZE


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/health", 200), ("GET", "/ready", 200), ("OPTIONS", "/app.js", 204), ("POST", "/app.js", 405)],
)
def test_plugins_are_not_asked_for(
    serve: Serve, asked: Callable[[Served], list[Any]], method: str, path: str, status: int
) -> None:
    """The state of the server, preflight requests, and methods that have a body."""
    served = serve()
    assert get(served, path, method)[0].status == status
    assert asked(served) == []


def test_path_that_no_plugin_answers_is_426(serve: Serve, asked: Callable[[Served], list[Any]]) -> None:
    """As without plugins."""
    served = serve()
    assert get(served, "/other")[0].status == 426
    assert asked(served)[0][1] == "/other"


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize(
    ("origin", "allowed"), [("https://chat.example", True), ("https://evil.example", False), (None, False)]
)
def test_plugin_page_is_readable_for_allowed_pages(serve: Serve, origin: str | None, allowed: bool) -> None:
    """``Vary`` is always there, because a cache gives the response to pages too."""
    served = serve(allowed_origins=["https://chat.example"])
    response, _ = get(served, "/app.js", **({"Origin": origin} if origin else {}))
    assert response.headers["Access-Control-Allow-Origin"] == (origin if allowed else None)
    assert response.headers.get_all("Vary") == ["Origin"]


@pytest.mark.parametrize(
    ("mistake", "logged"),
    [
        ("raise SystemExit('not today')", "SystemExit: not today"),
        ("return 'a page'", "expected a PlainResponse or None, got str"),
        ("return PlainResponse(700)", "the status must be an integer from 200 to 599, got 700"),
        ("return PlainResponse(200, 'text')", "the body must be bytes, got str"),
        ("return PlainResponse(200, b'', (('X', 'a\\nb'),))", "the value of header X contains the control character"),
        ("return PlainResponse(200, b'', (('Content-Length', '5'),))", "zCLI sets the header Content-Length itself"),
    ],
)
def test_plugin_that_fails_is_logged_and_the_next_asked(
    serve: Serve, site: Site, asked: Callable[[Served], list[Any]], mistake: str, logged: str
) -> None:
    """The log names the plugin; the client gets the page of the next one."""
    site.plugin(
        "aaa_fails",
        f"""
        from zcli_core.websocket.contract import PlainResponse
        @hookimpl(tryfirst=True)
        def zcli_websocket_http(): {mistake}
        """,
    )
    served = serve()
    assert get(served, "/app.js")[0].status == 200
    log = served.logged(logged)
    assert "the hook zcli_websocket_http of the plugin aaa_fails failed; the next plugin is asked" in log
    assert len(asked(served)) == 1


def test_first_answer_wins(serve: Serve, site: Site, asked: Callable[[Served], list[Any]]) -> None:
    """The plugins after it are not asked."""
    site.plugin(
        "aaa_first",
        """
        from zcli_core.websocket.contract import PlainResponse
        @hookimpl(tryfirst=True)
        def zcli_websocket_http(request): return PlainResponse(404)
        """,
    )
    served = serve()
    assert get(served, "/app.js")[0].status == 404
    assert asked(served) == []


# admits() ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("asked")
def test_admits_follows_the_credential(serve: Serve) -> None:
    """In the query or a header, as for an upgrade; without ``require_auth`` none is needed."""
    served = serve(require_auth=True, token=TOKEN)
    assert admitted(served, f"?token={TOKEN}")
    assert admitted(served, Authorization=f"Bearer {TOKEN}")
    assert not admitted(served, "?token=wrong")
    assert not admitted(served)
    assert admitted(serve())


@pytest.mark.usefixtures("asked")
def test_admits_follows_the_origin(serve: Serve) -> None:
    """A page of another origin is not admitted, whatever its credential."""
    served = serve(require_auth=True, token=TOKEN, allowed_origins=["https://chat.example"])
    assert admitted(served, f"?token={TOKEN}", Origin="https://chat.example")
    assert not admitted(served, f"?token={TOKEN}", Origin="https://evil.example")


@pytest.mark.usefixtures("asked")
def test_admits_counts_wrong_credentials(serve: Serve) -> None:
    """Otherwise a page would be the way to guess tokens past the throttle."""
    served = serve(require_auth=True, token="short", max_auth_failures=3)
    for _ in range(3):
        assert not admitted(served, "?token=wrong")
    assert not admitted(served, "?token=short")
    assert served.refusal("/?token=short")[1].startswith("too many failed attempts")


@pytest.mark.usefixtures("asked")
def test_admits_follows_the_limits(serve: Serve) -> None:
    """A full server admits no client."""
    served = serve(max_connections=1)
    with served.client():
        eventually(lambda: served.websocket.client_count == 1)
        assert not admitted(served)
    eventually(lambda: admitted(served), "it has a place again")


def test_admits_is_false_for_a_strategy_that_waits(
    serve: Serve, site: Site, asked: Callable[[Served], list[Any]]
) -> None:
    """The hook must not block, so what only such a strategy knows is not known."""
    site.plugin(
        "slow_auth",
        """
        from zcli_core.auth.contract import Identified
        class Slow:
            async def authenticate(self, request): return Identified("guest")
        @hookimpl
        def zcli_auth_strategies(): return [Provider("slow", "of a test", lambda context: Slow())]
        """,
    )
    served = serve(require_auth=True, auth=["slow"])
    assert not admitted(served)
    served = serve(require_auth=True, auth=["slow", "token"], token=TOKEN)
    assert admitted(served, f"?token={TOKEN}")

"""Responses to plain HTTP on the WebSocket port: ``/health``, ``/ready``, a page for browsers, and refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from string import Template

from zcli_core.websocket.contract import PlainResponse, Request

_NO_SNIFFING = ("X-Content-Type-Options", "nosniff")
_VARY = ("Vary", "Origin")
_COMMON = (
    ("Cache-Control", "no-store"),
    _NO_SNIFFING,
    ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"),
)
_TEXT = ("Content-Type", "text/plain; charset=utf-8")
_READ = ("GET", "HEAD")
_ALLOWED = "GET, HEAD, OPTIONS"

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>WebSocket server</title><style>
:root { color-scheme: light dark }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; font: 16px/1.6 system-ui, sans-serif;
  background: light-dark(#f4f2ee, #16181d); color: light-dark(#22252b, #e6e4df) }
main { max-width: 30rem; margin: 1.5rem; padding: 2rem 2.25rem; border-radius: 14px;
  background: light-dark(#fff, #1f2229); box-shadow: 0 1px 2px #0002, 0 12px 40px #0001 }
h1 { margin: 0 0 .75rem; font-size: 1.35rem } p { margin: .5rem 0 }
i { display: inline-block; width: .6rem; height: .6rem; margin-right: .6rem; border-radius: 50%; background: #2a9d6e }
code { font-family: ui-monospace, monospace }
</style></head><body><main><h1><i></i>A WebSocket server is listening here</h1>
<p>There is no page here: connect with <code>new WebSocket("$scheme://" + address)</code>.</p>
$trusted</main></body></html>
"""
_TRUSTED = """<p>You reached it over an encrypted connection, so your browser accepts its certificate now.
Close this tab and go back to your page.</p>
"""


#: Asks the plugins for a response to a request (the hook ``zcli_websocket_http``).
Ask = Callable[[Request], PlainResponse | None]


def respond(
    request: Request, full: bool, readiness: Callable[[], list[str]], page: str | None, ask: Ask | None = None
) -> PlainResponse:
    """Return the response to a request that does not ask for a WebSocket.

    ``/health`` gives 200 and ``{"status": "ok"}``, or ``"full"``. ``/ready`` gives 200 and ``{"ready": true}``, or 503
    with the reasons in ``because``. Neither shows how many clients are connected, because every client can request it.
    Every other path gives what a plugin responds, or 426 (RFC 9110, 15.5.22).

    Args:
        request: The request.
        full: Whether the server accepts no further client.
        readiness: Returns why the server is not ready; an empty list if it is.
        page: The Origin of a page that may connect and may therefore read the response; None for any other.
        ask: Asks the plugins; None if no plugin responds to requests.
    """
    response = _respond(request, full, readiness, ask)
    if page is None:
        return response
    headers = (*response.headers, ("Access-Control-Allow-Origin", page))
    return replace(response, headers=headers if _VARY in headers else (*headers, _VARY))


def _respond(request: Request, full: bool, readiness: Callable[[], list[str]], ask: Ask | None) -> PlainResponse:
    if request.method == "OPTIONS":
        # Also the response to a preflight request (Fetch Standard, 4.8); respond() adds the page that may continue.
        methods = ("Access-Control-Allow-Methods", "GET, HEAD")
        return PlainResponse(204, b"", (("Allow", _ALLOWED), methods, *_COMMON))
    if request.method not in _READ:
        return PlainResponse(405, b"This is a WebSocket server.\n", (("Allow", _ALLOWED), _TEXT, *_COMMON))
    if request.path == "/health":
        return _json(200, {"status": "full" if full else "ok"})
    if request.path == "/ready":
        reasons = readiness()
        return _json(503, {"ready": False, "because": reasons}) if reasons else _json(200, {"ready": True})
    found = None if ask is None else ask(request)
    if found is not None:
        # A cache must not give a response to a page that was stored without the header for pages.
        return replace(found, headers=(*found.headers, _NO_SNIFFING, _VARY))
    scheme = "wss" if request.tls else "ws"
    upgrade = ("Upgrade", "websocket")
    if "text/html" in request.headers.get("accept", ""):
        page = Template(_PAGE).substitute(scheme=scheme, trusted=_TRUSTED if request.tls else "")
        return PlainResponse(426, page.encode(), (upgrade, ("Content-Type", "text/html; charset=utf-8"), *_COMMON))
    text = f"This is a WebSocket server: connect with {scheme}://. Its state is at /health and /ready.\n"
    return PlainResponse(426, text.encode(), (upgrade, _TEXT, *_COMMON))


def _json(status: int, content: dict[str, object]) -> PlainResponse:
    body = json.dumps(content).encode() + b"\n"
    return PlainResponse(status, body, (("Content-Type", "application/json"), *_COMMON))


def refusal(status: int, reason: str, headers: tuple[tuple[str, str], ...], delay: float) -> PlainResponse:
    """Return the response to a refused upgrade (``refuse_with: http``), which is sent after ``delay`` seconds."""
    return PlainResponse(status, f"{reason}\n".encode(), (_TEXT, *headers, *_COMMON), delay)

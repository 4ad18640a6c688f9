"""The page of the console: one document with its style and its script, and a policy that allows nothing else."""

from __future__ import annotations

import base64
import functools
import hashlib
import html
from importlib import resources
from string import Template
from typing import TYPE_CHECKING, NamedTuple

from zcli_core.net.origins import parse_origin
from zcli_core.websocket.contract import PlainResponse

if TYPE_CHECKING:
    from zcli_core.config import Config
    from zcli_core.websocket.contract import Request


class _Sources(NamedTuple):
    document: Template
    style: str
    script: str


@functools.lru_cache(maxsize=1)
def _sources() -> _Sources:
    folder = resources.files("zcli_console") / "client"
    read = [(folder / f"console.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")]
    return _Sources(Template(read[0]), read[1], read[2])


def make_page(request: Request, config: Config) -> PlainResponse:
    """Return the page for the host that the browser knows this server by."""
    document, style, script = _sources()
    body = document.substitute(
        style=style,
        script=script,
        title=html.escape(config.title or "WebSocket server"),
        deployment=html.escape(config.deployment),
        auth="required" if config.websocket.require_auth else "none",
    )
    headers = (
        ("Content-Type", "text/html; charset=utf-8"),
        ("Cache-Control", "no-store"),
        ("Content-Security-Policy", _policy(request, style, script)),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
    )
    return PlainResponse(200, body.encode(), headers)


def _policy(request: Request, style: str, script: str) -> str:
    """Return a policy (CSP 3) that allows this page's own style and script, and connections to this host.

    ``bifrost.js`` comes from this host too. Trusted Types keep the script from making HTML of what it shows.
    """
    host = parse_origin(f"http://{request.headers.get('host', '')}")
    # Not every browser takes ws: and wss: of the same host as 'self'.
    own = "" if host is None else f" ws://{request.headers['host']} wss://{request.headers['host']}"
    return "; ".join(
        (
            "default-src 'none'",
            f"script-src 'self' '{_hash(script)}'",
            f"style-src '{_hash(style)}'",
            f"connect-src 'self'{own}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types console",
        )
    )


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

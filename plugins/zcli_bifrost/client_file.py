"""Serves the JavaScript client, ``/bifrost.js``, and its type definitions on the port of the WebSocket server."""

from __future__ import annotations

import functools
import hashlib
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

from zcli_core.websocket.contract import PlainResponse

if TYPE_CHECKING:
    from zcli_core.config import Config
    from zcli_core.websocket.contract import Request

_FOLDER = Path(__file__).parent / "client"
_TYPES = {"/bifrost.js": "text/javascript; charset=utf-8", "/bifrost.d.ts": "text/plain; charset=utf-8"}

#: The configurations of the ``zCLI`` objects that serve zBifrost. A hook is a function of the plugin, which all objects
#: share, and a server without zBifrost must not offer its client.
_serving: weakref.WeakSet[Config] = weakref.WeakSet()


def serve_for(config: Config) -> None:
    """Serve the files on the server of the object with this configuration."""
    _serving.add(config)


def respond(request: Request, config: Config) -> PlainResponse | None:
    """Return the response to a request for one of the files; None for any other request."""
    kind = _TYPES.get(request.path)
    if kind is None or config not in _serving:
        return None
    content, tag = _read(request.path)
    # A browser asks each time whether its copy is still the server's.
    headers = (("Content-Type", kind), ("Cache-Control", "no-cache"), ("ETag", tag))
    known = request.headers.get("if-none-match", "").split(",")
    if tag in [each.strip().removeprefix("W/") for each in known]:  # a proxy that compresses makes it weak
        return PlainResponse(304, b"", headers)
    return PlainResponse(200, content, headers)


@functools.lru_cache(maxsize=len(_TYPES))
def _read(path: str) -> tuple[bytes, str]:
    content = (_FOLDER / path.removeprefix("/")).read_bytes()
    return content, f'"{hashlib.sha256(content).hexdigest()[:32]}"'

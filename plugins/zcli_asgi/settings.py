"""The section ``asgi``: the application that answers plain HTTP requests on the port of the WebSocket server."""

from __future__ import annotations

from typing import Any

from zcli_core.config.settings import Section, setting


def _reference(value: Any) -> str | None:
    if value is None:
        return None
    module, _, attribute = value.partition(":")
    names = [*module.split("."), *attribute.split(".")]
    return None if all(name.isidentifier() for name in names) else "package.module:attribute"


class Asgi(Section, name="asgi"):
    """The transport ``uvicorn``."""

    app: str | None = setting(
        None, "ASGI application, as package.module:attribute, that answers the plain HTTP requests on the port of the "
        "WebSocket server, if websocket.transport is uvicorn", check=_reference,
        only_with=("websocket.transport", "uvicorn"),
    )  # fmt: skip

"""A mapping of paths to handlers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from websocket_serving import DEADLINE, TOKEN, Served

Serve = Callable[..., Served]


async def _chat(websocket: Any, message: str) -> None:
    await websocket.send(f"chat: {message}")


def _news(websocket: Any, message: str) -> None:
    websocket.send(f"news: {message}")


PATHS = {"/chat": _chat, "/news/today": _news, "/café": _chat, "/": _news}


def _said(served: Served, path: str) -> Any:
    with served.client(path) as client:
        client.send("hello")
        return client.recv(timeout=DEADLINE)


@pytest.mark.parametrize(
    ("path", "answer"),
    [
        ("/chat", "chat: hello"),
        ("/chat?room=1", "chat: hello"),
        ("/ch%61t", "chat: hello"),
        ("/news/today", "news: hello"),
        ("/caf%C3%A9", "chat: hello"),
        ("/", "news: hello"),
    ],
)
def test_path_selects_its_handler(serve: Serve, path: str, answer: str) -> None:
    """Plain or async, with any query, percent-encoded or not."""
    assert _said(serve(PATHS), path) == answer


@pytest.mark.parametrize("path", ["/other", "/chat/", "/Chat", "/news", "/chat%2F", "//chat", "/%ff"])
def test_path_without_handler_is_refused(serve: Serve, path: str) -> None:
    """Before authentication; paths are compared as a whole."""
    heard: list[str] = []
    served = serve(PATHS, on_connect=lambda websocket: heard.append(websocket.path), require_auth=True, token=TOKEN)
    assert served.refusal(path) == (1008, "no such path")
    assert heard == []
    served.logged("its path has no handler")


def test_path_without_handler_by_http_is_404(serve: Serve) -> None:
    """With ``refuse_with: http`` the refusal is an HTTP status."""
    assert serve(PATHS, refuse_with="http").status("/other") == 404


def test_single_handler_takes_every_path(serve: Serve) -> None:
    assert _said(serve(_chat), "/anything") == "chat: hello"


def test_callbacks_are_called_for_every_path(serve: Serve) -> None:
    """on_connect can read the path."""
    seen: list[str] = []
    served = serve(PATHS, on_connect=lambda websocket: seen.append(websocket.path))
    for path in ("/chat", "/"):
        assert _said(served, path)
    assert seen == ["/chat", "/"]


@pytest.mark.parametrize(
    ("handler", "error", "message"),
    [
        ({}, ValueError, "handler has no paths"),
        ({"chat": _chat}, ValueError, "a path must begin with / and have no query"),
        ({"/chat?a": _chat}, ValueError, "a path must begin with / and have no query"),
        ({1: _chat}, TypeError, "a path must be str, got 1"),
        ({"/chat": None}, TypeError, "the handler of '/chat' is None"),
        ({"/chat": "chat"}, TypeError, "handler must be a function of"),
        ({"/chat": lambda websocket: None}, TypeError, "handler must accept"),
    ],
)
def test_paths_invalid_raise(make_z: Any, handler: Any, error: type[Exception], message: str) -> None:
    """Before the port opens."""
    with pytest.raises(error, match=message):
        make_z().comm.websocket.start_background(port=0, handler=handler)

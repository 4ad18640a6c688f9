"""A handler for each path."""

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
    """Plain or async, whatever the query, percent-encoded or not."""
    assert _said(serve(PATHS), path) == answer


@pytest.mark.parametrize("path", ["/other", "/chat/", "/Chat", "/news", "/chat%2F", "//chat", "/%ff"])
def test_path_without_a_handler_is_refused(serve: Serve, path: str) -> None:
    """Before any credential is looked at; paths are compared as a whole."""
    heard: list[str] = []
    served = serve(PATHS, on_connect=lambda websocket: heard.append(websocket.path), require_auth=True, token=TOKEN)
    assert served.refusal(path) == (1008, "no such path")
    assert heard == []
    served.logged("its path has no handler")


def test_path_without_a_handler_by_status_is_404(serve: Serve) -> None:
    """Where refusals are HTTP answers."""
    assert serve(PATHS, refuse_with="http").status("/other") == 404


def test_one_handler_takes_every_path(serve: Serve) -> None:
    """As before."""
    assert _said(serve(_chat), "/anything") == "chat: hello"


def test_callbacks_are_those_of_every_path(serve: Serve) -> None:
    """on_connect knows the path."""
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
        ({"/chat": lambda websocket: None}, TypeError, "handler is called with"),
    ],
)
def test_wrong_paths_are_an_error(make_z: Any, handler: Any, error: type[Exception], message: str) -> None:
    """Before the port opens."""
    with pytest.raises(error, match=message):
        make_z().comm.websocket.start_background(port=0, handler=handler)

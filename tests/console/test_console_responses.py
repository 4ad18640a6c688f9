"""The page of the console and the state behind it, over plain HTTP."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest
from console_serving import TOKEN, Serve

HTML = {"Accept": "text/html,*/*;q=0.8"}
GUARDED = {"require_auth": True, "token": TOKEN}


def test_console_page_allows_only_itself(serve: Serve) -> None:
    """The policy names the hashes of the page's own style and script, this host, and nothing else."""
    server = serve()
    response, body = server.get("/", **HTML)
    assert (response.status, response.getheader("Content-Type")) == (200, "text/html; charset=utf-8")
    assert "<h1>Tea &amp; cake</h1>" in body
    policy = dict(part.split(" ", 1) for part in (response.getheader("Content-Security-Policy") or "").split("; "))
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", body, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert policy[directive].removeprefix("'self' ") == f"'sha256-{digest}'"
    assert policy["connect-src"] == f"'self' ws://127.0.0.1:{server.port} wss://127.0.0.1:{server.port}"
    assert {key: policy[key] for key in ("default-src", "frame-ancestors", "base-uri", "form-action")} == {
        "default-src": "'none'", "frame-ancestors": "'none'", "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip
    assert re.findall(r"(?:src|href)=\"(?!#)[^\"]*\"|https?://(?!www\.w3\.org/2000/svg)", body) == []


@pytest.mark.parametrize(
    ("zspark", "is_on"),
    [
        ({"deployment": "Development"}, True),
        ({"deployment": "Testing"}, False),
        ({"deployment": "Production"}, False),
        ({"deployment": "Production", "console": {"enabled": True}}, True),
        ({"deployment": "Development", "console": {"enabled": False}}, False),
    ],
)
def test_console_is_on_in_development_only(serve: Serve, zspark: dict[str, object], is_on: bool) -> None:
    """Elsewhere the setting decides; where the console is off, the page for browsers is the one of before."""
    server = serve(**zspark)
    response, body = server.get("/", **HTML)
    assert (response.status, "console" in body) == ((200, True) if is_on else (426, False))
    assert (server.state() != 426) is is_on


def test_console_leaves_other_requests_alone(serve: Serve) -> None:
    """Programs, other paths and /health get what they get without the console."""
    server = serve()
    requests: list[tuple[str, dict[str, str]]] = [("/", {}), ("/x", HTML), ("/health", HTML)]
    assert [server.get(path, **headers)[0].status for path, headers in requests] == [426, 426, 200]


def test_console_state_counts_clients_and_rooms(serve: Serve) -> None:
    """In Development the state names rooms and clients, the newest first."""
    server = serve()
    with server.client("join kitchen", "hello"), server.client("join kitchen", "join <b>") as second:
        state = server.state()
        port = second.local_address[1]
    assert {key: state[key] for key in ("clients", "rooms", "received", "sent", "handler_errors", "refused")} == {
        "clients": 2, "rooms": 2, "received": 4, "sent": 4, "handler_errors": 0, "refused": 0,
    }  # fmt: skip
    assert state["room_list"] == [{"name": "kitchen", "clients": 2}, {"name": "<b>", "clients": 1}]
    newest = state["client_list"][0]
    assert (newest["address"], newest["identity"], newest["path"]) == (f"127.0.0.1:{port}", None, "/")
    assert newest["rooms"] == ["kitchen", "<b>"]


def test_console_state_names_no_one_in_production(serve: Serve) -> None:
    """Outside of Development the state has numbers only."""
    server = serve(deployment="Production", console={"enabled": True}, websocket=GUARDED)
    with server.client("join kitchen", additional_headers={"Authorization": f"Bearer {TOKEN}"}):
        state = server.state(Authorization=f"Bearer {TOKEN}")
    assert (state["clients"], state["rooms"] >= 1) == (1, True)
    assert {type(value) for value in state.values()} <= {int, float}


def test_console_state_is_behind_the_gate(serve: Serve) -> None:
    """Without the token, with a wrong one, or from another site there is no state; wrong ones are throttled."""
    server = serve(websocket={**GUARDED, "max_auth_failures": 2, "allowed_origins": ["https://app.example"]})
    assert server.state() == 403
    assert server.state(f"?token={TOKEN}")["clients"] == 0
    assert server.state(Authorization=f"Bearer {TOKEN}", Origin="https://evil.example") == 403
    assert server.state(Authorization=f"Bearer {TOKEN}", Origin="https://app.example")["clients"] == 0
    assert [server.state(Authorization="Bearer wrong") for _ in range(3)] == [403, 403, 403]
    with server.client(additional_headers={"Authorization": "Bearer wrong"}) as throttled:
        assert "too many failed attempts" in str(_end(throttled))


def _end(client: object) -> object:
    from websockets.exceptions import ConnectionClosed

    with pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=20)  # type: ignore[attr-defined]
    return closed.value


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("127.0.0.1:8765", True),
        ("[::1]:8765", True),
        ("localhost:8765", True),
        ("app.localhost", True),
        ("evil.example:8765", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("evil.example#localhost", False),
    ],
)
def test_console_state_needs_a_host_of_ours(serve: Serve, host: str, is_ours: bool) -> None:
    """A site whose name resolves to this server (DNS rebinding) reads nothing."""
    assert (serve().state(Host=host) != 403) is is_ours


def test_console_of_two_objects_are_apart(serve: Serve) -> None:
    """Each console shows the server of its own object."""
    first, second = serve(), serve()
    with first.client("hello"):
        assert (first.state()["clients"], second.state()["clients"]) == (1, 0)

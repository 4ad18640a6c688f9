"""Trusted proxies: who the client is behind them, and whose word is not believed."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from websocket_serving import TOKEN, Served, eventually, talks
from websockets.sync.client import unix_connect

from zcli_core.app import zCLI
from zcli_core.errors import ConfigError
from zcli_core.testing.auth import make_request
from zcli_core.websocket.addresses import TrustedProxies

Serve = Callable[..., Served]

PROXIES = ["10.0.0.1", "192.168.0.0/16", "2001:db8:1::/48"]


def client_of(headers: list[tuple[str, str]], peer: Any = ("10.0.0.1", 40000), trusted: list[str] | None = None) -> Any:
    """The client's address and whether it used TLS."""
    request = make_request(headers=headers, remote_address=peer)
    found = TrustedProxies(PROXIES if trusted is None else trusted).client_of(request)
    return found.remote_address, found.tls


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], ("10.0.0.1", 40000)),
        ([("X-Forwarded-For", "203.0.113.7")], ("203.0.113.7", 0)),
        ([("x-forwarded-for", " 203.0.113.7:4711 ")], ("203.0.113.7", 4711)),
        ([("X-Forwarded-For", "2001:db8::7")], ("2001:db8::7", 0)),
        ([("X-Forwarded-For", "[2001:db8::7]:4711")], ("2001:db8::7", 4711)),
        ([("X-Forwarded-For", "::ffff:203.0.113.7")], ("203.0.113.7", 0)),
        # What stands left of the first address that is not a proxy's was sent by the client.
        ([("X-Forwarded-For", "1.1.1.1, 203.0.113.7")], ("203.0.113.7", 0)),
        ([("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-For", "203.0.113.7")], ("203.0.113.7", 0)),
        ([("X-Forwarded-For", "1.1.1.1, 203.0.113.7, 192.168.5.5, 2001:db8:1::9")], ("203.0.113.7", 0)),
        ([("X-Forwarded-For", "10.0.0.1, 203.0.113.7")], ("203.0.113.7", 0)),
        # Everybody in the chain is trusted: the first one is the client.
        ([("X-Forwarded-For", "192.168.7.7, 192.168.5.5")], ("192.168.7.7", 0)),
        # A client that is not told, or rubbish: the proxy that says so is all that is known.
        ([("X-Forwarded-For", "203.0.113.7, unknown")], ("10.0.0.1", 40000)),
        ([("X-Forwarded-For", "203.0.113.7, 300.1.1.1, 192.168.5.5")], ("192.168.5.5", 0)),
        ([("X-Forwarded-For", "")], ("10.0.0.1", 40000)),
        ([("X-Forwarded-For", ",,")], ("10.0.0.1", 40000)),
        ([("Forwarded", "for=203.0.113.7")], ("203.0.113.7", 0)),
        ([("Forwarded", 'FOR="203.0.113.7:4711";proto=https;by=10.0.0.1')], ("203.0.113.7", 4711)),
        ([("Forwarded", 'for="[2001:db8::7]:4711"')], ("2001:db8::7", 4711)),
        ([("Forwarded", "for=1.1.1.1, for=203.0.113.7;host=a")], ("203.0.113.7", 0)),
        ([("Forwarded", "for=1.1.1.1"), ("Forwarded", "for=203.0.113.7, for=192.168.5.5")], ("203.0.113.7", 0)),
        ([("Forwarded", "for=203.0.113.7, for=_hidden")], ("10.0.0.1", 40000)),
        ([("Forwarded", "for=203.0.113.7, proto=http")], ("10.0.0.1", 40000)),
        ([("Forwarded", "for=1.1.1.1;for=203.0.113.7")], ("10.0.0.1", 40000)),
        # A quoted string holds no separators: this is one element, and a forged one.
        ([("Forwarded", 'for="1.1.1.1, for=203.0.113.7"')], ("10.0.0.1", 40000)),
        ([("Forwarded", 'by="a\\", for=1.1.1.1";for=203.0.113.7')], ("203.0.113.7", 0)),
        # Two kinds of header that tell the same are believed; a proxy passes a foreign one on as it came.
        ([("X-Forwarded-For", "203.0.113.7"), ("Forwarded", "for=203.0.113.7")], ("203.0.113.7", 0)),
        ([("X-Forwarded-For", "1.1.1.1, 203.0.113.7"), ("Forwarded", "for=203.0.113.7")], ("203.0.113.7", 0)),
        ([("X-Forwarded-For", "203.0.113.7"), ("Forwarded", ",")], ("203.0.113.7", 0)),
        ([("X-Forwarded-For", "203.0.113.7"), ("Forwarded", "nonsense")], ("10.0.0.1", 40000)),
        # A quoted string that is not closed hides the client, and makes it nobody else.
        ([("Forwarded", 'for="1.1.1.1, for=203.0.113.7')], ("10.0.0.1", 40000)),
        ([("Forwarded", 'for="1.1.1.1\\, for=203.0.113.7')], ("10.0.0.1", 40000)),
        ([("Forwarded", 'for="1.1.1.1'), ("Forwarded", "for=203.0.113.7")], ("203.0.113.7", 0)),
        ([("X-Forwarded-For", "203.0.113.7"), ("Forwarded", "for=1.1.1.1")], ("10.0.0.1", 40000)),
        ([("X-Forwarded-For", "1.1.1.1"), ("Forwarded", "for=203.0.113.7")], ("10.0.0.1", 40000)),
    ],
)
def test_proxy_chain_gives_the_client(headers: list[tuple[str, str]], expected: Any) -> None:
    """Read from the right, for as long as the address is that of a trusted proxy."""
    assert client_of(headers)[0] == expected


@pytest.mark.parametrize(
    ("headers", "tls"),
    [
        ([("X-Forwarded-For", "203.0.113.7")], False),
        ([("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-Proto", "HTTPS")], True),
        ([("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-Proto", "wss")], True),
        ([("X-Forwarded-For", "203.0.113.7"), ("X-Forwarded-Proto", "http")], False),
        ([("X-Forwarded-For", "1.1.1.1, 203.0.113.7"), ("X-Forwarded-Proto", "https, http")], False),
        ([("X-Forwarded-For", "1.1.1.1, 203.0.113.7"), ("X-Forwarded-Proto", "http, https")], True),
        ([("X-Forwarded-For", "1.1.1.1, 203.0.113.7"), ("X-Forwarded-Proto", "https")], True),
        ([("X-Forwarded-For", "203.0.113.7, 192.168.5.5"), ("X-Forwarded-Proto", "https, http")], True),
        ([("Forwarded", "for=203.0.113.7;proto=https, for=192.168.5.5;proto=http")], True),
        ([("Forwarded", "for=1.1.1.1;proto=https, for=203.0.113.7;proto=http")], False),
        ([("Forwarded", "for=_hidden;proto=https")], True),
    ],
)
def test_proxy_chain_gives_the_clients_scheme(headers: list[tuple[str, str]], tls: bool) -> None:
    """The one of the hop whose address is believed."""
    assert client_of(headers)[1] is tls


@pytest.mark.parametrize("peer", [("10.0.0.2", 1), ("203.0.113.9", 1), ("2001:db8:2::1", 1, 0, 0), None, ("host", 1)])
def test_stranger_is_not_believed(peer: Any) -> None:
    """Who is not a trusted proxy may write what it likes into its headers."""
    headers = [("X-Forwarded-For", "1.1.1.1"), ("X-Forwarded-Proto", "https")]
    assert client_of(headers, peer) == (peer, False)


@pytest.mark.parametrize("peer", [("10.0.0.1", 1), ("::ffff:10.0.0.1", 1, 0, 0), ("2001:db8:1::5", 1, 0, 0)])
def test_proxy_address_forms_are_trusted(peer: Any) -> None:
    """Also an IPv4 address as an IPv6 socket shows it."""
    assert client_of([("X-Forwarded-For", "203.0.113.7")], peer)[0] == ("203.0.113.7", 0)


def test_unix_socket_is_a_proxy_if_named() -> None:
    """By the word unix, and by no network."""
    headers = [("X-Forwarded-For", "203.0.113.7")]
    assert client_of(headers, None, ["unix"])[0] == ("203.0.113.7", 0)
    assert client_of(headers, None, ["0.0.0.0/0", "::/0"])[0] is None


def test_no_proxies_change_nothing() -> None:
    """The default: the very request."""
    request = make_request(headers={"X-Forwarded-For": "1.1.1.1"})
    assert TrustedProxies(()).client_of(request) is request


@given(
    st.text(alphabet=st.characters(max_codepoint=255), max_size=60), st.sampled_from(["Forwarded", "X-Forwarded-For"])
)
def test_any_header_is_read_without_an_error(value: str, name: str) -> None:
    """Whatever a client sends."""
    client_of([(name, value), (name, f"{value}, for=203.0.113.7")])


@pytest.mark.parametrize("item", ["localhost", "10.0.0.1/8", "10.0.0", "*", "", "unix:", "10.0.0.0/33"])
def test_what_is_not_a_proxy_is_an_error(make_z: Callable[..., zCLI], item: str) -> None:
    """With the item, where it was set, and what would do."""
    z = make_z(trusted_proxies=["10.0.0.0/8", item])
    with pytest.raises(ConfigError, match=r"websocket\.trusted_proxies \(zSpark\): '.*' is not an address"):
        z.comm.websocket.start_background(port=0)


# --- on a server ---


def test_client_behind_a_proxy_is_known_by_its_address(serve: Serve) -> None:
    """To the handler, in get_client_info, in the log, and as one who uses TLS."""
    seen: list[Any] = []

    async def handler(websocket: Any, message: Any) -> None:
        seen.append((websocket.remote_address, websocket.request.remote_address, websocket.request.tls))
        seen.append(websocket.blocking.remote_address)
        await websocket.send(message)

    served = serve(handler, trusted_proxies=["127.0.0.1"])
    headers = {"X-Forwarded-For": "1.1.1.1, 203.0.113.7", "X-Forwarded-Proto": "https"}
    with served.client(additional_headers=headers) as client:
        assert talks(client)
        info = served.websocket.auth.get_client_info(served.websocket.clients[0])
    assert seen == [(("203.0.113.7", 0), ("203.0.113.7", 0), True), ("203.0.113.7", 0)]
    assert info["address"] == ("203.0.113.7", 0)
    served.logged("203.0.113.7 connected")


def test_guesses_behind_a_proxy_throttle_their_client_alone(serve: Serve) -> None:
    """Other clients of the same proxy are not kept out."""
    served = serve(require_auth=True, token="short-token", max_auth_failures=2, trusted_proxies=["127.0.0.0/8"])
    for _ in range(2):
        served.refusal("/?token=guess", additional_headers={"Forwarded": "for=198.51.100.66"})
    _, reason = served.refusal("/?token=short-token", additional_headers={"Forwarded": "for=198.51.100.66"})
    assert reason.startswith("too many failed attempts")
    with served.client("/?token=short-token", additional_headers={"Forwarded": "for=203.0.113.8"}) as client:
        assert talks(client)
    log = served.logged("too many wrong credentials")
    assert "refused 198.51.100.66: the token" in log
    assert "refused 127.0.0.1" not in log


def test_oversized_head_behind_a_proxy_is_its_clients(serve: Serve) -> None:
    """Also where the transport refuses it without asking the gate."""
    served = serve(trusted_proxies=["127.0.0.1"], max_header_bytes=1024)
    served.refusal(f"/?{'x' * 2000}", additional_headers={"X-Forwarded-For": "198.51.100.66"})
    served.logged("refused 198.51.100.66: The request's head is over 1024 bytes.")


def test_page_behind_a_tls_proxy_is_told_to_use_wss(serve: Serve) -> None:
    """What is answered to plain HTTP goes by the client's scheme too."""
    served = serve(trusted_proxies=["127.0.0.1"])
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.7\r\nX-Forwarded-Proto: https\r\n\r\n")
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
    assert b"connect with wss://" in answer


def test_unix_socket_behind_a_proxy_knows_its_clients(serve: Serve, tmp_path: Path) -> None:
    """nginx forwards to a Unix socket as it does to a port."""
    path = tmp_path / "s"
    served = serve(unix_path=str(path), trusted_proxies=["unix"], max_connections_per_address=1)
    here = {"X-Forwarded-For": "203.0.113.7"}
    with unix_connect(str(path), uri="ws://localhost/", additional_headers=here) as client:
        assert talks(client)
        assert served.websocket.clients[0].remote_address == ("203.0.113.7", 0)
    eventually(lambda: served.websocket.client_count == 0)


def test_long_token_behind_an_unknown_proxy_is_admitted(serve: Serve) -> None:
    """Where nobody has named the proxy, all clients are one address, and a guesser still keeps nobody out."""
    served = serve(require_auth=True, token=TOKEN, max_auth_failures=1)
    served.refusal("/?token=guess", additional_headers={"X-Forwarded-For": "198.51.100.66"})
    with served.client(f"/?token={TOKEN}", additional_headers={"X-Forwarded-For": "203.0.113.8"}) as client:
        assert talks(client)

"""The gate of a running server: limit, origin, credentials and throttle, and what the client and the log show."""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable
from typing import Any

import pytest
from installations import Site
from websocket_serving import TOKEN, Served, end_of, eventually, talks
from websockets.sync.client import connect

from zcli_core.auth.contract import Identified, Rejected
from zcli_core.auth.parts import MAX_LENGTH
from zcli_core.errors import ConfigError
from zcli_core.testing.auth import make_request
from zcli_core.testing.websocket.client import upgrade_request
from zcli_core.websocket.strategy_runner import StrategyRunner

Serve = Callable[..., Served]
AUTH: dict[str, Any] = {"require_auth": True, "token": TOKEN}
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Heard:
    """A handler that records its messages."""

    def __init__(self) -> None:
        self.messages: list[Any] = []

    async def __call__(self, websocket: Any, message: Any) -> None:
        self.messages.append(message)
        await websocket.send(message)


# --- credentials ---


@pytest.mark.parametrize(
    "shown",
    [
        {"path": f"/?token={TOKEN}"},
        {"path": f"/chat?a=b&token={TOKEN}&c="},
        {"additional_headers": BEARER},
        {"additional_headers": {"authorization": f"bEARER   {TOKEN}"}},
        {"subprotocols": ["bearer", TOKEN]},
        {"subprotocols": ["other", "bearer", TOKEN]},
    ],
)
def test_token_in_every_place_is_accepted(serve: Serve, shown: dict[str, Any]) -> None:
    """In the query, a header or a subprotocol; ``bearer`` is then negotiated."""
    served = serve(**AUTH)
    with served.client(**shown) as client:
        assert talks(client)
        assert client.subprotocol == ("bearer" if "subprotocols" in shown else None)


@pytest.mark.parametrize(
    ("shown", "reason"),
    [
        ({}, "authentication required"),
        ({"path": "/?Token=x&tokens=y"}, "authentication required"),
        ({"additional_headers": {"Authorization": "Basic YTpi"}}, "authentication required"),
        ({"path": "/?token="}, "authentication failed"),
        ({"path": "/?token=wrong"}, "authentication failed"),
        ({"path": f"/?token={TOKEN}x"}, "authentication failed"),
        ({"path": f"/?token={TOKEN[:-1]}"}, "authentication failed"),
        ({"path": f"/?token={TOKEN.upper()}"}, "authentication failed"),
        ({"path": "/?token=%C3%BC%00%FF"}, "authentication failed"),
        ({"path": f"/?token={'x' * 8000}"}, "authentication failed"),
        ({"path": f"/?token={TOKEN}&token={TOKEN}"}, "authentication failed"),
        ({"path": f"/?token={TOKEN}&tok%65n={TOKEN}"}, "authentication failed"),
        ({"path": f"/?token={TOKEN}", "additional_headers": BEARER}, "authentication failed"),
        ({"additional_headers": [("Authorization", f"Bearer {TOKEN}")] * 2}, "authentication failed"),
        ({"additional_headers": {"Authorization": "Bearer"}}, "authentication failed"),
        ({"subprotocols": ["bearer"]}, "authentication failed"),
        ({"subprotocols": ["bearer", "wrong"]}, "authentication failed"),
    ],
)
def test_token_missing_or_wrong_is_closed_1008(serve: Serve, shown: dict[str, Any], reason: str) -> None:
    """Also too long, not ASCII or sent twice; the handler gets nothing, and the log shows no token."""
    heard = Heard()
    served = serve(heard, **AUTH)
    assert served.refusal(**shown) == (1008, reason)
    assert heard.messages == []
    log = served.logged("refused 127.0.0.1:")
    for secret in (TOKEN, "wrong", "xxxx"):
        assert secret not in log


def test_token_of_maximum_length_is_accepted(serve: Serve) -> None:
    """Every token that can be configured can be sent."""
    token = "x" * MAX_LENGTH
    with serve(require_auth=True, token=token).client(f"/?token={token}") as client:
        assert talks(client)


@pytest.mark.parametrize("place", ["path", "authorization", "subprotocol"])
def test_token_of_a_megabyte_is_refused(serve: Serve, place: str) -> None:
    """It exceeds the transport's limit for the request head; the client gets a readable reason."""
    token = "x" * 1024 * 1024
    shown: dict[str, Any] = {
        "path": {"path": f"/?token={token}"},
        "authorization": {"additional_headers": {"Authorization": f"Bearer {token}"}},
        "subprotocol": {"subprotocols": ["bearer", token]},
    }[place]
    heard = Heard()
    served = serve(heard, **AUTH)
    assert served.refusal(**shown) == (1008, "The request's head is over 16384 bytes.")
    assert heard.messages == []
    assert "xxxx" not in served.logged("refused ")


@pytest.mark.parametrize(
    "cookies", [f"session={TOKEN}", f"a=b; session={TOKEN}; c", f'session="{TOKEN}"', f"sessionx=y;session={TOKEN}"]
)
def test_token_cookie_is_accepted(serve: Serve, cookies: str) -> None:
    """Among other cookies, quoted or not."""
    served = serve(**AUTH, token_cookie="session")
    with served.client(additional_headers={"Cookie": cookies}) as client:
        assert talks(client)


@pytest.mark.parametrize(
    ("settings", "cookies", "path", "reason"),
    [
        ({}, f"session={TOKEN}", "/", "authentication required"),
        ({"token_cookie": "session"}, f"Session={TOKEN}", "/", "authentication required"),
        ({"token_cookie": "session"}, "session=wrong", "/", "authentication failed"),
        ({"token_cookie": "session"}, f"session={TOKEN}; session={TOKEN}", "/", "authentication failed"),
        ({"token_cookie": "session"}, f"session={TOKEN}", f"/?token={TOKEN}", "authentication failed"),
    ],
)
def test_token_cookie_invalid_is_refused(
    serve: Serve, settings: dict[str, Any], cookies: str, path: str, reason: str
) -> None:
    """Without the setting no cookie is read, and two tokens are rejected."""
    served = serve(**AUTH, **settings)
    assert served.refusal(path, additional_headers={"Cookie": cookies}) == (1008, reason)
    assert TOKEN not in served.log()


def test_token_cookie_of_other_page_is_refused(serve: Serve) -> None:
    """Browsers send cookies for every page, so the origin must be this host's own or listed."""
    served = serve(**AUTH, token_cookie="session")
    cookies = {"Cookie": f"session={TOKEN}"}
    refused = served.refusal(origin="https://evil.example", additional_headers=cookies)
    assert refused == (1008, "origin not allowed")


@pytest.mark.parametrize("origin", ["*", "null", "file://"])
def test_token_cookie_with_any_origin_is_an_error(make_z: Callable[..., Any], origin: str) -> None:
    """Every page could then use a visitor's cookie."""
    z = make_z(**AUTH, token_cookie="session", allowed_origins=[origin])
    with pytest.raises(ConfigError, match=r"websocket\.token_cookie \(zSpark\) reads the token from a cookie"):
        z.comm.websocket.start_background(port=0)


def test_tokens_give_their_identities(serve: Serve) -> None:
    """``tokens`` maps names to tokens; ``token`` has the name ``default``."""
    served = serve(**AUTH, tokens={"alice": "token-of-alice", "sensor": "token-of-sensor"})
    found = {}
    for token in (TOKEN, "token-of-alice", "token-of-sensor"):
        with served.client(f"/?token={token}"):
            client = eventually(lambda: served.websocket.clients)[0]
            found[token] = served.websocket.auth.get_client_info(client)["identity"]
        eventually(lambda: served.websocket.client_count == 0)
    assert found == {TOKEN: "default", "token-of-alice": "alice", "token-of-sensor": "sensor"}


def test_client_info_has_no_credential(serve: Serve) -> None:
    """Identity, strategy, origin, address and time, also after the end and in its ``repr``."""
    served = serve(**AUTH, allowed_origins=["https://chat.example"])
    with served.client(f"/?token={TOKEN}", origin="https://chat.example") as client:
        (connection,) = eventually(lambda: served.websocket.clients)
        address = client.socket.getsockname()
    eventually(lambda: served.websocket.client_count == 0)
    info = served.websocket.auth.get_client_info(connection)
    assert info.pop("connected_at").utcoffset().total_seconds() == 0
    assert info == {
        "identity": "default",
        "strategy": "token",
        "claims": {},
        "origin": "https://chat.example",
        "address": address,
        "expires_at": None,
        "certificate_subject": None,
    }
    for text in (repr(connection), repr(connection.request), repr(connection.blocking), served.log()):
        assert TOKEN not in text


def test_client_info_of_non_client_raises(serve: Serve) -> None:
    """The error is raised at once."""
    with pytest.raises(TypeError, match=r"websocket must be a client .*, got str"):
        serve().websocket.auth.get_client_info("alice")


def test_without_require_auth_clients_are_accepted(serve: Serve) -> None:
    """No client has an identity, and the log warns that the token is not used."""
    served = serve(token=TOKEN)
    with served.client("/?token=wrong") as client:
        assert talks(client)
        info = served.websocket.auth.get_client_info(served.websocket.clients[0])
    assert (info["identity"], info["strategy"]) == (None, None)
    assert "websocket.require_auth is off: clients without a token may connect" in served.log()


# --- origins ---


@pytest.mark.parametrize("auth", [{}, AUTH], ids=["open", "with auth"])
@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://localhost.evil.com", "null", "file://", "http://localhost:81", "nonsense"],
)
def test_other_origin_with_token_is_closed_1008(serve: Serve, origin: str, auth: dict[str, Any]) -> None:
    """``allowed_origins`` applies whenever it is set."""
    heard = Heard()
    served = serve(heard, **auth, allowed_origins=["http://localhost"])
    assert served.refusal(f"/?token={TOKEN}", origin=origin) == (1008, "origin not allowed")
    assert heard.messages == []


@pytest.mark.parametrize("settings", [{}, {**AUTH, "allowed_origins": ["http://localhost"]}], ids=["open", "with auth"])
def test_two_origins_are_closed_1008(serve: Serve, settings: dict[str, Any]) -> None:
    """A browser sends one; two may be read differently by two programs."""
    served = serve(**settings)
    headers = [("Origin", "http://localhost"), ("Origin", "http://localhost")]
    assert served.refusal(f"/?token={TOKEN}", additional_headers=headers) == (1008, "origin not allowed")


def test_allowed_origin_without_token_is_refused(serve: Serve) -> None:
    """The origin identifies the page, not the user."""
    served = serve(**AUTH, allowed_origins=["http://localhost"])
    assert served.refusal(origin="http://localhost") == (1008, "authentication required")
    with served.client(f"/?token={TOKEN}", origin="http://localhost") as client:
        assert talks(client)


def test_no_origin_is_authenticated(serve: Serve) -> None:
    """Programs send no Origin."""
    served = serve(**AUTH, allowed_origins=["http://localhost"])
    with served.client(f"/?token={TOKEN}") as client:
        assert talks(client)


def test_file_origin_admits_null_with_warning(serve: Serve) -> None:
    """Chromium sends ``file://`` and Firefox ``null``, which other pages send too."""
    served = serve(allowed_origins=["file://"])
    for origin in ("file://", "null"):
        with served.client(origin=origin) as client:
            assert talks(client)
    assert "every page whose origin is 'null'" in served.log()


@pytest.mark.parametrize("auth", [{}, AUTH], ids=["open", "with auth"])
def test_default_origins_admit_own_pages_only(serve: Serve, auth: dict[str, Any]) -> None:
    """Pages of other sites are refused, also with a name that resolves to this host (DNS rebinding)."""
    heard = Heard()
    served = serve(heard, **auth)
    path = f"/?token={TOKEN}"
    for origin in ("http://localhost:3000", "http://127.0.0.1", None):
        with served.client(path, origin=origin) as client:
            assert talks(client)
    heard.messages.clear()
    for origin in ("https://evil.example", "http://localhost.evil.example", "alice", ""):
        assert served.refusal(path, additional_headers={"Origin": origin}) == (1008, "origin not allowed"), origin
    here = socket.create_connection(("127.0.0.1", served.port))
    there = f"evil.example:{served.port}"
    with connect(f"ws://{there}{path}", sock=here, origin=f"http://{there}", proxy=None) as client:  # type: ignore[arg-type]
        assert end_of(client) == (1008, "origin not allowed")
    assert heard.messages == []
    served.logged("websocket.allowed_origins is not set; to admit it: allowed_origins = ['https://evil.example']")


@pytest.mark.parametrize("origin", ["null", "file://"])
def test_default_origins_admit_files_on_loopback(serve: Serve, origin: str) -> None:
    """A page that is opened from a file needs no setting, unless ``require_auth`` is on."""
    with serve().client(origin=origin) as client:
        assert talks(client)
    closed = serve(**AUTH)
    assert closed.refusal(f"/?token={TOKEN}", origin=origin) == (1008, "origin not allowed")
    closed.logged("to admit it: allowed_origins = ['file://']")


def test_default_origins_admit_name_of_proxy(serve: Serve) -> None:
    """A trusted proxy forwards the page's name in Host; without the proxy the name is refused."""
    served = serve(trusted_proxies=["127.0.0.1"])
    page = {"Origin": "https://chat.example", "X-Forwarded-For": "203.0.113.7"}

    def connected(**headers: str) -> Any:
        sock = socket.create_connection(("127.0.0.1", served.port))
        return connect("ws://chat.example/", sock=sock, additional_headers=headers, proxy=None)  # type: ignore[arg-type]

    with connected(**page) as client:
        assert talks(client)
    for headers in ({"Origin": "https://chat.example"}, {**page, "Origin": "https://evil.example"}):
        with connected(**headers) as client:
            assert end_of(client) == (1008, "origin not allowed")


def test_allowed_origins_any_admits_every_page(serve: Serve) -> None:
    """``*`` admits every origin."""
    served = serve(allowed_origins=["*"])
    for origin in ("https://evil.example", "null", "alice"):
        with served.client(origin=origin) as client:
            assert talks(client)


def test_refused_origin_log_has_the_setting(serve: Serve) -> None:
    """Used as the log shows it, the setting admits the page."""
    served = serve(allowed_origins=["http://localhost"])
    served.refusal(origin="https://shop.example")
    advice = "allowed_origins = ['http://localhost', 'https://shop.example']"
    served.logged(advice)
    again = serve(allowed_origins=["http://localhost", "https://shop.example"])
    with again.client(origin="https://shop.example") as client:
        assert talks(client)


def test_refused_origin_is_escaped_in_the_log(serve: Serve) -> None:
    """No control characters, and at most one line."""
    served = serve(allowed_origins=[])
    served.refusal(additional_headers={"Origin": "http://a\x9b31m" + "x" * 5000})
    log = served.logged("is not an origin")
    assert "\x9b" not in log
    assert "x" * 200 not in log


# --- the origin strategy ---


def test_origin_strategy_identifies_pages_only(serve: Serve) -> None:
    """The identity is the origin."""
    served = serve(require_auth=True, auth=["origin"], allowed_origins=["https://chat.example"])
    assert served.refusal() == (1008, "authentication required")
    assert served.refusal(origin="https://evil.example") == (1008, "origin not allowed")
    with served.client(origin="https://chat.example"):
        (client,) = eventually(lambda: served.websocket.clients)
        assert served.websocket.auth.get_client_info(client)["identity"] == "https://chat.example"


@pytest.mark.parametrize("origin", ["alice", "https://alice.example", "null", "file://", "https://", ""])
def test_origin_strategy_any_identifies_no_client(serve: Serve, origin: str) -> None:
    """``*`` and ``file://`` admit any origin, which must not become an identity."""
    heard = Heard()
    tokens = {"tokens": {"alice": TOKEN}, "allowed_origins": ["*", "file://"]}
    served = serve(heard, require_auth=True, auth=["origin", "token"], **tokens)
    headers = {"Origin": origin}
    assert served.refusal(additional_headers=headers) == (1008, "authentication required")
    assert heard.messages == []
    with served.client(f"/?token={TOKEN}", additional_headers=headers):
        (client,) = eventually(lambda: served.websocket.clients)
        assert served.websocket.auth.get_client_info(client)["identity"] == "token:alice"
    assert "identifies no client" in served.log()


def test_identities_of_two_strategies_differ(serve: Serve, site: Site) -> None:
    """A strategy cannot identify a client as a client of another strategy."""
    site.plugin(
        "zcli_mine",
        """
        from zcli_core.auth.contract import Identified

        class Mine:
            never_blocks = True

            def authenticate(self, request):
                return Identified(request.query.removeprefix("user=")) if request.query.startswith("user=") else None

        @hookimpl
        def zcli_auth_strategies():
            return [Provider("mine", "of a test", lambda context: Mine())]
        """,
    )
    served = serve(require_auth=True, auth=["mine", "token"], tokens={"alice": TOKEN, "mine:alice": f"{TOKEN}2"})
    found = []
    for path in ("/?user=alice", "/?user=token:alice", f"/?token={TOKEN}", f"/?token={TOKEN}2"):
        with served.client(path):
            info = served.websocket.auth.get_client_info(eventually(lambda: served.websocket.clients)[0])
            found.append((info["identity"], info["strategy"]))
        eventually(lambda: served.websocket.client_count == 0)
    assert found == [
        ("mine:alice", "mine"), ("mine:token:alice", "mine"), ("token:alice", "token"), ("token:mine:alice", "token"),
    ]  # fmt: skip


def test_strategies_first_verdict_decides(serve: Serve) -> None:
    """A page needs no token here, a program does; a wrong token is not passed to the next strategy."""
    served = serve(require_auth=True, auth=["token", "origin"], token=TOKEN, allowed_origins=["https://chat.example"])
    with served.client(origin="https://chat.example") as client:
        assert talks(client)
    with served.client(f"/?token={TOKEN}") as client:
        assert talks(client)
    assert served.refusal("/?token=wrong", origin="https://chat.example")[0] == 1008


# --- the limit ---


def test_max_connections_reached_is_closed_1013(serve: Serve) -> None:
    """A freed slot can be used at once, again and again."""
    served = serve(max_connections=2)
    with contextlib.ExitStack() as stack:
        stack.enter_context(served.client())
        for _ in range(20):
            with served.client() as second:
                assert served.refusal() == (1013, "the server is full")
                assert talks(second)
    served.logged("2 clients are connected, or their handlers still run (websocket.max_connections)")


def test_max_connections_is_checked_before_auth(serve: Serve) -> None:
    """A full server does not authenticate."""
    served = serve(**AUTH, max_connections=1)
    with served.client(f"/?token={TOKEN}"):
        assert served.refusal("/?token=wrong") == (1013, "the server is full")


# --- guessing ---


SHORT = {"require_auth": True, "token": "short-token-15c"}


def test_throttled_address_is_refused(serve: Serve) -> None:
    """A short token has to wait too, because it may be a guess; a client without a credential never guesses."""
    served = serve(**SHORT, max_auth_failures=3, auth_failures_window=3600)
    for _ in range(5):
        assert served.refusal() == (1008, "authentication required")
    for _ in range(3):
        assert served.refusal("/?token=guess") == (1008, "authentication failed")
    code, reason = served.refusal("/?token=short-token-15c")
    assert (code, reason.startswith("too many failed attempts, wait ")) == (1008, True)
    served.logged("too many wrong credentials")


@pytest.mark.parametrize("place", [{"path": f"/?token={TOKEN}"}, {"additional_headers": BEARER}])
def test_throttled_address_long_token_is_accepted(serve: Serve, place: dict[str, Any]) -> None:
    """It cannot be guessed, so guesses of other clients at its address do not lock it out."""
    served = serve(**AUTH, tokens={"short": "12345678"}, max_auth_failures=1, auth_failures_window=3600)
    assert served.refusal("/?token=guess") == (1008, "authentication failed")
    assert served.refusal("/?token=12345678")[1].startswith("too many failed attempts")
    assert served.refusal(f"/?token={TOKEN}x")[1].startswith("too many failed attempts")
    with served.client(**{"path": "/", **place}) as client:
        assert talks(client)


def test_throttled_address_skips_other_strategies() -> None:
    """Only a strategy with ``authenticate_throttled`` is called, and without waiting."""

    class Waiting:
        async def authenticate(self, request: Any) -> Any:
            raise AssertionError("asked")

    class Plain:
        def authenticate(self, request: Any) -> Any:
            raise AssertionError("asked")

        def authenticate_throttled(self, request: Any) -> Any:
            return Identified("alice") if request.query == "alice" else Rejected("unknown")

    log = logging.getLogger("test")
    asked = [StrategyRunner("a", "plugin", strategy, None, log) for strategy in (Waiting(), Plain())]  # type: ignore[arg-type]
    for query, found in (("alice", [None, Identified("alice")]), ("bob", [None, None])):
        assert [strategy.authenticate_throttled(make_request(query=query)) for strategy in asked] == found


SLOW = """
import asyncio
from zcli_core.auth.contract import Identified, Rejected

judged = []

class Slow:
    async def authenticate(self, request):
        judged.append(request.query)
        for _ in range(20):
            await asyncio.sleep(0.001)
        return Identified("alice") if request.query.startswith("right") else Rejected("wrong")

@hookimpl
def zcli_auth_strategies():
    return [Provider("slow", "waits", lambda context: Slow())]
"""


def test_throttle_limits_simultaneous_guesses(serve: Serve, site: Site) -> None:
    """No more credentials of an address are checked at once than may fail; valid ones wait their turn."""
    import sys

    site.plugin("zcli_slow", SLOW)
    settings = {"require_auth": True, "auth": ["slow", "token"], "token": TOKEN, "auth_failures_window": 3600}
    served = serve(**settings, max_auth_failures=3)
    with contextlib.ExitStack() as stack:
        for number in range(10):  # the server reads them before it responds to the first
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", served.port)))
            sock.sendall(upgrade_request(target=f"/?right{number}"))
        eventually(lambda: served.websocket.client_count == 10)
    judged = sys.modules["zcli_slow"].judged
    judged.clear()
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.create_connection(("127.0.0.1", served.port))) for _ in range(30)]
        for number, sock in enumerate(socks):
            sock.sendall(upgrade_request(target="/?right" if number == 29 else f"/?guess{number}"))
        ends = [_until_closed(sock) for sock in socks]
    assert len(judged) == 3
    assert sum(b"authentication failed" in end for end in ends) == 3
    assert sum(b"too many failed attempts" in end for end in ends) == 27
    with served.client(f"/?token={TOKEN}") as client:
        assert talks(client)


def _until_closed(sock: socket.socket) -> bytes:
    sock.settimeout(20)
    answer = b""
    while b"\x88" not in answer.partition(b"\r\n\r\n")[2]:
        answer += sock.recv(4096)
    return answer


def test_throttle_ends_with_the_window(serve: Serve) -> None:
    """The valid token is then accepted again."""
    served = serve(**SHORT, max_auth_failures=1, auth_failures_window=0.5)
    assert served.refusal("/?token=guess") == (1008, "authentication failed")

    def is_let_in() -> bool:
        with served.client("/?token=short-token-15c") as client:
            try:
                return talks(client)
            except Exception:
                return False

    eventually(is_let_in)


# --- by HTTP status ---


def test_refuse_with_http_sends_a_status(serve: Serve) -> None:
    """403 for the origin, 401 for credentials, 429 for guessing, 503 for a full server."""
    served = serve(
        **SHORT, refuse_with="http", allowed_origins=["http://localhost"], max_connections=1, max_auth_failures=1
    )
    assert served.status(f"/?token={SHORT['token']}", origin="http://evil.example") == 403
    assert served.status() == 401
    with served.client(f"/?token={SHORT['token']}"):
        assert served.status(f"/?token={SHORT['token']}") == 503
    eventually(lambda: served.websocket.client_count == 0)
    assert served.status("/?token=wrong") == 401
    assert served.status(f"/?token={SHORT['token']}") == 429


# --- subprotocols ---


def test_subprotocol_of_application_is_preferred(serve: Serve) -> None:
    """The best that the client offers; none if it offers none of them."""
    served = serve(**AUTH, subprotocols=["chat.v2", "chat.v1"])
    for offered, agreed in [
        (["bearer", TOKEN, "chat.v1", "chat.v2"], "chat.v2"),
        (["bearer", TOKEN, "chat.v1"], "chat.v1"),
        (["bearer", TOKEN, "other"], "bearer"),
    ]:
        with served.client(subprotocols=offered) as client:
            assert client.subprotocol == agreed
            (connection,) = eventually(lambda: served.websocket.clients)
            assert connection.subprotocol == agreed
        eventually(lambda: served.websocket.client_count == 0)

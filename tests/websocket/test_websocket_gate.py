"""The gate on a running server: limit, origin, credentials, throttle; and what of it reaches client and log."""

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
from zcli_auth.token import MAX_LENGTH

from zcli_core.auth.contract import Identified, Rejected
from zcli_core.errors import ConfigError
from zcli_core.testing.auth import make_request
from zcli_core.testing.websocket.client import upgrade_request
from zcli_core.websocket.strategies import AskedStrategy

Serve = Callable[..., Served]
AUTH: dict[str, Any] = {"require_auth": True, "token": TOKEN}
BEARER = {"Authorization": f"Bearer {TOKEN}"}


class Heard:
    """A handler that notes what reaches it."""

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
def test_the_right_token_lets_in_wherever_it_is_shown(serve: Serve, shown: dict[str, Any]) -> None:
    """In the query, a header or a subprotocol, of which ``bearer`` is answered."""
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
def test_anything_else_is_closed_with_1008_and_never_reaches_the_handler(
    serve: Serve, shown: dict[str, Any], reason: str
) -> None:
    """No token, a wrong one, one too long, one that is no ASCII, one shown twice; and nothing of it is logged."""
    heard = Heard()
    served = serve(heard, **AUTH)
    assert served.refusal(**shown) == (1008, reason)
    assert heard.messages == []
    log = served.logged("refused 127.0.0.1:")
    for secret in (TOKEN, "wrong", "xxxx"):
        assert secret not in log


def test_token_of_the_greatest_length_lets_in(serve: Serve) -> None:
    """A token that can be configured can be shown."""
    token = "x" * MAX_LENGTH
    with serve(require_auth=True, token=token).client(f"/?token={token}") as client:
        assert talks(client)


@pytest.mark.parametrize("place", ["path", "authorization", "subprotocol"])
def test_a_token_of_a_megabyte_is_refused_and_not_kept(serve: Serve, place: str) -> None:
    """It is over the transport's limit for a head; a page is told so all the same."""
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
def test_token_cookie_admits(serve: Serve, cookies: str) -> None:
    """A page's session cookie, among other cookies, in quotes or not."""
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
def test_token_cookie_other_than_one_right_is_refused(
    serve: Serve, settings: dict[str, Any], cookies: str, path: str, reason: str
) -> None:
    """No cookie is read unless its name is set, and two tokens are none."""
    served = serve(**AUTH, **settings)
    assert served.refusal(path, additional_headers={"Cookie": cookies}) == (1008, reason)
    assert TOKEN not in served.log()


def test_token_cookie_is_not_taken_from_strange_pages(serve: Serve) -> None:
    """Browsers send cookies for every page, so the page's origin has to be this host's own or listed."""
    served = serve(**AUTH, token_cookie="session")
    cookies = {"Cookie": f"session={TOKEN}"}
    refused = served.refusal(origin="https://evil.example", additional_headers=cookies)
    assert refused == (1008, "origin not allowed")


@pytest.mark.parametrize("origin", ["*", "null", "file://"])
def test_token_cookie_with_origins_of_all_sites_is_an_error(make_z: Callable[..., Any], origin: str) -> None:
    """Any page could then use a visitor's cookie."""
    z = make_z(**AUTH, token_cookie="session", allowed_origins=[origin])
    with pytest.raises(ConfigError, match=r"websocket\.token_cookie \(zSpark\) takes the token from a cookie"):
        z.comm.websocket.start_background(port=0)


def test_several_tokens_tell_their_holders_apart(serve: Serve) -> None:
    """``tokens`` gives each its name; the token without a name is ``default``."""
    served = serve(**AUTH, tokens={"alice": "token-of-alice", "sensor": "token-of-sensor"})
    found = {}
    for token in (TOKEN, "token-of-alice", "token-of-sensor"):
        with served.client(f"/?token={token}"):
            client = eventually(lambda: served.websocket.clients)[0]
            found[token] = served.websocket.auth.get_client_info(client)["identity"]
        eventually(lambda: served.websocket.client_count == 0)
    assert found == {TOKEN: "default", "token-of-alice": "alice", "token-of-sensor": "sensor"}


def test_what_is_known_of_a_client_holds_no_credential(serve: Serve) -> None:
    """Identity, strategy, origin, address and time; also once it has gone, and in its ``repr``."""
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


def test_info_of_what_is_no_client_is_a_type_error(serve: Serve) -> None:
    """A caller's mistake is said at once."""
    with pytest.raises(TypeError, match=r"websocket must be a client .*, got str"):
        serve().websocket.auth.get_client_info("alice")


def test_without_require_auth_everybody_enters_and_a_token_means_nothing(serve: Serve) -> None:
    """Nobody is asked, so nobody has an identity; the log says that a token is set in vain."""
    served = serve(token=TOKEN)
    with served.client("/?token=wrong") as client:
        assert talks(client)
        info = served.websocket.auth.get_client_info(served.websocket.clients[0])
    assert (info["identity"], info["strategy"]) == (None, None)
    assert "websocket.require_auth is not: everybody is admitted" in served.log()


# --- origins ---


@pytest.mark.parametrize("auth", [{}, AUTH], ids=["open", "with auth"])
@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "http://localhost.evil.com", "null", "file://", "http://localhost:81", "nonsense"],
)
def test_a_strange_origin_is_closed_with_1008_even_with_the_right_token(
    serve: Serve, origin: str, auth: dict[str, Any]
) -> None:
    """``allowed_origins`` is enforced whenever it is set."""
    heard = Heard()
    served = serve(heard, **auth, allowed_origins=["http://localhost"])
    assert served.refusal(f"/?token={TOKEN}", origin=origin) == (1008, "origin not allowed")
    assert heard.messages == []


@pytest.mark.parametrize("settings", [{}, {**AUTH, "allowed_origins": ["http://localhost"]}], ids=["open", "with auth"])
def test_two_origins_are_closed_with_1008(serve: Serve, settings: dict[str, Any]) -> None:
    """A browser sends one; two are somebody's attempt to be read differently by two programs."""
    served = serve(**settings)
    headers = [("Origin", "http://localhost"), ("Origin", "http://localhost")]
    assert served.refusal(f"/?token={TOKEN}", additional_headers=headers) == (1008, "origin not allowed")


def test_an_admitted_origin_still_needs_the_token(serve: Serve) -> None:
    """The origin says which page, not who."""
    served = serve(**AUTH, allowed_origins=["http://localhost"])
    assert served.refusal(origin="http://localhost") == (1008, "authentication required")
    with served.client(f"/?token={TOKEN}", origin="http://localhost") as client:
        assert talks(client)


def test_a_program_has_no_origin_and_goes_on_to_the_strategies(serve: Serve) -> None:
    """Backends send none."""
    served = serve(**AUTH, allowed_origins=["http://localhost"])
    with served.client(f"/?token={TOKEN}") as client:
        assert talks(client)


def test_file_admits_both_names_that_browsers_have_for_it_and_says_so(serve: Serve) -> None:
    """Chromium's and Firefox's; the log warns that null is not only files."""
    served = serve(allowed_origins=["file://"])
    for origin in ("file://", "null"):
        with served.client(origin=origin) as client:
            assert talks(client)
    assert "so may every page whose origin is 'null'" in served.log()


@pytest.mark.parametrize("auth", [{}, AUTH], ids=["open", "with auth"])
def test_default_origins_admit_this_hosts_pages_only(serve: Serve, auth: dict[str, Any]) -> None:
    """Pages of other sites are refused, also with a name that was made to point here (DNS rebinding)."""
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
def test_default_origins_admit_files_on_open_loopback(serve: Serve, origin: str) -> None:
    """A page that is opened from a file works without a setting, unless credentials are asked for."""
    with serve().client(origin=origin) as client:
        assert talks(client)
    closed = serve(**AUTH)
    assert closed.refusal(f"/?token={TOKEN}", origin=origin) == (1008, "origin not allowed")
    closed.logged("to admit it: allowed_origins = ['file://']")


def test_default_origins_behind_trusted_proxy_admit_its_name(serve: Serve) -> None:
    """The proxy passes the page's name on in Host; without the proxy that name is a stranger's."""
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
    """``*`` is for those who want all."""
    served = serve(allowed_origins=["*"])
    for origin in ("https://evil.example", "null", "alice"):
        with served.client(origin=origin) as client:
            assert talks(client)


def test_the_log_has_the_very_setting_that_would_admit_an_origin(serve: Serve) -> None:
    """Copied from there, it does."""
    served = serve(allowed_origins=["http://localhost"])
    served.refusal(origin="https://shop.example")
    advice = "allowed_origins = ['http://localhost', 'https://shop.example']"
    served.logged(advice)
    again = serve(allowed_origins=["http://localhost", "https://shop.example"])
    with again.client(origin="https://shop.example") as client:
        assert talks(client)


def test_what_a_client_sends_is_escaped_and_cut_in_the_log(serve: Serve) -> None:
    """No colours, and not more than a line."""
    served = serve(allowed_origins=[])
    served.refusal(additional_headers={"Origin": "http://a\x9b31m" + "x" * 5000})
    log = served.logged("is not an origin")
    assert "\x9b" not in log
    assert "x" * 200 not in log


# --- the origin strategy ---


def test_the_origin_strategy_admits_pages_and_no_programs(serve: Serve) -> None:
    """Its identity is the origin."""
    served = serve(require_auth=True, auth=["origin"], allowed_origins=["https://chat.example"])
    assert served.refusal() == (1008, "authentication required")
    assert served.refusal(origin="https://evil.example") == (1008, "origin not allowed")
    with served.client(origin="https://chat.example"):
        (client,) = eventually(lambda: served.websocket.clients)
        assert served.websocket.auth.get_client_info(client)["identity"] == "https://chat.example"


@pytest.mark.parametrize("origin", ["alice", "https://alice.example", "null", "file://", "https://", ""])
def test_origin_strategy_any_identifies_nobody(serve: Serve, origin: str) -> None:
    """``*`` and ``file://`` admit whatever a client sends as its origin, so it must not become an identity."""
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


def test_identities_of_two_strategies_never_clash(serve: Serve, site: Site) -> None:
    """A strategy that takes the name of another one's client does not become that client."""
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


def test_strategies_are_asked_in_order_and_the_first_that_knows_decides(serve: Serve) -> None:
    """A page needs no token here, a program does; a wrong token is not healed by the next strategy."""
    served = serve(require_auth=True, auth=["token", "origin"], token=TOKEN, allowed_origins=["https://chat.example"])
    with served.client(origin="https://chat.example") as client:
        assert talks(client)
    with served.client(f"/?token={TOKEN}") as client:
        assert talks(client)
    assert served.refusal("/?token=wrong", origin="https://chat.example")[0] == 1008


# --- the limit ---


def test_one_client_too_many_is_closed_with_1013_and_a_freed_place_is_usable_at_once(serve: Serve) -> None:
    """Over and over, without a pause."""
    served = serve(max_connections=2)
    with contextlib.ExitStack() as stack:
        stack.enter_context(served.client())
        for _ in range(20):
            with served.client() as second:
                assert served.refusal() == (1013, "the server is full")
                assert talks(second)
    served.logged("2 clients are connected, or their handlers still run (websocket.max_connections)")


def test_the_limit_comes_before_the_credentials(serve: Serve) -> None:
    """A full server spends nothing on a stranger."""
    served = serve(**AUTH, max_connections=1)
    with served.client(f"/?token={TOKEN}"):
        assert served.refusal("/?token=wrong") == (1013, "the server is full")


# --- guessing ---


SHORT = {"require_auth": True, "token": "short-token-15c"}


def test_wrong_credentials_are_soon_refused_unheard(serve: Serve) -> None:
    """Even the right one has to wait then if it could have been guessed; whoever shows none was never guessing."""
    served = serve(**SHORT, max_auth_failures=3, auth_failures_window=3600)
    for _ in range(5):
        assert served.refusal() == (1008, "authentication required")
    for _ in range(3):
        assert served.refusal("/?token=guess") == (1008, "authentication failed")
    code, reason = served.refusal("/?token=short-token-15c")
    assert (code, reason.startswith("too many failed attempts, wait ")) == (1008, True)
    served.logged("too many wrong credentials")


@pytest.mark.parametrize("place", [{"path": f"/?token={TOKEN}"}, {"additional_headers": BEARER}])
def test_throttled_address_long_token_is_admitted(serve: Serve, place: dict[str, Any]) -> None:
    """It cannot be guessed, so other people's guesses behind the same address keep nobody out."""
    served = serve(**AUTH, tokens={"short": "12345678"}, max_auth_failures=1, auth_failures_window=3600)
    assert served.refusal("/?token=guess") == (1008, "authentication failed")
    assert served.refusal("/?token=12345678")[1].startswith("too many failed attempts")
    assert served.refusal(f"/?token={TOKEN}x")[1].startswith("too many failed attempts")
    with served.client(**{"path": "/", **place}) as client:
        assert talks(client)


def test_throttled_address_waiting_strategy_is_not_asked() -> None:
    """Nor is any other that does not offer to judge there; one that does is, without waiting."""

    class Waiting:
        async def authenticate(self, request: Any) -> Any:
            raise AssertionError("asked")

    class Plain:
        def authenticate(self, request: Any) -> Any:
            raise AssertionError("asked")

        def authenticate_throttled(self, request: Any) -> Any:
            return Identified("alice") if request.query == "alice" else Rejected("unknown")

    log = logging.getLogger("test")
    asked = [AskedStrategy("a", "plugin", strategy, None, log) for strategy in (Waiting(), Plain())]  # type: ignore[arg-type]
    for query, found in (("alice", [None, Identified("alice")]), ("bob", [None, None])):
        assert [strategy.judge_throttled(make_request(query=query)) for strategy in asked] == found


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
    return [Provider("slow", "asks somebody", lambda context: Slow())]
"""


def test_throttle_guesses_at_once_are_not_all_judged(serve: Serve, site: Site) -> None:
    """While a strategy waits, no more guesses of an address are judged than may fail; correct ones wait their turn."""
    import sys

    site.plugin("zcli_slow", SLOW)
    settings = {"require_auth": True, "auth": ["slow", "token"], "token": TOKEN, "auth_failures_window": 3600}
    served = serve(**settings, max_auth_failures=3)
    with contextlib.ExitStack() as stack:
        for number in range(10):  # the server reads them before it answers the first
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


def test_the_wait_ends_with_the_window(serve: Serve) -> None:
    """And then the right token is right again."""
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


def test_refusals_can_be_told_by_http_status(serve: Serve) -> None:
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


def test_the_applications_subprotocol_is_agreed_on_before_bearer(serve: Serve) -> None:
    """The best of those that the client offers; none if it offers none of them."""
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

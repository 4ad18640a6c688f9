"""Origins: what a rule admits, and similar origins that it does not admit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zcli_core.net.headers import Headers
from zcli_core.net.origins import OriginRules, parse_origin, setting_that_admits
from zcli_core.websocket.contract import Request
from zcli_core.websocket.default_origins import DefaultOrigins

LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
HOSTS = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
SCHEMES = st.sampled_from(["http", "https"])
PORTS = st.integers(1, 65535)
STRICT = DefaultOrigins("127.0.0.1", on_loopback=True, require_auth=True)


def _request(
    host: str = "a.example", reached: str = "127.0.0.1", client: str = "127.0.0.1", tls: bool = False
) -> Request:
    return Request("GET", "/", "", Headers([("Host", host)]), (client, 50000), (reached, 8765), tls)


@pytest.mark.parametrize(
    ("rule", "origin"),
    [
        ("http://localhost", "http://localhost"),
        ("http://localhost", "http://localhost:80"),
        ("https://example.com:443", "https://example.com"),
        ("HTTP://LocalHost", "http://localhost"),
        ("http://localhost:*", "http://localhost"),
        ("http://localhost:*", "http://localhost:3000"),
        ("https://*.example.com", "https://a.example.com"),
        ("https://*.example.com", "https://a.b.example.com"),
        ("https://*.example.com:*", "https://a.example.com:8443"),
        ("http://[::1]:8000", "http://[0:0:0:0:0:0:0:1]:8000"),
        ("file://", "file://"),
        ("file://", "null"),
        ("null", "null"),
        ("*", "https://anything.example"),
        ("*", "null"),
        ("chrome-extension://abcdef", "chrome-extension://abcdef"),
        ("http://localhost", "http://localhost/"),
        ("http://localhost/", "http://localhost"),
        ("http://localhost:*", "http://localhost:3000/"),
        ("https://chat.example", "wss://chat.example"),
        ("https://*.example.com", "wss://a.example.com/"),
        ("ws://localhost:8765", "http://localhost:8765"),
    ],
)
def test_rule_admits_matching_origin(rule: str, origin: str) -> None:
    """Scheme, host and port are equal or match a wildcard."""
    assert OriginRules([rule]).admits(origin)


@pytest.mark.parametrize(
    ("rule", "origin"),
    [
        ("http://localhost", "http://localhost.evil.com"),
        ("http://localhost", "http://localhost:3000"),
        ("http://localhost", "https://localhost"),
        ("http://localhost", "http://localhost@evil.com"),
        ("http://localhost", "http://evil.com#http://localhost"),
        ("http://localhost", "http://localhost//"),
        ("http://localhost", "http://localhost/path"),
        ("http://localhost", "http://localhost/?query"),
        ("http://localhost", "wss://localhost"),
        ("http://localhost", "ws://localhost:81"),
        ("http://localhost", "ws://localhost.evil.com/"),
        ("http://localhost", " http://localhost"),
        ("http://localhost", "http://localhost, http://evil.com"),
        ("http://localhost", "http://localhost\n"),
        ("http://localhost", ""),
        ("http://localhost", "null"),
        ("http://localhost", "file://"),
        ("http://localhost:*", "http://localhost.evil.com:80"),
        ("http://localhost:*", "http://localhost:*"),
        ("http://localhost:*", "http://localhost:0"),
        ("http://localhost:*", "http://localhost:99999"),
        ("https://*.example.com", "https://example.com"),
        ("https://*.example.com", "https://evilexample.com"),
        ("https://*.example.com", "https://.example.com"),
        ("https://*.example.com", "https://*.example.com"),
        ("https://*.example.com", "https://a.example.com.evil.com"),
        ("https://*.example.com", "http://a.example.com"),
        ("file://", "file:///etc/passwd"),
        ("null", "file://"),
        ("null", "NULL"),
        ("http://[::1]", "http://[::2]"),
        ("http://127.0.0.1", "http://127.0.0.1.evil.com"),
    ],
)
def test_rule_refuses_other_origin(rule: str, origin: str) -> None:
    """A different part, or an invalid origin, is refused."""
    assert not OriginRules([rule]).admits(origin)


@pytest.mark.parametrize(
    "pattern",
    ["localhost", "http://", "http://a/b", "https://*", "http://*:3000", "https://a.*.com", "https://**.com",
     "http://a b", "http://a:b", "http://a:70000", "", "https://*.*.com", "http://user@host", "https://*example.com"],
)  # fmt: skip
def test_rule_invalid_raises(pattern: str) -> None:
    """A rule that could never match, or would match too much, is an error."""
    with pytest.raises(ValueError, match=r"is not an origin|may stand only"):
        OriginRules([pattern])


def test_rules_invalid_are_all_reported() -> None:
    with pytest.raises(ValueError) as raised:
        OriginRules(["http://good", "bad", "worse"])
    assert ["'bad'" in raised.value.args[0], "'worse'" in raised.value.args[1]] == [True, True]


def test_rules_empty_admit_nothing() -> None:
    assert not OriginRules([]).admits("http://localhost")


@given(scheme=SCHEMES, host=HOSTS, port=PORTS)
def test_rule_of_an_origin_admits_only_it(scheme: str, host: str, port: int) -> None:
    """Another scheme, port, suffix or prefix is refused."""
    origin = f"{scheme}://{host}:{port}"
    rules = OriginRules([origin])
    assert rules.admits(origin)
    assert rules.admits(origin.upper())
    other = "https" if scheme == "http" else "http"
    for stranger in (
        f"{other}://{host}:{port}",
        f"{scheme}://{host}:{port % 65535 + 1}",
        f"{scheme}://{host}.evil:{port}",
        f"{scheme}://evil{host}:{port}",
        f"{scheme}://evil.{host}:{port}",
        f"{origin}/path",
        f"{origin}.evil.com",
    ):
        assert not rules.admits(stranger), stranger


@given(host=HOSTS, below=HOSTS, scheme=SCHEMES)
def test_wildcard_admits_subdomains_only(host: str, below: str, scheme: str) -> None:
    """One or more labels before the whole domain."""
    rules = OriginRules([f"{scheme}://*.{host}"])
    assert rules.admits(f"{scheme}://{below}.{host}")
    assert not rules.admits(f"{scheme}://{host}")
    assert not rules.admits(f"{scheme}://{host}.{below}") or f"{host}.{below}".endswith(f".{host}")
    assert not rules.admits(f"{scheme}://x{host}")


@given(st.text(max_size=400))
def test_admits_any_text_without_error(text: str) -> None:
    """Every Origin is admitted or refused, and refused without a rule for it."""
    assert not OriginRules(["https://a.example", "https://*.b.example:*"]).admits(text) or parse_origin(text)
    setting_that_admits(text)
    assert not STRICT.admits(text, _request(), forwarded=True) or parse_origin(text)


@given(scheme=SCHEMES, host=HOSTS, port=PORTS)
def test_advised_setting_admits_the_origin(scheme: str, host: str, port: int) -> None:
    """The setting in the log admits the origin that it was made for."""
    origin = f"{scheme}://{host}:{port}"
    advised = setting_that_admits(origin)
    assert advised is not None
    assert OriginRules([advised]).admits(origin)


@pytest.mark.parametrize("origin", ["null", "file://"])
def test_advised_setting_for_files_is_file(origin: str) -> None:
    """For both names that browsers send."""
    assert setting_that_admits(origin) == "file://"


@pytest.mark.parametrize(
    ("header", "identity"),
    [
        ("https://chat.example", "https://chat.example"),
        ("HTTPS://Chat.Example:443/", "https://chat.example"),
        ("wss://a.b.example:9/", "https://a.b.example:9"),
        ("https://other.example", None),
        ("alice", None),
        ("null", None),
        ("file://", None),
        ("", None),
    ],
)
def test_identify_needs_a_rule_with_a_host(header: str, identity: str | None) -> None:
    """All origins are admitted here, but only a page of a rule with a host has an identity, in one spelling."""
    rules = OriginRules(["*", "file://", "https://chat.example", "https://*.b.example:*"])
    assert rules.admits(header)
    found = rules.identify(header)
    assert (found and str(found)) == identity


# --- without rules ---


@pytest.mark.parametrize("require_auth", [False, True])
@pytest.mark.parametrize(
    ("origin", "listening", "reached", "admitted"),
    [
        ("http://localhost:3000", "127.0.0.1", "127.0.0.1", True),
        ("http://localhost/", "127.0.0.1", "127.0.0.1", True),
        ("ws://127.0.0.1:8765", "127.0.0.1", "127.0.0.1", True),
        ("wss://[::1]:8765/", "::1", "::1", True),
        ("https://127.0.0.1", "127.0.0.1", "127.0.0.1", True),
        ("http://127.8.9.10:80", "127.0.0.1", "127.0.0.1", True),
        ("http://[::1]:80", "localhost", "::1", True),
        ("http://192.0.2.7", "0.0.0.0", "192.0.2.7", True),
        ("http://192.0.2.7", "::", "::ffff:192.0.2.7", True),
        ("http://[2001:db8::7]:80", "::", "2001:db8:0::7", True),
        ("http://chat.example", "chat.example", "192.0.2.7", True),
        ("http://this-machine:80", "0.0.0.0", "192.0.2.7", True),
        ("http://this-machine.local", "0.0.0.0", "192.0.2.7", True),
        ("http://this-machine", "127.0.0.1", "127.0.0.1", False),
        ("http://0.0.0.0", "0.0.0.0", "192.0.2.7", False),
        ("https://evil.example", "0.0.0.0", "192.0.2.7", False),
        ("http://evil.example:8765", "127.0.0.1", "127.0.0.1", False),
        ("http://localhost.evil.example", "127.0.0.1", "127.0.0.1", False),
        ("http://127.0.0.1.evil.example", "127.0.0.1", "127.0.0.1", False),
        ("http://evil.localhost", "127.0.0.1", "127.0.0.1", False),
        ("http://192.0.2.9", "0.0.0.0", "192.0.2.7", False),
        ("chrome-extension://localhost", "127.0.0.1", "127.0.0.1", False),
        ("ftp://localhost", "127.0.0.1", "127.0.0.1", False),
        ("alice", "127.0.0.1", "127.0.0.1", False),
        ("", "127.0.0.1", "127.0.0.1", False),
    ],
)
def test_default_origins_admit_own_and_loopback(
    monkeypatch: pytest.MonkeyPatch, origin: str, listening: str, reached: str, admitted: bool, require_auth: bool
) -> None:
    """With and without ``require_auth``, and whatever the Host header says (DNS rebinding)."""
    monkeypatch.setattr("socket.gethostname", lambda: "This-Machine")
    parsed = parse_origin(origin)
    host = "evil.example:8765" if parsed is None or parsed.host[-1].isdigit() else f"{parsed.host}:8765"
    request = _request(host, reached)
    default = DefaultOrigins(listening, listening == "127.0.0.1", require_auth)
    assert default.admits(origin, request, forwarded=False) is admitted


@pytest.mark.parametrize(
    ("origin", "client", "require_auth", "admitted"),
    [
        ("http://localhost:3000", "127.0.0.1", True, True),
        ("http://localhost:3000", "::1", True, True),
        ("http://localhost:3000", "::ffff:127.0.0.1", True, True),
        ("http://localhost:3000", "203.0.113.7", True, False),
        ("http://127.0.0.1", "203.0.113.7", True, False),
        ("http://localhost:3000", "203.0.113.7", False, True),
        ("https://chat.example", "203.0.113.7", True, True),
    ],
)
def test_default_origins_loopback_page_elsewhere(origin: str, client: str, require_auth: bool, admitted: bool) -> None:
    """A loopback page of another machine cannot use the credentials of the browser there."""
    default = DefaultOrigins("chat.example", on_loopback=False, require_auth=require_auth)
    request = _request(client=client)
    assert default.admits(origin, request, forwarded=True) is admitted


@pytest.mark.parametrize("origin", ["null", "file://"])
@pytest.mark.parametrize(
    ("on_loopback", "require_auth", "client", "admitted"),
    [
        (True, False, "127.0.0.1", True),
        (True, True, "127.0.0.1", False),
        (False, False, "127.0.0.1", False),
        (True, False, "203.0.113.7", False),
    ],
)
def test_default_origins_null_only_on_loopback(
    origin: str, on_loopback: bool, require_auth: bool, client: str, admitted: bool
) -> None:
    """``null`` is the origin of files and of sandboxed frames of every site."""
    default = DefaultOrigins("127.0.0.1", on_loopback, require_auth)
    request = _request(client=client)
    assert default.admits(origin, request, forwarded=client != "127.0.0.1") is admitted


@pytest.mark.parametrize(
    ("origin", "host", "how", "admitted"),
    [
        ("https://chat.example", "chat.example", {"tls": True}, True),
        ("https://chat.example:8443", "Chat.Example:8765", {"tls": True}, True),
        ("http://chat.example", "chat.example", {"tls": True}, False),
        ("https://evil.example", "chat.example", {"tls": True}, False),
        ("https://chat.example", "chat.example", {"forwarded": True}, True),
        ("http://chat.example", "chat.example", {"forwarded": True}, True),
        ("https://evil.example", "backend", {"forwarded": True}, False),
        ("https://chat.example", "", {"forwarded": True}, False),
        ("http://chat.example", "chat.example", {}, False),
        ("http://203.0.113.9", "203.0.113.9:8765", {}, True),
        ("http://[2001:db8::9]", "[2001:db8:0::9]:8765", {}, True),
        ("http://203.0.113.9", "chat.example", {}, False),
    ],
)
def test_default_origins_host_header_needs_proof(origin: str, host: str, how: dict[str, Any], admitted: bool) -> None:
    """A name counts only over TLS or through a trusted proxy; an address cannot be rebound."""
    request = _request(host, "10.0.0.5", "198.51.100.3", how.get("tls", False))
    default = DefaultOrigins("0.0.0.0", on_loopback=False, require_auth=False)
    assert default.admits(origin, request, how.get("forwarded", False)) is admitted

"""Origins: what a rule admits, and everything that looks like it and is not admitted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zcli_core.comm.websocket.origins import OriginRules, is_own, parse_origin, setting_that_admits

LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?", fullmatch=True)
HOSTS = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
SCHEMES = st.sampled_from(["http", "https"])
PORTS = st.integers(1, 65535)


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
def test_a_rule_admits(rule: str, origin: str) -> None:
    """Scheme, host and port are the same, or a wildcard covers them."""
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
def test_a_rule_does_not_admit(rule: str, origin: str) -> None:
    """What differs in any part, or is no origin, stays out."""
    assert not OriginRules([rule]).admits(origin)


@pytest.mark.parametrize(
    "pattern",
    ["localhost", "http://", "http://a/b", "https://*", "http://*:3000", "https://a.*.com", "https://**.com",
     "http://a b", "http://a:b", "http://a:70000", "", "https://*.*.com", "http://user@host", "https://*example.com"],
)  # fmt: skip
def test_what_is_no_rule_is_refused_with_a_sentence(pattern: str) -> None:
    """A rule that could never match, or would match too much, is a mistake."""
    with pytest.raises(ValueError, match=r"is not an origin|in a host"):
        OriginRules([pattern])


def test_every_wrong_rule_is_named() -> None:
    """Not only the first."""
    with pytest.raises(ValueError) as raised:
        OriginRules(["http://good", "bad", "worse"])
    assert ["'bad'" in raised.value.args[0], "'worse'" in raised.value.args[1]] == [True, True]


def test_no_rules_admit_nobody() -> None:
    """An empty list is a list."""
    assert not OriginRules([]).admits("http://localhost")


@given(scheme=SCHEMES, host=HOSTS, port=PORTS)
def test_an_origin_admits_exactly_itself(scheme: str, host: str, port: int) -> None:
    """Any origin as a rule admits itself, and not with another scheme, port, suffix or prefix."""
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
def test_a_wildcard_admits_what_is_below_a_domain_and_nothing_else(host: str, below: str, scheme: str) -> None:
    """One or more labels in front, the whole domain behind."""
    rules = OriginRules([f"{scheme}://*.{host}"])
    assert rules.admits(f"{scheme}://{below}.{host}")
    assert not rules.admits(f"{scheme}://{host}")
    assert not rules.admits(f"{scheme}://{host}.{below}") or f"{host}.{below}".endswith(f".{host}")
    assert not rules.admits(f"{scheme}://x{host}")


@given(st.text(max_size=400))
def test_any_text_is_judged_without_an_error(text: str) -> None:
    """Whatever a client sends as its origin, the answer is yes or no, and no without a rule for it."""
    assert not OriginRules(["https://a.example", "https://*.b.example:*"]).admits(text) or parse_origin(text)
    setting_that_admits(text)
    is_own(text, "localhost", "127.0.0.1")


@given(scheme=SCHEMES, host=HOSTS, port=PORTS)
def test_the_advised_setting_admits(scheme: str, host: str, port: int) -> None:
    """What the log tells people to set does what it says."""
    origin = f"{scheme}://{host}:{port}"
    advised = setting_that_admits(origin)
    assert advised is not None
    assert OriginRules([advised]).admits(origin)


@pytest.mark.parametrize("origin", ["null", "file://"])
def test_the_advice_for_a_file_is_the_rule_for_files(origin: str) -> None:
    """Whatever the browser calls it."""
    assert setting_that_admits(origin) == "file://"


@pytest.mark.parametrize(
    ("origin", "listening", "reached", "own"),
    [
        ("http://localhost:3000", "127.0.0.1", "127.0.0.1", True),
        ("http://localhost/", "127.0.0.1", "127.0.0.1", True),
        ("ws://127.0.0.1:8765", "127.0.0.1", "127.0.0.1", True),
        ("wss://[::1]:8765/", "::1", "::1", True),
        ("ws://evil.com:8765", "127.0.0.1", "127.0.0.1", False),
        ("https://127.0.0.1", "127.0.0.1", "127.0.0.1", True),
        ("http://[::1]:80", "localhost", "::1", True),
        ("http://192.0.2.7", "0.0.0.0", "192.0.2.7", True),
        ("http://192.0.2.7", "::", "::ffff:192.0.2.7", True),
        ("http://chat.example", "chat.example", "192.0.2.7", True),
        ("http://localhost", "0.0.0.0", "192.0.2.7", False),  # the visitor's own machine, not this one
        ("http://0.0.0.0", "0.0.0.0", "192.0.2.7", False),
        ("http://evil.com:8765", "127.0.0.1", "127.0.0.1", False),
        ("http://localhost.evil.com", "127.0.0.1", "127.0.0.1", False),
        ("file://", "127.0.0.1", "127.0.0.1", False),
        ("null", "127.0.0.1", "127.0.0.1", False),
        ("ftp://localhost", "127.0.0.1", "127.0.0.1", False),
        ("http://localhost", None, None, False),  # a Unix socket has no pages
    ],
)
def test_own_pages_are_those_of_the_address_that_was_reached(
    origin: str, listening: str | None, reached: str | None, own: bool
) -> None:
    """Whatever a Host header says: it is not asked."""
    assert is_own(origin, listening, reached) is own


@pytest.mark.parametrize(
    ("origin", "client", "own"),
    [
        ("http://localhost:3000", "127.0.0.1", True),
        ("http://localhost:3000", "::1", True),
        ("http://localhost:3000", "::ffff:127.0.0.1", True),
        ("http://localhost:3000", "203.0.113.7", False),
        ("http://127.0.0.1", "203.0.113.7", False),
        ("https://chat.example", "203.0.113.7", True),
    ],
)
def test_loopback_pages_of_a_client_behind_a_proxy_are_not_own(origin: str, client: str, own: bool) -> None:
    """They are pages of the client's machine; only the proxy is on ours."""
    assert is_own(origin, "chat.example", "127.0.0.1", client) is own

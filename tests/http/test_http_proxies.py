"""The proxy that the environment names for a URL, for all transports."""

from __future__ import annotations

import pytest

from zcli_core.http.contract import TransportFailure, Url
from zcli_core.http.parts.proxies import proxy_for


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("socks5://user:hidden@127.0.0.1:1080", "HTTP_PROXY names a socks5:// proxy"),
        ("http://user:hidden@127.0.0.1:port", "HTTP_PROXY must be the address"),
        ("http://", "HTTP_PROXY must be the address"),
        ("http://us\udcffer:hidden@127.0.0.1:1", "HTTP_PROXY must be the address"),
        ("http://proxy\x7f:1", "HTTP_PROXY must be the address"),
    ],
)
def test_invalid_proxy_variable_is_named(monkeypatch: pytest.MonkeyPatch, value: str, why: str) -> None:
    """The message does not repeat the value, which may hold a password."""
    for name in ("http_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", value)
    with pytest.raises(TransportFailure) as caught:
        proxy_for(Url("http", "example.com", 80, "/"))
    assert caught.value.kind == "proxy"
    assert caught.value.message.startswith(why)
    assert "hidden" not in caught.value.message


@pytest.mark.parametrize(
    ("no_proxy", "host", "exempt"),
    [
        ("*", "example.com", True),
        ("example.com", "example.com", True),
        ("example.com", "api.example.com", True),
        (".example.com", "example.com", True),
        ("*.example.com", "api.example.com", True),
        ("EXAMPLE.com", "example.com", True),
        ("example.com.", "example.com", True),
        ("example.com:80", "example.com", True),
        ("example.com:443", "example.com", False),
        ("other.org example.com", "example.com", True),
        ("example.com", "notexample.com", False),
        ("example.com", "example.com.evil.org", False),
        ("", "example.com", False),
        (",.,", "example.com", False),
        ("10.0.0.0/8", "10.1.2.3", True),
        ("10.0.0.0/8", "11.1.2.3", False),
        ("10.1.2.3", "10.1.2.3", True),
        ("::1", "::1", True),
        ("[::1]:80", "::1", True),
        ("[::1]:81", "::1", False),
        ("fd00::/8", "fd12::1", True),
    ],
)
def test_no_proxy_accepts_every_kind_of_entry(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, host: str, exempt: bool
) -> None:
    """Entries are hosts, domains, addresses and networks, with or without a port."""
    for name in ("http_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert (proxy_for(Url("http", host, 80, "/")) is None) == exempt


def test_cgi_program_ignores_http_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://evil.example")
    monkeypatch.setenv("REQUEST_METHOD", "GET")
    assert proxy_for(Url("http", "example.com", 80, "/")) is None


def test_empty_lower_case_variable_is_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """It wins over the upper-case variable."""
    monkeypatch.setenv("HTTP_PROXY", "http://proxy.example:3128")
    monkeypatch.setenv("http_proxy", "")
    assert proxy_for(Url("http", "example.com", 80, "/")) is None


def test_proxy_repr_has_no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    """A repr may be logged."""
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("https_proxy", "http://user:hidden@proxy.example:3128")
    assert repr(proxy_for(Url("https", "example.com", 443, "/"))) == "<Proxy http://proxy.example:3128>"

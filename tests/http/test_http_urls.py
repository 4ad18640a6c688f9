"""Parsing URLs."""

from __future__ import annotations

import contextlib
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zcli_core.http.contract import TransportFailure, Url
from zcli_core.http.urls import parse_url, shown


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://host", "http://host/"),
        ("HTTP://HoSt:80/Path", "http://host/Path"),
        ("https://host:443/", "https://host/"),
        ("https://host:80/", "https://host:80/"),
        ("http://host:/", "http://host/"),
        ("http://host:08080/", "http://host:8080/"),
        ("http://host:65535/", "http://host:65535/"),
        ("http://host?query", "http://host/?query"),
        ("http://host#fragment", "http://host/"),
        ("http://host/a/./b/../c", "http://host/a/c"),
        ("http://host/../..", "http://host/"),
        ("http://host/.well-known/x", "http://host/.well-known/x"),
        ("http://host/a b?c d", "http://host/a%20b?c%20d"),
        ("http://host/ü?ü", "http://host/%C3%BC?%C3%BC"),
        ("http://host/%41%zz%", "http://host/%41%25zz%25"),
        ("http://host/[x]?[y]={z}", "http://host/%5Bx%5D?%5By%5D=%7Bz%7D"),
        ("http://bücher.example/", "http://xn--bcher-kva.example/"),
        ("http://my_service:8080/", "http://my_service:8080/"),
        ("http://example.com./", "http://example.com./"),
        ("http://[::1]:8080/x", "http://[::1]:8080/x"),
        ("http://[0:0::0:1]/", "http://[::1]/"),
        ("http://[fe80::1%25eth0]/", "http://[fe80::1%25eth0]/"),
        ("http://user:password@host/", "http://host/"),
    ],
)
def test_url_is_normalised(text: str, url: str) -> None:
    """See RFC 3986, section 6."""
    assert str(parse_url(text)[0]) == url


@pytest.mark.parametrize("text", ["example.com/path", "localhost:8000/path", "/path", "mailto:me@example.com"])
def test_url_without_scheme_error_shows_one(text: str) -> None:
    """``zcli http`` adds the scheme; a script has to write it."""
    with pytest.raises(TransportFailure, match="as in http:"):
        parse_url(text)


@pytest.mark.parametrize(
    ("text", "user_info"),
    [
        ("http://host/", None),
        ("http://user@host/", ("user", "")),
        ("http://:pw@host/", ("", "pw")),
        ("http://us%40er:p%3Aw@host/", ("us@er", "p:w")),
        ("http://user:p%40ss@host/", ("user", "p@ss")),
        ("http://@host/", None),
    ],
)
def test_url_credentials_are_taken_out(text: str, user_info: tuple[str, str] | None) -> None:
    """They are returned separately."""
    url, found = parse_url(text)
    assert found == user_info
    assert url.host == "host"


def test_url_zone_is_for_connecting_only() -> None:
    """It is not in the Host header."""
    url = parse_url("http://[fe80::1%25eth0]/")[0]
    assert url.host == "fe80::1%eth0"
    assert url.authority == "[fe80::1]"


@given(st.text() | st.builds("http://{}".format, st.text()) | st.builds("https://h/{}?{}".format, st.text(), st.text()))
def test_any_text_is_a_url_or_refused(text: str) -> None:
    """A URL is printable ASCII."""
    with contextlib.suppress(TransportFailure):
        url, _ = parse_url(text)
        assert all("!" <= character <= "~" for character in str(url))
        assert parse_url(str(url)) == (url, None)


@given(st.text(st.characters(categories=("L", "N", "P", "S", "Zs"))))
def test_url_path_keeps_its_quoting(text: str) -> None:
    """It is not quoted twice."""
    quoted = quote(text, safe="")
    if quoted not in (".", ".."):
        assert parse_url(f"http://host/{quoted}")[0] == Url("http", "host", 80, f"/{quoted}")


@given(st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=12), st.sampled_from("htfps:/@?#& ."))
def test_url_password_is_never_shown(password: str, noise: str) -> None:
    """Neither in the message nor in the shown URL."""
    for url in (
        f"http://user:{password}@host{noise}",
        f"ftp://u:{noise}{password}@h",
        f"http://h/?k={password}{noise}",
    ):
        assert password not in shown(url)


@pytest.mark.parametrize(
    ("text", "readable"),
    [
        ("http://ho st/path#access_token=hidden", "http://ho st/path#"),
        ("http://ho st/path?key=hidden#hidden", "http://ho st/path?"),
        ("http://ho st/?key=a@hidden", "http://***?"),
        ("http://ho st/#key=a@hidden", "http://***#"),
        ("http://user:hid?den@host:x/", "http://***?"),
        ("ho st#next=http://hidden", "ho st#"),
    ],
)
def test_shown_unreadable_url_ends_at_query_and_fragment(text: str, readable: str) -> None:
    """Either may hold a token, and an @ in it does not make it the host."""
    assert shown(text) == readable

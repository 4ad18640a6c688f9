"""Hosts and URLs: one spelling for each host, the same reading as in browsers, and no loss."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from in_memory import in_memory, raw_response

from zcli_core.http.contract import TransportFailure, Url
from zcli_core.http.parts.proxies import proxy_for
from zcli_core.http.redirects import same_site
from zcli_core.http.urls import parse_url, resolve
from zcli_core.net import connecting
from zcli_core.net.hosts import ascii_host
from zcli_core.net.validation import valid_host
from zcli_core.testing.http.peer import ScriptedServer


@pytest.mark.parametrize(
    ("name", "host"),
    [
        ("straße.example", "xn--strae-oqa.example"),
        ("STRASSE.example", "strasse.example"),
        ("faß.de", "xn--fa-hia.de"),
        ("βόλος.example", "xn--nxasmm1c.example"),
        ("Bücher.Example.", "xn--bcher-kva.example."),
        ("XN--Strae-OQA.example", "xn--strae-oqa.example"),
        ("ｅｘａｍｐｌｅ。com", "example.com"),
        ("exam\u00adple.com", "example.com"),
        ("my_service.bücher.example", "my_service.xn--bcher-kva.example"),
        ("نامه\u200cای.com", "xn--mgba3gch31f060k.com"),
        ("127.1", "127.0.0.1"),
        ("0x7F.1", "127.0.0.1"),
        ("0177.0.0.01", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("１２７.0.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("0x", "0.0.0.0"),
        ("0:0::0:1", "::1"),
        ("fe80::1%25eth0", "fe80::1%eth0"),
        ("fe80::1%eth0", "fe80::1%eth0"),
    ],
)
def test_host_has_one_spelling(name: str, host: str) -> None:
    """Names follow IDNA 2008 and UTS 46, numbers are IPv4 addresses as in browsers."""
    assert ascii_host(name) == host
    assert ascii_host(host) == host


@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "a..b", "a" * 64, "a." * 127 + "aa", "ü" * 60, "i❤.ws", "\u0301a", "a b", "a/b", "a@b", "a＠b"),
        *(
            "a％b",
            "a\u2044b",
            "1.2.3.4.5",
            "1.2.3.256",
            "4294967296",
            "08",
            "a.1",
            ":",
            "::g",
            "fe80::1%",
            "fe80::1%a b",
        ),
    ],
)
def test_host_that_is_invalid_raises(name: str) -> None:
    """What no browser would connect to is refused, with a reason that does not repeat it."""
    with pytest.raises(ValueError, match=r"^it "):
        ascii_host(name)


@given(st.text())
def test_host_is_ascii_or_refused(name: str) -> None:
    """Any text is a host in ASCII or raises ValueError."""
    with contextlib.suppress(ValueError):
        host = ascii_host(name)
        assert host.isascii()
        assert ascii_host(host) == host


def test_idna_is_imported_when_needed() -> None:
    """An ordinary URL does not pay for the tables of idna."""
    code = (
        "import sys; from zcli_core.http.urls import parse_url; parse_url('HTTP://Example.com:080/')\n"
        "assert 'idna' not in sys.modules and 'encodings.idna' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_idna_host_keeps_credentials_to_its_site() -> None:
    """A redirect to the other spelling of the host is the same site; one by IDNA 2003 is not."""
    moves = [raw_response(302, ("Location", "http://STRAßE.example/a"))]
    moves += [raw_response(302, ("Location", "http://strasse.example/b")), raw_response()]
    http, transport = in_memory(*moves)
    assert http.get("http://xn--strae-oqa.example/", auth=("user", "secret"))
    sent = [(found.request.url.host, found.header("Authorization") is not None) for found in transport.sent]
    assert sent == [("xn--strae-oqa.example", True), ("xn--strae-oqa.example", True), ("strasse.example", False)]


@pytest.mark.parametrize(
    ("no_proxy", "host", "is_exempt"),
    [
        ("straße.example", "straße.example", True),
        ("xn--strae-oqa.example", "straße.example", True),
        (".STRAßE.example", "www.straße.example", True),
        ("*.bücher.example", "www.bücher.example", True),
        ("strasse.example", "straße.example", False),
        ("127.0.0.1", "127.1", True),
        ("127.1", "127.0.0.1", True),
        ("[0:0::1]", "[::1]", True),
    ],
)
def test_no_proxy_compares_one_spelling(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, host: str, is_exempt: bool
) -> None:
    """NO_PROXY names the host in whatever spelling."""
    monkeypatch.setenv("http_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", no_proxy)
    assert (proxy_for(parse_url(f"http://{host}/")[0]) is None) is is_exempt


def test_proxy_host_is_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy's credentials go to the host that is registered under its name."""
    monkeypatch.setenv("http_proxy", "http://user:pw@straße.example:3128")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    proxy = proxy_for(parse_url("http://host.example/")[0])
    assert proxy is not None
    assert proxy.host == "xn--strae-oqa.example"


@pytest.mark.parametrize("make", ["make_http", "make_curl"])
@pytest.mark.parametrize("host", ["straße.example", "STRAßE.example."])
@pytest.mark.parametrize("is_named", [True, False])
def test_certificate_is_compared_in_ascii(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    make: str,
    host: str,
    is_named: bool,
) -> None:
    """A certificate is good for the host of IDNA 2008, not for the one of IDNA 2003."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("xn--strae-oqa.example" if is_named else "strasse.example").configure_cert(context)

    def tunnel(server: ScriptedServer, connection: socket.socket) -> None:
        server.read_request(connection)
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        with contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as secure:
            server.read_request(secure)
            secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")

    client = request.getfixturevalue(make)(ca_file=tmp_path / "ca.pem")
    with ScriptedServer(tunnel) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        assert (client.get(f"https://{host}/") is not None) is is_named
    assert (client.last_failure is None) is is_named
    assert is_named or client.last_failure.kind == "tls"


def test_port_check_host_is_ascii() -> None:
    """The port checks resolve the same host as a request."""
    assert valid_host("straße.example") == "xn--strae-oqa.example"
    with pytest.raises(ValueError, match="cannot be a host name"):
        valid_host("i❤.ws")


def test_command_ws_connects_to_the_idna_2008_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """``zcli ws connect`` sends its token to the host that is registered under the name."""
    from zcli_core.cli.ws_client import Client, ClientError, read_url

    asked = []

    def refuse(host: str, port: int, deadline: float) -> list[Any]:
        asked.append((host, port))
        raise ConnectionRefusedError(111, "refused")

    monkeypatch.setattr(connecting, "resolve", refuse)
    url, _ = read_url("ws://straße.example:8765/")
    with pytest.raises(ClientError, match="refused"):
        asyncio.run(Client.connect(url, [], None, 1000))
    assert asked == [("xn--strae-oqa.example", 8765)]
    with pytest.raises(ValueError, match="backslash"):
        read_url("ws://trusted.example\\@evil.example/")


def test_service_probe_resolves_the_idna_2008_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe looks up the same host as a request."""
    from zcli_core.services.contract import Exchange
    from zcli_core.services.probe_connection import NoConnectionError, ProbeConnection

    asked = []

    def nothing(host: Any, *_: Any, **__: Any) -> Any:
        asked.append(host.decode() if isinstance(host, bytes) else host)
        raise socket.gaierror(-2, "unknown")

    monkeypatch.setattr(socket, "getaddrinfo", nothing)
    with pytest.raises(NoConnectionError), ProbeConnection("straße.example", 5432, 1.0) as wire:
        wire.exchange(Exchange(b"x"))
    assert set(asked) == {"xn--strae-oqa.example"}


@pytest.mark.parametrize(
    "url",
    [
        "http://trusted.example\\@evil.example/",
        "http://trusted.example\\evil",
        "http:\\\\trusted.example/",
        "http://host/a\\b",
        "http://a@b@host/",
        "http://user:p@ss@host/",
        "http://user:pw@trusted.example@evil.example/",
        "http://ho\tst/",
        "http://host/\x7f",
        "http://[127.0.0.1]/",
        "http://[host]/",
        "http://[::1]x/",
        "http://::1/",
        "http://host:80:80/",
        "http://host:+80/",
        "http://host:8０/",
        "http://host:000000/",
        "http://host:" + "9" * 5000 + "/",
        "http://1.2.3.999/",
        "http://user:%ff@host/",
        "http://ho%73t/",
        "http://@/",
        "\u00a0http://host/",
    ],
)
def test_url_that_browsers_read_differently_is_refused(url: str) -> None:
    """A URL with two readings is not sent to either."""
    http, transport = in_memory()
    assert http.get(url) is None
    assert http.last_failure is not None
    assert http.last_failure.kind == "invalid_url"
    assert not transport.sent


@pytest.mark.parametrize("url", ["http://127.1/", "http://0x7f000001/", "http://2130706433/"])
def test_url_with_a_number_as_host_is_an_address(url: str) -> None:
    """The Host header names the address that is connected to."""
    assert parse_url(url)[0] == Url("http", "127.0.0.1", 80, "/")


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("?", "/a//b/c?"),
        ("", "/a//b/c?q=1"),
        ("#part", "/a//b/c?q=1"),
        ("?x", "/a//b/c?x"),
        ("d", "/a//b/d"),
        ("./d/../e?", "/a//b/e?"),
        ("../d", "/a//d"),
        ("../../../../d", "/d"),
        ("/x//y/?", "/x//y/?"),
        ("2026-11-28T10:00/x", "/a//b/2026-11-28T10:00/x"),
        ("/ü", "/%C3%BC"),
        ("/\u00c3\u00bc", "/%C3%BC"),
    ],
)
def test_redirect_is_resolved_without_loss(location: str, target: str) -> None:
    """Empty queries and empty path segments survive a redirect (RFC 3986, section 5.2)."""
    base = parse_url("http://host:8080/a//b/c?q=1")[0]
    assert resolve(base, location) == Url("http", "host", 8080, target)


@pytest.mark.parametrize(
    "location", ["http:/x", "http:x", "//", "///evil.example/", "/\\evil.example", "\\\\evil", "//a@b@c/"]
)
def test_redirect_that_browsers_read_differently_is_refused(location: str) -> None:
    """A Location with two readings is not followed."""
    base = parse_url("http://host/")[0]
    with pytest.raises(TransportFailure) as caught:
        resolve(base, location)
    assert caught.value.kind == "invalid_url"


@pytest.mark.parametrize(
    "location", ["/home", "?x", "http://[fe80::1]:8080/x", "http://[fe80::1%25eth0]:8080/", "//[FE80::1]:8080"]
)
def test_redirect_of_a_link_local_host_keeps_its_zone(location: str) -> None:
    """The zone survives, so that the next request can be connected and has its credentials."""
    base = parse_url("http://[fe80::1%25eth0]:8080/login")[0]
    after = resolve(base, location)
    assert after.host == "fe80::1%eth0"
    assert same_site(base, after)


def test_url_with_a_zone_is_whole_and_sent_without() -> None:
    """A response's url can be asked again; what goes over the wire has no zone (RFC 6874, section 4)."""
    http, _ = in_memory()
    response = http.get("http://[fe80::1%25eth0]:8080/x?")
    assert response is not None
    assert response.url == "http://[fe80::1%25eth0]:8080/x?"
    url = response.request.url
    assert parse_url(response.url)[0] == url
    assert url.absolute_form == "http://[fe80::1]:8080/x?"
    assert url.authority == "[fe80::1]:8080"


@given(
    st.builds(
        "http://{}:{}/{}?{}".format,
        st.sampled_from(["host", "bücher.example", "[::1]", "[fe80::1%25eth0]", "127.1", "a_b."]),
        st.integers(1, 65535),
        st.text(),
        st.text(),
    )
)
def test_url_survives_being_written_and_read(text: str) -> None:
    """The serialised form of a URL loses nothing."""
    with contextlib.suppress(TransportFailure):
        url = parse_url(text)[0]
        assert parse_url(str(url)) == (url, None)
        assert resolve(url, str(url)) == url

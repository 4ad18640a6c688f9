"""Fetching a key set from servers that are slow, broken, missing or not trusted."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from jwt_issuer import DEADLINE, KeyServer, hanging, jwks, rsa_key
from zcli_jwt.fetching import fetch
from zcli_jwt.keys import InvalidKey, read_jwks

from zcli_core.errors import ConfigError
from zcli_core.plugins.contract import Context
from zcli_core.testing.contract import make_context

pytestmark = pytest.mark.usefixtures("isolated")


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def server() -> Iterator[KeyServer]:
    """A server that publishes the key ``one``."""
    with KeyServer(jwks(one=rsa_key())) as found:
        yield found


def _context(**http: Any) -> Context:
    return make_context(http=http)


def trouble_with(url: str, timeout: float = DEADLINE, **http: Any) -> str:
    """Return the error of fetching a key set there."""
    with pytest.raises(InvalidKey) as trouble:
        read_jwks(fetch(url, _context(**http).config, timeout))
    return str(trouble.value)


def test_fetch_returns_the_body(server: KeyServer) -> None:
    """The request contains the query of the URL."""
    assert fetch(server.url, _context().config, DEADLINE) == server.body


@pytest.mark.parametrize("status", [204, 301, 302, 307, 308, 400, 401, 404, 500, 503])
def test_fetch_status_other_than_200_fails(server: KeyServer, status: int) -> None:
    """A redirect fails too, because keys are only accepted from the configured address."""
    server.status = status
    server.headers["Location"] = server.url
    found = trouble_with(server.url)
    assert found == f"the server responded with status {status}" or (
        status == 204 and "not a JSON Web Key Set" in found
    )
    assert server.requests == 1


def test_fetch_of_another_document_fails(server: KeyServer) -> None:
    """The example is a login page."""
    server.body = b"<!doctype html><title>Log in</title>"
    assert trouble_with(server.url) == 'not a JSON Web Key Set: expected {"keys": [...]}'


def test_fetch_oversize_body_fails(server: KeyServer) -> None:
    """The fetch ends at the limit, however long the body is."""

    def pour(handler: Any) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
        while True:
            handler.wfile.write(b" " * 65536)

    server.behave = pour
    assert trouble_with(server.url) == "larger than 262144 bytes"


def test_fetch_incomplete_body_fails(server: KeyServer) -> None:
    """A part of a key set is not used."""
    server.behave = lambda handler: handler.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\n{}")
    assert trouble_with(server.url) == "the response ended too early"
    server.behave = lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{}")
    assert "the server's response is invalid" in trouble_with(server.url)


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"\0" * 1000, b"HTTP/1.1 abc\r\n\r\n"])
def test_fetch_invalid_http_fails(server: KeyServer, answer: bytes) -> None:
    """The error does not quote the data."""
    server.behave = lambda handler: handler.wfile.write(answer)
    assert "the server's response is invalid" in trouble_with(server.url)


def test_fetch_unreachable_server_fails() -> None:
    """The name does not exist, or the port refuses connections."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert "cannot be reached" in trouble_with(f"http://127.0.0.1:{port}/")
    assert "cannot be reached" in trouble_with("https://nowhere.invalid/")


def test_fetch_silent_server_ends_at_the_timeout(server: KeyServer) -> None:
    """It does not wait longer than the timeout."""
    began = time.monotonic()
    with hanging(server):
        assert trouble_with(server.url, 0.3) in ("not received within 0.3 s", "the server does not respond")
    assert time.monotonic() - began < DEADLINE / 2


@pytest.mark.parametrize("start", [b"", b"HTTP/1.0 200 OK\r\n\r\n"], ids=["head", "body"])
def test_fetch_slow_server_ends_at_the_timeout(server: KeyServer, start: bytes) -> None:
    """The timeout is for the whole fetch, so single bytes do not extend it."""
    over = threading.Event()

    def trickle(handler: Any) -> None:
        handler.wfile.write(start)
        while not over.wait(0.05):
            handler.wfile.write(b"H")

    server.behave = trickle
    began = time.monotonic()
    assert trouble_with(server.url, 0.5) == "not received within 0.5 s"
    over.set()
    assert time.monotonic() - began < DEADLINE / 2


def test_fetch_untrusted_certificate_fails(tmp_path: Path) -> None:
    """The system's authorities are trusted, or those of http.ca_file."""
    import ssl

    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    (tmp_path / "empty.pem").touch()
    with KeyServer(jwks(one=rsa_key()), tls) as server:
        assert "certificate is not trusted" in trouble_with(server.url)
        assert server.requests == 0
        trusting = _context(ca_file=str(tmp_path / "ca.pem")).config
        assert read_jwks(fetch(server.url, trusting, DEADLINE)).keys[0].kid == "one"
        with pytest.raises(ConfigError, match=r"http\.ca_file .*empty\.pem holds no certificate"):
            _context(ca_file=str(tmp_path / "empty.pem"))
        other = server.url.replace("127.0.0.1", "localhost")
        assert "certificate is not trusted" in trouble_with(other, ca_file=str(tmp_path / "ca.pem"))


def test_fetch_uses_a_proxy_for_https_only(server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The proxy is used unless http.trust_env is off; addresses of this machine are contacted directly."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with KeyServer() as proxy:
        proxy.status = 403
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, proxy.url.partition("/jwks")[0])
        assert fetch(server.url, _context().config, DEADLINE) == server.body
        assert proxy.requests == 0
        assert trouble_with("https://nowhere.invalid/") == "the proxy refused the connection to the server"
        assert proxy.requests == 1
        assert "cannot be reached" in trouble_with("https://nowhere.invalid/", trust_env=False)
        assert proxy.requests == 1

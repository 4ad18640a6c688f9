"""TLS of the transport urllib3: authorities, messages, and the end of a connection."""

from __future__ import annotations

import os
import socket
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trustme

import zcli_core.net.client_tls
from zcli_core.http.client import HttpClient
from zcli_core.testing.http.peer import ScriptedServer, after_request, responding, response


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return tmp_path / "ca.pem"


def serving(certificate: trustme.LeafCert, **options: Any) -> ScriptedServer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    for name, value in options.items():
        setattr(context, name, value)
    return ScriptedServer(responding(response()), context)


def refused(http: HttpClient, server: ScriptedServer, why: str) -> None:
    assert http.get(server.url) is None
    assert http.last_failure is not None
    assert http.last_failure.kind == "tls", http.last_failure
    assert why in http.last_failure.message
    assert server.requests == []


def test_https_to_an_http_port_is_explained(http: HttpClient, httpbin: str) -> None:
    """The message asks whether it is an http:// address."""
    assert http.get(httpbin.replace("http:", "https:")) is None
    assert http.last_failure is not None
    assert http.last_failure.kind == "tls"
    assert "does not speak TLS" in http.last_failure.message


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the system's store is not a file there")
@pytest.mark.parametrize("openssl_knows", [True, False], ids=["openssl", "truststore"])
def test_system_authorities_are_trusted(
    http: HttpClient,
    authority: trustme.CA,
    ca_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    openssl_knows: bool,
) -> None:
    """They are used if ``http.ca_file`` is not set."""
    import zcli_urllib3.tls

    if not openssl_knows:
        for module in (zcli_urllib3.tls, zcli_core.net.client_tls):
            monkeypatch.setattr(module, "openssl_knows_the_system", lambda: False)
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    with serving(authority.issue_cert("127.0.0.1", "localhost")) as server:
        assert http.get(server.url), http.last_failure
        assert http.get(server.url.replace("127.0.0.1", "localhost")), http.last_failure
        assert http.get(f"{server.url}/again"), http.last_failure
    with serving(trustme.CA().issue_cert("127.0.0.1")) as server:
        refused(http, server, "certificate")


class LenientContext(ssl.SSLContext):
    """A context as in Python of Debian 12: a TLS connection may end without a close_notify."""

    def __new__(cls, protocol: int) -> LenientContext:
        made = super().__new__(cls, protocol)
        made.options |= ssl.OP_IGNORE_UNEXPECTED_EOF
        return made


@pytest.mark.skipif(not hasattr(ssl, "OP_IGNORE_UNEXPECTED_EOF"), reason="OpenSSL before 3.0")
def test_close_notify_is_required(
    make_http: Callable[..., HttpClient], authority: trustme.CA, ca_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body to the end of the connection fails without it, in every build of Python."""
    monkeypatch.setattr(zcli_core.net.client_tls, "ssl", SimpleNamespace(**{**vars(ssl), "SSLContext": LenientContext}))

    def break_off(server: ScriptedServer, connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\npart of i")
        os.close(connection.detach())

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with ScriptedServer(after_request(break_off), context) as server:
        http = make_http(ca_file=str(ca_file))
        assert http.get(server.url) is None
        assert http.last_failure is not None
        assert http.last_failure.kind == "reset", http.last_failure


def test_rest_of_a_tls_record_is_not_a_response(
    make_http: Callable[..., HttpClient], ca_file: Path, authority: trustme.CA
) -> None:
    """Surplus data in the same TLS record as the end of a body is not visible on the socket."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)

    def script(server: ScriptedServer, connection: socket.socket) -> None:
        while server.read_request(connection):
            head, _, body = response(b"ok").rpartition(b"\r\n")
            connection.sendall(head + b"\r\n")
            connection.sendall(body + response(b"unasked"))

    with ScriptedServer(script, context) as server:
        http = make_http(ca_file=ca_file)
        for _ in range(2):
            found = http.get(server.url)
            assert found is not None, http.last_failure
            assert found.content == b"ok"
        assert server.connections == 2

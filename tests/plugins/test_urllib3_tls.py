"""TLS: who is trusted, who is not, and what a configuration that cannot work says."""

from __future__ import annotations

import datetime
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from http_servers import RawServer, answering, response

from zcli_core.comm.http import HttpClient


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def ca_file(authority: trustme.CA, tmp_path: Path) -> Path:
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return tmp_path / "ca.pem"


def serving(certificate: trustme.LeafCert, **options: Any) -> RawServer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    for name, value in options.items():
        setattr(context, name, value)
    return RawServer(answering(response()), context)


def refused(http: HttpClient, server: RawServer, why: str) -> None:
    assert http.get(server.url) is None
    assert http.last_failure is not None
    assert http.last_failure.kind == "tls", http.last_failure
    assert why in http.last_failure.message
    assert server.requests == []


def test_a_certificate_of_the_configured_authority_is_accepted(
    make_http: Callable[..., HttpClient], authority: trustme.CA, ca_file: Path
) -> None:
    with serving(authority.issue_cert("127.0.0.1")) as server:
        http = make_http(ca_file=ca_file)
        assert http.get(server.url)
        assert http.get(server.url)
        assert server.connections == 1


def test_an_unknown_authority_is_refused(http: HttpClient, authority: trustme.CA) -> None:
    with serving(authority.issue_cert("127.0.0.1")) as server:
        refused(http, server, "unable to get local issuer certificate")


def test_ca_file_replaces_the_systems_authorities(
    make_http: Callable[..., HttpClient],
    ca_file: Path,
    authority: trustme.CA,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    system = trustme.CA()
    system.cert_pem.write_to_path(str(tmp_path / "system.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "system.pem"))
    with serving(system.issue_cert("127.0.0.1")) as server:
        refused(make_http(ca_file=ca_file), server, "certificate")


def test_a_name_that_does_not_match_is_refused(
    make_http: Callable[..., HttpClient], authority: trustme.CA, ca_file: Path
) -> None:
    with serving(authority.issue_cert("elsewhere.example")) as server:
        refused(make_http(ca_file=ca_file), server, "IP address mismatch")


def test_an_expired_certificate_is_refused(
    make_http: Callable[..., HttpClient], authority: trustme.CA, ca_file: Path
) -> None:
    long_ago = datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)
    with serving(authority.issue_cert("127.0.0.1", not_after=long_ago)) as server:
        refused(make_http(ca_file=ca_file), server, "certificate has expired")


def test_old_versions_of_tls_are_refused(
    make_http: Callable[..., HttpClient], authority: trustme.CA, ca_file: Path
) -> None:
    certificate = authority.issue_cert("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1 is deprecated"):
        context.minimum_version = ssl.TLSVersion.TLSv1
    with pytest.warns(DeprecationWarning, match="TLSv1_1 is deprecated"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with RawServer(answering(response()), context) as server:
        http = make_http(ca_file=ca_file)
        assert http.get(server.url) is None
        assert http.last_failure is not None
        assert http.last_failure.kind == "tls"


def test_https_to_a_port_that_speaks_http_is_explained(http: HttpClient, httpbin: str) -> None:
    assert http.get(httpbin.replace("http:", "https:")) is None
    assert http.last_failure is not None
    assert http.last_failure.kind == "tls"
    assert "does not speak TLS" in http.last_failure.message


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="the system's store is not a file there")
@pytest.mark.parametrize("openssl_knows", [True, False], ids=["openssl", "truststore"])
def test_the_systems_authorities_are_trusted(
    http: HttpClient,
    authority: trustme.CA,
    ca_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    openssl_knows: bool,
) -> None:
    import zcli_urllib3.tls

    if not openssl_knows:
        monkeypatch.setattr(zcli_urllib3.tls, "_openssl_knows_the_system", lambda: False)
    monkeypatch.setenv("SSL_CERT_FILE", str(ca_file))
    with serving(authority.issue_cert("127.0.0.1", "localhost")) as server:
        assert http.get(server.url), http.last_failure
        assert http.get(server.url.replace("127.0.0.1", "localhost")), http.last_failure
        assert http.get(f"{server.url}/again"), http.last_failure
    with serving(trustme.CA().issue_cert("127.0.0.1")) as server:
        refused(http, server, "certificate")


def test_a_client_certificate_is_presented(
    make_http: Callable[..., HttpClient], authority: trustme.CA, ca_file: Path, tmp_path: Path
) -> None:
    ours = authority.issue_cert("client@example.com")
    ours.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "both.pem"))
    ours.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    ours.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    certificate = authority.issue_cert("127.0.0.1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    with RawServer(answering(response()), context) as server:
        assert make_http(ca_file=ca_file, client_cert=tmp_path / "both.pem").get(server.url)
        assert make_http(ca_file=ca_file, client_cert=tmp_path / "cert.pem", client_key=tmp_path / "key.pem").get(
            server.url
        )
        assert make_http(ca_file=ca_file).get(server.url) is None

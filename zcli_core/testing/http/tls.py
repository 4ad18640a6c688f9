"""The part of the HTTP suite about TLS: trusted and untrusted certificates, and the messages for them."""

from __future__ import annotations

import re
import socket
import ssl
import warnings
from pathlib import Path

import pytest

from zcli_core.testing import certificates
from zcli_core.testing.certificates import server_tls
from zcli_core.testing.http.base import Caller, HttpContract, MakeCaller
from zcli_core.testing.http.peer import ScriptedServer, chunked, responding, response

#: Certificates that are refused, and a pattern for the reason in the message of each TLS library.
REFUSED = {
    "expired": (certificates.EXPIRED, "expired"),
    "for another host": (certificates.ELSEWHERE, "mismatch|match|not valid for"),
    "of an unknown authority": (certificates.STRANGER, "issuer|unknown|self.signed|authority"),
}


class TlsContract(HttpContract):
    """Peers are verified by date, name and authority, and no request is sent to a peer that fails."""

    @pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
    def test_certificate_of_ca_file_is_accepted(self, make_caller: MakeCaller, ca_file: str, host: str) -> None:
        """It is valid for the address and for the name; large bodies pass both ways."""
        body = bytes(range(256)) * 8000
        with ScriptedServer(responding(response(body), chunked(body)), server_tls()) as server:
            caller = make_caller(ca_file=ca_file)
            for _ in range(2):
                assert caller.send(server.url.replace("127.0.0.1", host), "POST", body=body).body == body
            assert [request.body == body for request in server.requests] == [True, True]
            assert server.connections == 1

    @pytest.mark.parametrize("case", REFUSED)
    def test_invalid_certificate_is_refused(self, make_caller: MakeCaller, ca_file: str, case: str) -> None:
        """The message has the reason and the peer, and the server gets no request."""
        certificate, why = REFUSED[case]
        with ScriptedServer(responding(response()), server_tls(certificate)) as server:
            failure = make_caller(ca_file=ca_file).fails("tls", server.url)
            assert server.requests == []
        assert re.search(why, failure.message, re.IGNORECASE), failure.message
        others = "|".join(other for name, (_, other) in REFUSED.items() if name != case)
        assert not re.search(others, failure.message, re.IGNORECASE), failure.message
        assert "127.0.0.1" in failure.message

    @pytest.mark.parametrize(("host", "certificate"), [("localhost", "COMMON_NAME"), ("127.0.0.1", "COMMON_ADDRESS")])
    def test_common_name_is_not_compared(
        self, make_caller: MakeCaller, tmp_path: Path, host: str, certificate: str
    ) -> None:
        """This holds for names and addresses without a fitting subjectAltName (RFC 9525, section 6.3)."""
        company = tmp_path / "company.pem"
        company.write_text(certificates.COMPANY)
        with ScriptedServer(responding(response()), server_tls(getattr(certificates, certificate))) as server:
            make_caller(ca_file=str(company)).fails("tls", server.url.replace("127.0.0.1", host))
            assert server.requests == []

    def test_only_system_authorities_are_trusted(self, caller: Caller) -> None:
        """Without ``http.ca_file`` a certificate of the suite's authority is refused."""
        with ScriptedServer(responding(response()), server_tls()) as server:
            caller.fails("tls", server.url)
            assert server.requests == []

    def test_ca_file_replaces_the_system_authorities(
        self, make_caller: MakeCaller, ca_file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An authority that only the system trusts is unknown."""
        other = tmp_path / "other.pem"
        other.write_text(certificates.STRANGER)
        monkeypatch.setenv("SSL_CERT_FILE", ca_file)  # where OpenSSL looks for the system's authorities
        with ScriptedServer(responding(response()), server_tls()) as server:
            make_caller(ca_file=str(other)).fails("tls", server.url)
            assert server.requests == []

    def test_old_versions_of_tls_are_refused(self, make_caller: MakeCaller, ca_file: str) -> None:
        """These are TLS 1.0 and 1.1 (RFC 8996)."""
        tls = server_tls()
        tls.set_ciphers("ALL:@SECLEVEL=0")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            tls.minimum_version = ssl.TLSVersion.TLSv1
            tls.maximum_version = ssl.TLSVersion.TLSv1_1
        with ScriptedServer(responding(response()), tls) as server:
            make_caller(ca_file=ca_file).fails("tls", server.url)
            assert server.requests == []

    def test_verified_connection_is_for_one_name(self, make_caller: MakeCaller, ca_file: str) -> None:
        """Another host at the same address gets neither a kept connection nor a TLS session."""
        with ScriptedServer(responding(response()), server_tls(certificates.LOCALHOST)) as server:
            caller = make_caller(ca_file=ca_file)
            address = server.url.replace("127.0.0.1", "localhost")
            assert caller.send(address).body == b"ok"
            caller.fails("tls", server.url)
            assert caller.send(address).body == b"ok"

    def test_port_without_tls_is_refused(self, caller: Caller) -> None:
        """It may be an http:// port."""

        def script(server: ScriptedServer, connection: socket.socket) -> None:
            connection.recv(65536)
            connection.sendall(response(b"", "400 Bad Request"))

        with ScriptedServer(script) as server:
            caller.fails("tls", server.url.replace("http:", "https:"))

    def test_break_in_the_handshake_fails(self, caller: Caller) -> None:
        """The kind is ``tls`` or ``reset``."""
        with ScriptedServer(lambda server, connection: None) as server:
            caller.fails({"tls", "reset"}, server.url.replace("http:", "https:"))

    def test_body_that_ends_early_over_tls_fails(self, make_caller: MakeCaller, ca_file: str) -> None:
        """An attacker could close the TCP connection."""
        raw = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nless"
        with ScriptedServer(responding(raw, keep_open=False), server_tls()) as server:
            make_caller(ca_file=ca_file).fails({"protocol", "reset"}, server.url)

    def test_client_certificate_needs_the_request(self, make_caller: MakeCaller, ca_file: str, tmp_path: Path) -> None:
        """A kept connection with the certificate does not serve a request without it."""
        certificate = tmp_path / "client.pem"
        certificate.write_text(certificates.CLIENT + certificates.KEY)
        shown: list[bool] = []

        def script(server: ScriptedServer, connection: socket.socket) -> None:
            assert isinstance(connection, ssl.SSLSocket)
            while server.read_request(connection):
                shown.append(bool(connection.getpeercert()))
                connection.sendall(response())

        tls = server_tls(client_authority=certificates.AUTHORITY)
        tls.verify_mode = ssl.CERT_OPTIONAL
        with ScriptedServer(script, tls) as server:
            caller = make_caller(ca_file=ca_file, client_cert=str(certificate))
            for says_so in (True, False, True, False):
                caller.send(server.url, shows_certificate=says_so)
            assert shown == [True, False, True, False]
            assert server.connections == 2

    @pytest.mark.parametrize("split", [False, True], ids=["one file", "two files"])
    def test_client_certificate_is_presented(
        self, make_caller: MakeCaller, ca_file: str, tmp_path: Path, split: bool
    ) -> None:
        """Its key is in the same file or in ``http.client_key``; the server refuses clients without one."""
        certificate, key = tmp_path / "client.pem", tmp_path / "client-key.pem"
        certificate.write_text(certificates.CLIENT + ("" if split else certificates.KEY))
        key.write_text(certificates.KEY)
        tls = server_tls(client_authority=certificates.AUTHORITY)
        with ScriptedServer(responding(response()), tls) as server:
            identity = {"client_cert": str(certificate), **({"client_key": str(key)} if split else {})}
            caller = make_caller(ca_file=ca_file, **identity)
            assert caller.send(server.url, shows_certificate=True).body == b"ok"
            # In TLS 1.3 the refusal comes after the handshake.
            make_caller(ca_file=ca_file).fails({"tls", "reset"}, server.url)
            assert len(server.requests) == 1

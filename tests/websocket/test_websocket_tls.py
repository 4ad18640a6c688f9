"""TLS: valid and invalid certificates, client certificates, and reloading."""

from __future__ import annotations

import datetime
import os
import shutil
import socket
import ssl
import stat
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from websocket_serving import DEADLINE, TOKEN, Certificates, Served, eventually, talks
from websockets.exceptions import WebSocketException

from zcli_core.app import zCLI
from zcli_core.errors import ConfigError
from zcli_core.net.pem_files import CertificateFiles, CertificateProblem
from zcli_core.websocket import server_core
from zcli_core.websocket.tls import make_context

Serve = Callable[..., Served]
MakeZ = Callable[..., zCLI]
NOW = datetime.datetime.now(datetime.timezone.utc)


def _secure(certificate: Path, key: Path | None, **settings: Any) -> dict[str, Any]:
    return {"ssl_enabled": True, "ssl_cert": str(certificate), "ssl_key": key and str(key), **settings}


def _serial(served: Served, trusting: ssl.SSLContext) -> int:
    """Return the serial number of the certificate that new connections get."""
    with (
        socket.create_connection(("127.0.0.1", served.port), timeout=DEADLINE) as plain,
        trusting.wrap_socket(plain, server_hostname="localhost") as secured,
    ):
        found = secured.getpeercert()
    assert found is not None
    return int(str(found["serialNumber"]), 16)


def test_wss_serves_with_auth(serve: Serve, certificates: Certificates) -> None:
    """The request shows that it came over TLS; plain ws:// is not served."""
    served = serve(**_secure(*certificates.issue("a")), require_auth=True, token=TOKEN)
    trusting = certificates.trusting()
    assert served.url.startswith("wss://")
    with served.client(f"/?token={TOKEN}", ssl=trusting) as client:
        assert talks(client)
        client.send("x" * 500_000)
        assert len(client.recv(timeout=DEADLINE)) == 500_000
        assert served.websocket.clients[0].request.tls
    assert served.refusal("/?token=wrong", ssl=trusting) == (1008, "authentication failed")
    with socket.create_connection(("127.0.0.1", served.port), timeout=DEADLINE) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert plain.recv(100)[:4] != b"HTTP"


def test_ssl_key_unset_uses_the_certificate_file(serve: Serve, certificates: Certificates, tmp_path: Path) -> None:
    certificate, key = certificates.issue("a")
    both = tmp_path / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    with serve(**_secure(both, None)).client(ssl=certificates.trusting()) as client:
        assert talks(client)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_accepted(serve: Serve, certificates: Certificates, version: ssl.TLSVersion) -> None:
    """Each, if a client insists."""
    trusting = certificates.trusting()
    trusting.minimum_version = trusting.maximum_version = version
    with serve(**_secure(*certificates.issue("a"))).client(ssl=trusting) as client:
        assert talks(client)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tls_1_1_is_refused(serve: Serve, certificates: Certificates) -> None:
    """RFC 8996."""
    trusting = certificates.trusting()
    trusting.minimum_version = ssl.TLSVersion.TLSv1
    trusting.maximum_version = ssl.TLSVersion.TLSv1_1
    trusting.set_ciphers("ALL:@SECLEVEL=0")
    served = serve(**_secure(*certificates.issue("a")))
    with (
        socket.create_connection(("127.0.0.1", served.port), timeout=DEADLINE) as plain,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        trusting.wrap_socket(plain, server_hostname="localhost")


# --- certificates of clients ---


def _client_context(certificates: Certificates, authority: trustme.CA, name: str) -> ssl.SSLContext:
    context = certificates.trusting()
    authority.issue_cert(
        f"{name}@example.com", common_name=name, organization_name="Example, Inc.", organization_unit_name="+R=D"
    ).configure_cert(context)
    return context


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_client_certificate_is_required_and_shown(
    serve: Serve, certificates: Certificates, tmp_path: Path, loop: str, version: ssl.TLSVersion
) -> None:
    """Clients without one, or with one of another authority, are refused in the handshake, which is logged."""
    if loop == "uvloop":
        pytest.importorskip("uvloop")
    authority = trustme.CA()
    authorities = tmp_path / "clients.pem"
    authority.cert_pem.write_to_path(str(authorities))
    served = serve(**_secure(*certificates.issue("a")), ssl_client_ca=str(authorities), loop=loop)
    context = _client_context(certificates, authority, "alice")
    context.minimum_version = context.maximum_version = version
    with served.client(ssl=context) as client:
        assert talks(client)
        info = served.websocket.auth.get_client_info(served.websocket.clients[0])
        assert info["certificate_subject"] == r"CN=alice,OU=\+R\=D,O=Example\, Inc."
        assert info["identity"] is None
    strangers = (certificates.trusting(), _client_context(certificates, trustme.CA(), "eve"))
    for stranger, cause in zip(
        strangers, ("it sent no certificate, and one is required", "its certificate was not accepted"), strict=True
    ):
        stranger.minimum_version = stranger.maximum_version = version
        with pytest.raises((OSError, EOFError, WebSocketException)), served.client(ssl=stranger):
            pass
        served.logged(cause)


def test_client_certificate_absent_has_no_subject(serve: Serve, certificates: Certificates) -> None:
    """It is requested only if ``ssl_client_ca`` is set."""
    served = serve(**_secure(*certificates.issue("a")))
    with served.client(ssl=_client_context(certificates, trustme.CA(), "eve")) as client:
        assert talks(client)
        assert served.websocket.auth.get_client_info(served.websocket.clients[0])["certificate_subject"] is None


@pytest.mark.parametrize("wrong", ["missing", "not PEM", "no TLS"])
def test_ssl_client_ca_invalid_prevents_start(
    make_z: MakeZ, certificates: Certificates, tmp_path: Path, wrong: str
) -> None:
    """A server that must require certificates does not start without them."""
    authorities = tmp_path / "clients.pem"
    if wrong == "not PEM":
        authorities.write_text("hello")
    settings = {} if wrong == "no TLS" else _secure(*certificates.issue("a"))
    message = _message(make_z, {**settings, "ssl_client_ca": str(authorities)})
    assert "websocket.ssl_client_ca (zSpark)" in message
    assert {"missing": "cannot be read", "not PEM": "no certificate", "no TLS": "ssl_enabled is not"}[wrong] in message


@pytest.mark.usefixtures("often")
def test_reload_keeps_client_certificates_required(serve: Serve, certificates: Certificates, tmp_path: Path) -> None:
    """Only the server's own certificate is replaced."""
    authority = trustme.CA()
    authorities = tmp_path / "clients.pem"
    authority.cert_pem.write_to_path(str(authorities))
    certificate, key = certificates.issue("current")
    served = serve(**_secure(certificate, key), ssl_client_ca=str(authorities))
    for file, renewed in zip((certificate, key), certificates.issue("renewed"), strict=True):
        shutil.move(renewed, file)
    served.logged("new connections get the renewed certificate")
    with pytest.raises((OSError, EOFError, WebSocketException)), served.client(ssl=certificates.trusting()):
        pass
    with served.client(ssl=_client_context(certificates, authority, "alice")) as client:
        assert talks(client)


# --- what keeps the port closed ---


def _message(make_z: MakeZ, settings: dict[str, Any]) -> str:
    z = make_z(**settings)
    with pytest.raises(ConfigError) as raised:
        z.comm.websocket.start_background(port=0)
    assert not z.comm.websocket.is_running
    return str(raised.value)


def test_ssl_cert_unset_is_an_error(make_z: MakeZ) -> None:
    """With the variable that sets one."""
    message = _message(make_z, {"ssl_enabled": True})
    assert "websocket.ssl_enabled (zSpark) turns on wss://, but websocket.ssl_cert is not set" in message
    assert "WEBSOCKET_SSL_CERT" in message


def _missing(certificate: Path, key: Path) -> str:
    certificate.unlink()
    return rf"websocket\.ssl_cert \(zSpark\): {certificate} cannot be read: No such file"


def _missing_key(certificate: Path, key: Path) -> str:
    key.unlink()
    return rf"websocket\.ssl_key \(zSpark\): {key} cannot be read: No such file"


def _a_folder(certificate: Path, key: Path) -> str:
    certificate.unlink()
    certificate.mkdir()
    return r"websocket\.ssl_cert \(zSpark\): .* cannot be read: Is a directory"


def _no_pem(certificate: Path, key: Path) -> str:
    certificate.write_text("hello")
    return r"websocket\.ssl_cert \(zSpark\): .* holds no certificate in PEM format"


def _no_pem_key(certificate: Path, key: Path) -> str:
    key.write_text("hello")
    return r"websocket\.ssl_key \(zSpark\): .* holds no private key in PEM format"


def _damaged(certificate: Path, key: Path) -> str:
    lines = certificate.read_text().splitlines()
    certificate.write_text("\n".join([lines[0], *lines[3:]]))
    return r"websocket\.ssl_cert \(zSpark\): .* cannot be used: "


def _swapped(certificate: Path, key: Path) -> str:
    certificate.write_bytes(key.read_bytes())
    return r"websocket\.ssl_cert \(zSpark\): .* holds no certificate in PEM format"


@pytest.mark.parametrize("damage", [_missing, _missing_key, _a_folder, _no_pem, _no_pem_key, _damaged, _swapped])
def test_ssl_file_invalid_is_an_error(make_z: MakeZ, certificates: Certificates, damage: Callable[..., str]) -> None:
    """It names the setting, where it was set, the file, and the problem."""
    certificate, key = certificates.issue("a")
    expected = damage(certificate, key)
    message = _message(make_z, _secure(certificate, key))
    import re

    assert re.search(expected, message), message


def test_ssl_file_unreadable_is_an_error(certificates: Certificates) -> None:
    """For this user; root runs the test as another user."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        certificate, key = (Path(shutil.copy(file, folder)) for file in certificates.issue("a"))
        key.chmod(0)
        before = os.geteuid()
        if before == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(CertificateProblem) as raised:
                make_context(CertificateFiles(certificate, key))
        finally:
            os.seteuid(before)
    assert (raised.value.part, str(raised.value)) == ("key", f"{key} cannot be read: Permission denied")


def test_ssl_key_of_other_certificate_is_an_error(make_z: MakeZ, certificates: Certificates) -> None:
    """They must match."""
    certificate, _ = certificates.issue("a")
    _, key = certificates.issue("b")
    message = _message(make_z, _secure(certificate, key))
    assert f"websocket.ssl_key (zSpark): {key} is not the key of the certificate {certificate}" in message


def test_ssl_key_with_password_is_an_error(make_z: MakeZ, certificates: Certificates) -> None:
    """A server cannot ask for the password."""
    from cryptography.hazmat.primitives import serialization

    certificate, key = certificates.issue("a")
    loaded = serialization.load_pem_private_key(key.read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"secret")
    form = serialization.PrivateFormat.PKCS8
    key.write_bytes(loaded.private_bytes(serialization.Encoding.PEM, form, encryption))
    assert f"{key} is encrypted, but zCLI cannot read encrypted keys" in _message(make_z, _secure(certificate, key))


def test_ssl_cert_expired_is_an_error(make_z: MakeZ, certificates: Certificates) -> None:
    """No client would accept it."""
    files = certificates.issue("a", not_after=NOW - datetime.timedelta(days=1))
    assert f"the certificate {files[0]} has expired" in _message(make_z, _secure(*files))


def test_ssl_cert_not_yet_valid_is_an_error(make_z: MakeZ, certificates: Certificates) -> None:
    """A clock may be wrong."""
    files = certificates.issue("a")
    _not_before(files, NOW + datetime.timedelta(days=2))
    assert "is not valid yet; check this machine's clock" in _message(make_z, _secure(*files))


def _not_before(files: tuple[Path, Path], start: datetime.datetime) -> None:
    """Replace the certificate by a self-signed one of the same key that is valid from that time on."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    key: Any = serialization.load_pem_private_key(files[1].read_bytes(), None)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "future")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(7).not_valid_before(start).not_valid_after(start + datetime.timedelta(days=9))
    made = builder.sign(key, hashes.SHA256())
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))


def test_ssl_cert_expiring_soon_is_warned(serve: Serve, certificates: Certificates) -> None:
    """The server still starts."""
    files = certificates.issue("a", not_after=NOW + datetime.timedelta(days=3))
    served = serve(**_secure(*files))
    assert "expires in 3.0 days" in served.log() or "expires in 2.9 days" in served.log()


# --- renewal ---


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check the files more often than the default."""
    monkeypatch.setattr(server_core, "RELOAD_INTERVAL", 0.02)


@pytest.mark.usefixtures("often")
def test_reload_keeps_connections_open(serve: Serve, certificates: Certificates) -> None:
    """New connections get the renewed certificate."""
    certificate, key = certificates.issue("current")
    served = serve(**_secure(certificate, key))
    trusting = certificates.trusting()
    before = _serial(served, trusting)
    with served.client(ssl=trusting) as client:
        for file, renewed in zip((certificate, key), certificates.issue("renewed"), strict=True):
            shutil.move(renewed, file)
        eventually(lambda: _serial(served, trusting) != before)
        assert talks(client)
    served.logged("new connections get the renewed certificate")


@pytest.mark.usefixtures("often")
def test_reload_invalid_file_keeps_the_old_one(serve: Serve, certificates: Certificates) -> None:
    """It is logged once, until there is a valid file."""
    certificate, key = certificates.issue("current")
    served = serve(**_secure(certificate, key))
    trusting = certificates.trusting()
    before = _serial(served, trusting)
    expired = certificates.issue("expired", not_after=NOW - datetime.timedelta(days=1))
    for file, bad in zip((certificate, key), expired, strict=True):
        shutil.move(bad, file)
    served.logged("the old one stays in use: the certificate")
    assert _serial(served, trusting) == before
    good = certificates.issue("good")
    for file, renewed in zip((certificate, key), good, strict=True):
        shutil.move(renewed, file)
    eventually(lambda: _serial(served, trusting) != before)
    # A check between the two moves may tell that the certificate and the key do not fit.
    assert served.log().count("the old one stays in use: the certificate") == 1


@pytest.mark.usefixtures("often")
def test_reload_missing_file_is_ignored(serve: Serve, certificates: Certificates) -> None:
    """Some tools replace files by removing them first."""
    certificate, key = certificates.issue("current")
    served = serve(**_secure(certificate, key))
    kept = certificate.read_bytes()
    certificate.unlink()
    seen = served.websocket._servers[0]
    eventually(lambda: seen._reload_timer is not None)
    with served.client(ssl=certificates.trusting()) as client:
        assert talks(client)
    certificate.write_bytes(kept)
    with served.client(ssl=certificates.trusting()) as client:
        assert talks(client)


def test_demo_key_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    """The demo makes it in its folder; here in a copy of it."""
    import subprocess
    import sys

    folder = Path(__file__).parents[2] / "Demos" / "Layer_0" / "zComm_Demo" / "lvl2_websocket"
    shutil.copy(folder / "demo_certificate.py", tmp_path)
    for _ in range(2):
        subprocess.run([sys.executable, str(tmp_path / "demo_certificate.py")], timeout=60, check=True)
    assert stat.S_IMODE((tmp_path / "certs" / "demo.key").stat().st_mode) == 0o600

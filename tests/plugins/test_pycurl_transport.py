"""The transport curl: selection, requests, handles and trusted authorities."""

from __future__ import annotations

import base64
import contextlib
import errno
import gc
import signal
import socket
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pycurl
import pytest
import trustme
import zcli_pycurl.driver
import zcli_pycurl.handle
import zcli_pycurl.tls
from zcli_pycurl.certificates import names_hosts
from zcli_pycurl.curl_errors import CurlError, failure_of
from zcli_pycurl.driver import Driver
from zcli_pycurl.handle import Handle, url_of
from zcli_pycurl.tls import TlsOptions, system_authorities
from zcli_pycurl.transport import CurlTransport

from zCLI import zCLI
from zcli_core.config.sections import Http
from zcli_core.errors import ConfigError
from zcli_core.http.client import HttpClient
from zcli_core.http.contract import Headers, HttpRequest, TransportFailure, Url
from zcli_core.http.parts import transport
from zcli_core.http.parts.transport import ConnectionPool, PoolKey
from zcli_core.net.connecting import SelectPoll
from zcli_core.testing import certificates
from zcli_core.testing.http.peer import ScriptedServer, closed_port, responding, response, wait_until


@pytest.fixture
def http(make_curl: Callable[..., HttpClient]) -> HttpClient:
    return make_curl()


def pool_of(http: HttpClient) -> ConnectionPool[Handle]:
    transport = http._transport._transport
    assert isinstance(transport, CurlTransport)
    return transport._pool


# --- selection ---


@pytest.mark.parametrize("name", ["curl", "pycurl"])
def test_transport_curl_is_selected_by_name(isolated: Path, httpbin: str, name: str) -> None:
    """``curl`` and ``pycurl`` select it."""
    with zCLI({"deployment": "Testing", "http": {"transport": name}}) as z:
        found = z.comm.http_get(f"{httpbin}/get", params={"a": "b"})
        assert found is not None, z.comm.http.last_failure
        assert found.json()["args"] == {"a": "b"}
        assert isinstance(z.comm.http._transport._transport, CurlTransport)


def test_missing_pycurl_error_has_the_command(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command installs the package."""
    monkeypatch.setitem(sys.modules, "pycurl", None)
    with (
        pytest.raises(ConfigError, match=r"pip install 'pycurl>=7\.48'"),
        zCLI({"deployment": "Testing", "http": {"transport": "curl"}}) as z,
    ):
        z.comm.http_get("http://127.0.0.1:9/")


def test_old_libcurl_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The program does not start."""
    monkeypatch.setattr(pycurl, "version_info", lambda: (11, "7.88.1", 0x075801, "Linux"))
    with pytest.raises(ConfigError, match=r"needs libcurl 8\.4 or later, and this pycurl has 7\.88\.1: pip install"):
        CurlTransport(Http())


# --- what is sent ---


def test_handle_sends_requests_of_every_kind(http: HttpClient) -> None:
    """Options of one request do not remain for the next."""
    kinds: list[tuple[str, Any]] = [
        ("GET", None),
        ("POST", b"post"),
        ("GET", None),
        ("HEAD", None),
        ("PUT", iter([b"in ", b"chunks"])),
        ("DELETE", None),
        ("POST", None),
        ("GET", b"with body"),
        ("HEAD", None),
        ("GET", None),
    ]
    heads: list[bytes] = []

    def handle(server: ScriptedServer, connection: socket.socket) -> None:
        while data := connection.recv(65536):
            while (b"chunked" in data and not data.endswith(b"0\r\n\r\n")) or b"\r\n\r\n" not in data:
                data += connection.recv(65536)
            heads.append(data)
            connection.sendall(response(b"" if data.startswith(b"HEAD") else b"ok"))

    with ScriptedServer(handle) as server:
        for method, body in kinds:
            found = http.request(method, server.url, data=body)
            assert found is not None, http.last_failure
            assert found.content == (b"" if method == "HEAD" else b"ok")
        assert server.connections == 1
    for (method, body), head in zip(kinds, heads, strict=True):
        assert head.startswith(f"{method} / HTTP/1.1\r\n".encode())
        assert (b"Content-Length:" in head) == (isinstance(body, bytes) or (method == "POST" and body is None))
        assert head.endswith(b"6\r\nchunks\r\n0\r\n\r\n" if method == "PUT" else body or b"\r\n\r\n")


def test_libcurl_files_and_variables_are_ignored(
    make_curl: Callable[..., HttpClient], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Only the configuration of zCLI counts."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login user password hidden\n")
    (tmp_path / ".curlrc").write_text('header = "X-Rc: yes"\n')
    http = make_curl(trust_env=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("http_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{closed_port()}")
    with ScriptedServer(responding(response())) as server:
        assert http.get(server.url), http.last_failure
        assert [name for name, _ in server.requests[0].fields] == ["Host", "User-Agent", "Accept", "Accept-Encoding"]


# --- what comes back ---


def test_upgrade_response_ends_the_connection(http: HttpClient) -> None:
    """A 101 is the response, and the data after it is dropped."""
    upgrade = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x-own\r\n\r\nanother protocol"
    with ScriptedServer(responding(upgrade)) as server:
        for expected in (1, 2):
            found = http.get(server.url, headers={"Connection": "upgrade", "Upgrade": "x-own"}, timeout=10)
            assert found is not None, http.last_failure
            assert (found.status_code, found.content) == (101, b"")
            assert server.connections == expected


def test_invalid_trailer_is_refused(http: HttpClient) -> None:
    """libcurl reads "0x2" as a chunk of size 0, and the chunk after it as a trailer."""
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n%s\r\n\r\n"
    with ScriptedServer(responding(raw % b"X-Field: trailer", raw % b"no trailer")) as server:
        found = http.get(server.url)
        assert found is not None, http.last_failure
        assert (found.content, "x-field" in found.headers) == (b"ok", False)
        assert http.get(server.url) is None
        assert http.last_failure is not None
        assert http.last_failure.kind == "protocol"


# --- sending again ---


# --- handles ---


def test_idle_handle_holds_no_body(http: HttpClient) -> None:
    """The memory of a large body is released."""
    body = b"x" * 1_000_000
    before = sys.getrefcount(body)
    large = b"y" * 1_000_000
    with ScriptedServer(responding(response(large))) as server:
        found = http.post(server.url, data=body)
        assert found is not None
        assert len(found.content) == len(large)
        (handles,) = pool_of(http)._idle.values()
        assert handles[0][0]._response._body is None
    del found
    assert sys.getrefcount(body) == before


def test_idle_handles_are_bounded_in_number_and_age(http: HttpClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pool closes surplus and old handles."""
    with ScriptedServer(responding(response())) as server, contextlib.ExitStack() as stack:
        assert http.get(server.url)
        pool = pool_of(http)
        assert pool._total == 256
        pool._total = 3
        for _ in range(6):
            other = stack.enter_context(ScriptedServer(responding(response())))
            assert http.get(other.url)
            assert pool._count <= 3
        assert sum(map(len, pool._idle.values())) == 3
        monkeypatch.setattr(transport, "LONGEST_IDLE", 0.0)
        assert http.get(other.url)
        assert other.connections == 2


def test_unreferenced_transport_is_closed(httpbin: str) -> None:
    """The program may not call close()."""
    import logging

    with ScriptedServer(responding(response())) as server:
        client = HttpClient(Http(), lambda: CurlTransport(Http()), logging.getLogger("zcli.test"))
        assert client.request("GET", server.url)
        del client
        gc.collect()
        wait_until(lambda: server.closed == 1)


def test_self_connection_is_refused(http: HttpClient) -> None:
    """A connection to a free local port can be connected to itself, and the request would be its own response."""
    handle = Handle(PoolKey("http", "127.0.0.1", closed_port(), None), TlsOptions(Http()), 100)
    try:
        assert handle._on_request("127.0.0.1", "127.0.0.1", 50000, 50000) == pycurl.PREREQFUNC_ABORT
        assert isinstance(handle._error, TransportFailure)
        assert handle._error.kind == "refused"
    finally:
        handle.close()


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no interval timer")
@pytest.mark.parametrize("callback", ["_watch", "_on_connect", "_on_request"])
def test_signal_within_a_callback_is_raised(
    http: HttpClient, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], callback: str
) -> None:
    """pycurl prints and drops an exception that leaves a callback."""
    owner: Any = Driver if callback == "_watch" else Handle
    error = TimeoutError("mine")

    def ring(number: int, frame: object) -> None:
        raise error

    def interrupted(*_: Any) -> int:
        signal.raise_signal(signal.SIGALRM)
        return 0

    monkeypatch.setattr(owner, callback, interrupted)
    before = signal.signal(signal.SIGALRM, ring)
    try:
        with ScriptedServer(responding(response())) as server, pytest.raises(TimeoutError) as caught:
            http.get(server.url)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert caught.value is error


@pytest.mark.parametrize(
    ("code", "was_asked", "kind"),
    [
        (pycurl.E_OPERATION_TIMEDOUT, False, "unreachable"),
        (pycurl.E_COULDNT_CONNECT, False, "unreachable"),
        (pycurl.E_RECV_ERROR, True, "reset"),
    ],
)
def test_failure_of_etimedout_is_not_the_deadline(code: int, was_asked: bool, kind: str) -> None:
    """libcurl uses one number for the timeout of the system and for the deadline."""
    key = PoolKey("http", "host.example", 80, None)
    doing = "reading the body" if was_asked else "connecting to host.example:80"
    trouble = CurlError(code, "failed", errno.ETIMEDOUT, doing, was_asked, False, False, "")
    found = failure_of(trouble, key)
    assert (found.kind, "deadline" in found.message, "timed out" in found.message) == (kind, False, True)
    assert failure_of(trouble._replace(code=pycurl.E_OPERATION_TIMEDOUT, errno=0), key).kind == "timeout"


def test_zone_of_an_address_is_not_sent() -> None:
    """It has a meaning on this machine only."""
    assert url_of(PoolKey("http", "fe80::1%eth0", 80, None)) == "http://[fe80::1%25eth0]:80/"


def test_select_replaces_a_missing_poll(make_curl: Callable[..., HttpClient], monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has no poll."""
    monkeypatch.setattr(zcli_pycurl.driver, "new_poll", SelectPoll)
    http = make_curl()
    with ScriptedServer(responding(response())) as server:
        for method, body in (("GET", None), ("POST", bytes(4_000_000)), ("PUT", iter([b"block"] * 3)), ("GET", None)):
            found = http.request(
                method, server.url, data=body, headers={"Content-Length": "15"} if method == "PUT" else {}
            )
            assert found is not None, http.last_failure
        assert server.connections == 1
    assert http.get(f"http://127.0.0.1:{closed_port()}/") is None
    assert http.last_failure is not None
    assert http.last_failure.kind == "refused"
    with ScriptedServer(lambda server, connection: server.hold(connection)) as server:
        assert http.get(server.url, timeout=0.3) is None
        assert http.last_failure.kind == "timeout"


@pytest.mark.skipif(sys.platform == "win32", reason="numbers of sockets are another matter there")
def test_large_socket_numbers_are_accepted(http: HttpClient) -> None:
    """select(2) is limited to 1023."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 1200:
        pytest.skip("so many files cannot be open here")
    with contextlib.ExitStack() as stack:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 1200), hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        server = stack.enter_context(ScriptedServer(responding(response())))
        while stack.enter_context(socket.socket()).fileno() < 1050:
            pass
        for _ in range(2):
            assert http.get(server.url), http.last_failure
        assert http.post(f"{server.url}/", data=b"body"), http.last_failure
        assert server.connections == 1
        http.close()


# --- trusted authorities ---


@pytest.fixture
def secure_server() -> Iterator[tuple[ScriptedServer, trustme.CA]]:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with ScriptedServer(responding(response()), context) as server:
        yield server, authority


on_linux = pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="its authorities are not in files")


@pytest.fixture
def no_authorities(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A system without authorities; the fixture is a folder to put some in."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "none"))
    nothing = ssl.DefaultVerifyPaths(None, None, "SSL_CERT_FILE", "", "SSL_CERT_DIR", "")
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: nothing)
    monkeypatch.setattr(zcli_pycurl.tls, "FOLDERS", (str(tmp_path / "folder"),))
    monkeypatch.setattr(zcli_pycurl.tls, "FILES", (str(tmp_path / "none.pem"), str(tmp_path / "file.pem")))
    return tmp_path


@on_linux
def test_missing_authorities_name_the_setting(http: HttpClient, no_authorities: Path, httpbin: str) -> None:
    """Calls over http:// still work."""
    assert http.get("https://127.0.0.1:9/") is None
    assert http.last_failure is not None
    assert http.last_failure.kind == "tls"
    assert "set http.ca_file" in http.last_failure.message
    assert http.get(f"{httpbin}/get")


@on_linux
@pytest.mark.parametrize("place", ["file", "folder", "SSL_CERT_FILE"])
def test_system_authorities_are_trusted(
    http: HttpClient,
    no_authorities: Path,
    monkeypatch: pytest.MonkeyPatch,
    secure_server: tuple[ScriptedServer, trustme.CA],
    place: str,
) -> None:
    """They are used if ``http.ca_file`` is not set."""
    server, authority = secure_server
    pem = authority.cert_pem.bytes()
    if place == "SSL_CERT_FILE":
        (no_authorities / "env.pem").write_bytes(pem)
        monkeypatch.undo()
        monkeypatch.setenv("SSL_CERT_FILE", str(no_authorities / "env.pem"))
    elif place == "folder":
        (no_authorities / "folder").mkdir()
        (no_authorities / "folder" / f"{subject_hash(no_authorities, pem)}.0").write_bytes(pem)
        assert system_authorities() == [(pycurl.CAPATH, str(no_authorities / "folder"))]
    else:
        (no_authorities / "file.pem").write_bytes(pem)
        assert system_authorities() == [(pycurl.CAINFO, str(no_authorities / "file.pem"))]
    assert http.get(server.url), http.last_failure


def subject_hash(folder: Path, pem: bytes) -> str:
    """Return the file name by which OpenSSL looks up an authority."""
    import shutil
    import subprocess

    program = shutil.which("openssl")
    if program is None:
        pytest.skip("needs the program openssl")
    (folder / "hashed.pem").write_bytes(pem)
    arguments = [program, "x509", "-noout", "-hash", "-in", str(folder / "hashed.pem")]
    return subprocess.run(arguments, capture_output=True, check=True, text=True).stdout.strip()


def test_native_authorities_of_other_systems(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows and macOS have an interface of their own."""
    monkeypatch.setattr(sys, "platform", "win32")
    assert system_authorities() == [(pycurl.SSL_OPTIONS, pycurl.SSLOPT_NATIVE_CA)]


# --- certificates ---


def test_ca_file_replaces_built_in_authorities(
    make_curl: Callable[..., HttpClient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian's libcurl has a folder of authorities as its default, which ``http.ca_file`` must replace."""
    system, own = trustme.CA(), trustme.CA()
    folder = tmp_path / "system"
    folder.mkdir()
    pem = system.cert_pem.bytes()
    (folder / f"{subject_hash(tmp_path, pem)}.0").write_bytes(pem)
    own.cert_pem.write_to_path(tmp_path / "own.pem")

    class Distributed(pycurl.Curl):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.setopt(pycurl.CAPATH, str(folder))
            self.setopt(pycurl.PROXY_CAPATH, str(folder))

    monkeypatch.setattr(zcli_pycurl.handle.pycurl, "Curl", Distributed)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    system.issue_cert("127.0.0.1").configure_cert(context)
    http = make_curl(ca_file=tmp_path / "own.pem")
    with ScriptedServer(responding(response()), context) as server:
        for url, kind in ((server.url, "tls"), ("http://a.example/", "proxy")):
            assert http.get(url) is None
            assert http.last_failure is not None
            assert http.last_failure.kind == kind
            assert "certificate was not accepted" in http.last_failure.message
            monkeypatch.setenv("all_proxy", server.url)
        assert server.requests == []


@pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])
def test_certificate_is_checked_on_every_connection(tmp_path: Path, version: str) -> None:
    """A new connection has a full handshake, because a resumed one would have no certificate."""
    (tmp_path / "ca.pem").write_text(certificates.AUTHORITY)
    tls = certificates.server_tls()
    tls.maximum_version = ssl.TLSVersion[version]
    resumed: list[bool | None] = []

    def script(server: ScriptedServer, connection: socket.socket) -> None:
        assert isinstance(connection, ssl.SSLSocket)
        resumed.append(connection.session_reused)
        server.read_request(connection)
        connection.sendall(response(b"ok", "200 OK", "Connection: close"))

    with ScriptedServer(script, tls) as server:
        url = Url("https", "127.0.0.1", server.port, "/")
        handle = Handle(PoolKey.of(url, False), TlsOptions(Http(ca_file=tmp_path / "ca.pem")), 100)
        for _ in range(2):
            request = HttpRequest("GET", url, Headers())
            assert handle.send(request, time.monotonic() + 20, 1000).status == 200
        handle.close()
        assert resumed == [False, False]


@pytest.mark.parametrize(
    ("certificate", "found"),
    [
        (certificates.GOOD, True),
        (certificates.LOCALHOST, True),
        (certificates.COMMON_NAME, False),
        (certificates.COMMON_ADDRESS, False),
        (certificates.GOOD[:300] + "\n-----END CERTIFICATE-----", False),
        ("", False),
    ],
    ids=["names and addresses", "name", "none", "e-mail address", "cut", "empty"],
)
def test_names_hosts_finds_names_and_addresses(certificate: str, found: bool) -> None:
    """Only subjectAltName counts; an unreadable certificate has no hosts."""
    assert names_hosts(certificate) is found


def test_names_hosts_extension_without_value_names_none() -> None:
    """A certificate that cannot be read raises nothing."""

    def der(tag: int, content: bytes) -> bytes:
        return bytes((tag, len(content))) + content

    extensions = der(0xA3, der(0x30, der(0x30, bytes.fromhex("0603551d11"))))
    encoded = base64.b64encode(der(0x30, der(0x30, extensions))).decode()
    assert names_hosts(f"-----BEGIN CERTIFICATE-----\n{encoded}\n-----END CERTIFICATE-----\n") is False

"""The client certificate (``http.client_cert``): which servers see it, over real TLS and both transports."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from test_urllib3_proxies import proxy

from zcli_core.http.client import HttpClient
from zcli_core.testing.http.peer import ScriptedServer, response


class Asking(ScriptedServer):
    """An HTTPS server that asks clients for a certificate and notes whose it saw, None if it saw none."""

    def __init__(self, authority: trustme.CA, host: str, script: Any = None, reply: bytes = b"") -> None:
        self.saw: list[str | None] = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(host).configure_cert(context)
        authority.configure_trust(context)
        context.verify_mode = ssl.CERT_OPTIONAL

        def note(server: ScriptedServer, connection: socket.socket) -> None:
            assert isinstance(connection, ssl.SSLSocket)
            found = connection.getpeercert()
            names: Any = found["subjectAltName"] if found else ((None, None),)
            self.saw.append(names[0][1])
            if script is not None:
                script(server, connection)
            else:
                server.read_request(connection)
                connection.sendall(reply or response())

        super().__init__(note, context)

    def at(self, host: str) -> str:
        return f"https://{host}:{self.port}/"


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(params=["urllib3", "curl"])
def make_client(request: pytest.FixtureRequest, authority: trustme.CA, tmp_path: Path) -> Callable[..., HttpClient]:
    """Makes clients with the certificate of alice."""
    make = request.getfixturevalue("make_http" if request.param == "urllib3" else "make_curl")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("alice@corp.example").private_key_and_cert_chain_pem.write_to_path(tmp_path / "alice.pem")

    def client(**settings: Any) -> HttpClient:
        made: HttpClient = make(ca_file=tmp_path / "ca.pem", client_cert=tmp_path / "alice.pem", **settings)
        return made

    return client


@pytest.fixture
def internal(authority: trustme.CA) -> Iterator[Asking]:
    with Asking(authority, "localhost") as server:
        yield server


def redirect_to(url: str) -> bytes:
    return response(b"", "302 Found", f"Location: {url}", "Connection: close")


@pytest.mark.parametrize(
    ("hosts", "seen"),
    [(None, ["alice@corp.example", None]), (("127.0.0.1", "localhost"), ["alice@corp.example"] * 2)],
    ids=["default", "both listed"],
)
def test_certificate_after_a_redirect_is_for_listed_hosts(
    make_client: Callable[..., HttpClient],
    authority: trustme.CA,
    internal: Asking,
    hosts: tuple[str, ...] | None,
    seen: list[str | None],
) -> None:
    """Another site does not see it unless it is listed."""
    with Asking(authority, "127.0.0.1", reply=redirect_to(internal.at("localhost"))) as public:
        http = make_client(client_cert_hosts=hosts)
        assert http.get(public.at("127.0.0.1")), http.last_failure
        assert public.saw + internal.saw == seen


@pytest.mark.parametrize("hosts", [None, ("localhost",)])
def test_certificate_is_not_shown_to_a_proxy(
    make_client: Callable[..., HttpClient],
    authority: trustme.CA,
    internal: Asking,
    monkeypatch: pytest.MonkeyPatch,
    hosts: tuple[str, ...] | None,
) -> None:
    """The server behind a proxy that speaks TLS sees it through the tunnel, and the proxy does not."""
    with Asking(authority, "127.0.0.1", script=proxy) as between:
        http = make_client(client_cert_hosts=hosts)
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        monkeypatch.setenv("ALL_PROXY", f"https://127.0.0.1:{between.port}")
        assert http.get(internal.at("localhost")), http.last_failure
        assert (between.saw, internal.saw) == ([None], ["alice@corp.example"])

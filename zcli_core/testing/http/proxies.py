"""The part of the HTTP suite about proxies from the environment (``http.trust_env``)."""

from __future__ import annotations

import contextlib
import select
import socket
from base64 import b64encode

import pytest

from zcli_core.testing import certificates
from zcli_core.testing.certificates import server_tls
from zcli_core.testing.http.base import SECRET, SHORT, Caller, HttpContract, MakeCaller
from zcli_core.testing.http.peer import ScriptedServer, after_request, closed_port, responding, response

LOGIN = "Basic " + b64encode(f"user:{SECRET}@".encode()).decode()


def tunnel(server: ScriptedServer, connection: socket.socket, behind: bytes = b"") -> None:
    """Proxy script: connect to the target of CONNECT and pass bytes both ways; ``behind`` is sent after the
    response."""
    request = server.read_request(connection)
    if not request:
        return
    host, _, port = request.target.rpartition(":")
    with socket.create_connection((host, int(port))) as upstream:
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n" + behind)
        while not server.closing.is_set():
            for source in select.select([connection, upstream], [], [], 0.1)[0]:
                block = source.recv(65536)
                if not block:
                    return
                (upstream if source is connection else connection).sendall(block)


class ProxiesContract(HttpContract):
    """HTTP is forwarded, HTTPS is tunnelled and verified end to end, and failures of the proxy have their own kind."""

    @pytest.fixture
    def caller(self, make_caller: MakeCaller) -> Caller:
        """A transport with the settings of the class."""
        return make_caller(trust_env=True)

    @pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
    def test_http_is_forwarded(self, caller: Caller, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
        """The request line has the whole URL (RFC 9112, section 3.2.2), and the proxy resolves the name."""
        with ScriptedServer(responding(response(b"through"))) as proxy:
            monkeypatch.setenv(variable, proxy.url)
            for _ in range(2):
                found = caller.send("http://behind.invalid:8080/path?a=b", headers=[("X-Mine", "1")])
                assert found.body == b"through"
            request = proxy.requests[0]
            assert request.startswith(b"GET http://behind.invalid:8080/path?a=b HTTP/1.1\r\n")
            assert sorted(request.fields) == [("Host", "behind.invalid:8080"), ("X-Mine", "1")]
            assert proxy.connections == 1

    def test_body_is_forwarded(self, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is sent as to the server itself."""
        with ScriptedServer(responding(response(b"through"))) as proxy:
            monkeypatch.setenv("http_proxy", proxy.url)
            assert caller.send("http://behind.invalid/", "POST", body=b"body").body == b"through"
            assert caller.send("http://behind.invalid/", "POST", body=iter([b"bo", b"dy"])).body == b"through"
            assert [request.body for request in proxy.requests] == [b"body", b"body"]

    def test_https_is_tunnelled_and_verified(
        self, make_caller: MakeCaller, ca_file: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The proxy sees the address and no header (RFC 9110, section 9.3.6), and the tunnel is kept."""
        with (
            ScriptedServer(responding(response(b"secure")), server_tls()) as server,
            ScriptedServer(tunnel) as proxy,
        ):
            monkeypatch.setenv("https_proxy", proxy.url)
            caller = make_caller(trust_env=True, ca_file=ca_file)
            for _ in range(2):
                assert caller.send(server.url, headers=[("Authorization", "x"), ("User-Agent", "u")]).body == b"secure"
            assert proxy.connections == 1
            assert (proxy.requests[0].method, proxy.requests[0].target) == ("CONNECT", f"127.0.0.1:{server.port}")
            assert not proxy.requests[0].all("authorization")
            assert not proxy.requests[0].all("user-agent")
            assert server.requests[0].target == "/"

    def test_tunnel_to_another_host_is_refused(
        self, make_caller: MakeCaller, ca_file: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The certificate of the server is verified."""
        with (
            ScriptedServer(responding(response()), server_tls(certificates.STRANGER)) as server,
            ScriptedServer(tunnel) as proxy,
        ):
            monkeypatch.setenv("https_proxy", proxy.url)
            make_caller(trust_env=True, ca_file=ca_file).fails("tls", server.url)
            assert server.requests == []

    def test_proxy_cannot_respond_for_the_server(
        self, make_caller: MakeCaller, ca_file: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Unencrypted data after the response to CONNECT is not taken for the server's."""
        with (
            ScriptedServer(responding(response(b"secure")), server_tls()) as server,
            ScriptedServer(lambda server, connection: tunnel(server, connection, response(b"forged"))) as proxy,
        ):
            monkeypatch.setenv("https_proxy", proxy.url)
            make_caller(trust_env=True, ca_file=ca_file).fails("tls", server.url)
            assert server.requests == []

    def test_proxy_login_is_sent_to_the_proxy_only(
        self, make_caller: MakeCaller, ca_file: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """User and password of the variable are percent-decoded (RFC 7617)."""
        with (
            ScriptedServer(responding(response()), server_tls()) as server,
            ScriptedServer(tunnel) as connecting,
            ScriptedServer(responding(response())) as forwarding,
        ):
            for name, proxy in (("https_proxy", connecting), ("http_proxy", forwarding)):
                monkeypatch.setenv(name, proxy.url.replace("://", f"://user:{SECRET}%40@"))
            caller = make_caller(trust_env=True, ca_file=ca_file)
            caller.send(server.url)
            caller.send("http://behind.invalid/")
            assert connecting.requests[0].all("proxy-authorization") == [LOGIN]
            assert forwarding.requests[0].all("proxy-authorization") == [LOGIN]
            assert not server.requests[0].all("proxy-authorization")

    def test_response_of_a_forwarding_proxy_is_returned(self, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        """It looks like a response of the server, also with the status 407."""
        with ScriptedServer(responding(response(b"login", "407 Proxy Authentication Required"))) as proxy:
            monkeypatch.setenv("http_proxy", proxy.url)
            found = caller.send("http://behind.invalid/")
            assert (found.status, found.body) == (407, b"login")

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_unreachable_proxy_is_proxy(self, caller: Caller, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
        """The message has its address and not its password."""
        port = closed_port()
        monkeypatch.setenv(f"{scheme}_proxy", f"http://user:{SECRET}@127.0.0.1:{port}")
        assert str(port) in caller.fails("proxy", f"{scheme}://behind.invalid/").message

    def test_proxy_without_address_is_proxy(self, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        """The kind is not ``dns``, which is for the server's name."""
        monkeypatch.setenv("http_proxy", f"http://user:{SECRET}@no-such-proxy.invalid:3128")
        caller.fails("proxy", "http://behind.invalid/")

    @pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "403 Forbidden", "502 Bad Gateway"])
    def test_refused_tunnel_is_proxy(self, caller: Caller, monkeypatch: pytest.MonkeyPatch, status: str) -> None:
        """The message has the status; the body is not taken for the server's response."""
        with ScriptedServer(responding(response(b"the proxy's page", status))) as proxy:
            monkeypatch.setenv("https_proxy", proxy.url.replace("://", f"://user:{SECRET}@"))
            assert status[:3] in caller.fails("proxy", "https://behind.invalid/").message

    @pytest.mark.parametrize(
        "raw",
        [b"HTTP/1.1 403 No\x1b[31m\x07way\r\nContent-Length: 0\r\n\r\n", b"SSH-2.0-x\r\n", b"\x15\x03\x01\0\2\2\x46"],
        ids=["control characters", "another protocol", "TLS"],
    )
    def test_tunnel_refusal_names_the_host(self, caller: Caller, monkeypatch: pytest.MonkeyPatch, raw: bytes) -> None:
        """The message is printable, whatever the proxy sends."""
        with ScriptedServer(responding(raw, keep_open=False)) as proxy:
            monkeypatch.setenv("https_proxy", proxy.url)
            assert "behind.invalid" in caller.fails("proxy", "https://behind.invalid/").message

    @pytest.mark.parametrize("address", ["https://behind.invalid/", "https://[::1]:8443/"])
    def test_connect_is_http_1_1_with_host(self, caller: Caller, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
        """Servers may refuse a request without Host (RFC 9112, section 3.2)."""
        authority = address.split("/")[2]
        authority += "" if authority.endswith("8443") else ":443"
        with ScriptedServer(responding(response(b"", "403 Forbidden"))) as proxy:
            monkeypatch.setenv("https_proxy", proxy.url)
            caller.fails("proxy", address)
            assert proxy.requests[0].startswith(f"CONNECT {authority} HTTP/1.1\r\n".encode())
            assert proxy.requests[0].all("host") == [authority]

    def test_proxy_that_closes_is_proxy(self, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        """It closes the connection instead of opening the tunnel."""
        with ScriptedServer(after_request(lambda server, connection: None)) as proxy:
            monkeypatch.setenv("https_proxy", proxy.url)
            caller.fails("proxy", "https://behind.invalid/")

    @pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\nX: "], ids=["silent", "trickling"])
    def test_slow_tunnel_times_out(self, caller: Caller, monkeypatch: pytest.MonkeyPatch, beginning: bytes) -> None:
        """The deadline holds for the tunnel too."""

        def script(server: ScriptedServer, connection: socket.socket) -> None:
            connection.sendall(beginning)
            with contextlib.suppress(OSError):
                server.trickle(connection, b"a" if beginning else b"")

        with ScriptedServer(after_request(script)) as proxy:
            monkeypatch.setenv("https_proxy", proxy.url)
            caller.times_out("https://behind.invalid/")

    def test_handshake_after_a_slow_tunnel_times_out(self, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        """The deadline is that of the whole call."""

        def script(server: ScriptedServer, connection: socket.socket) -> None:
            server.closing.wait(SHORT / 2)
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            server.hold(connection)

        with ScriptedServer(after_request(script)) as proxy:
            monkeypatch.setenv("https_proxy", proxy.url)
            caller.times_out("https://behind.invalid/")

    @pytest.mark.parametrize(
        "value",
        [f"socks9://user:{SECRET}@127.0.0.1:1", f"http://user:{SECRET}@127.0.0.1:port", f"http://user:{SECRET}@"],
    )
    def test_invalid_proxy_variable_is_proxy(self, caller: Caller, monkeypatch: pytest.MonkeyPatch, value: str) -> None:
        """Without a proxy the request could reach a server that it should not. The message does not repeat the
        value."""
        monkeypatch.setenv("http_proxy", value)
        with ScriptedServer(responding(response())) as server:
            caller.fails("proxy", server.url)
            assert server.requests == []

    @pytest.mark.parametrize(
        ("variable", "no_proxy"),
        [
            ("NO_PROXY", "127.0.0.1"),
            *(("no_proxy", hosts) for hosts in ("*", "other.example, 127.0.0.1", "127.0.0.1:{port}", "127.0.0.0/8")),
        ],
    )
    def test_no_proxy_exempts_a_host(
        self, caller: Caller, monkeypatch: pytest.MonkeyPatch, variable: str, no_proxy: str
    ) -> None:
        """The entry is a name, an address, a network, or one with a port."""
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
        with ScriptedServer(responding(response(b"direct"))) as server:
            monkeypatch.setenv(variable, no_proxy.format(port=server.port))
            assert caller.send(server.url).body == b"direct"

    @pytest.mark.parametrize("no_proxy", ["", "other.example", "behind.invalid.example", "hind.invalid", "::1"])
    def test_no_proxy_exempts_no_other_host(
        self, caller: Caller, monkeypatch: pytest.MonkeyPatch, no_proxy: str
    ) -> None:
        """A host that only ends with the same letters is not exempt."""
        monkeypatch.setenv("no_proxy", no_proxy)
        with ScriptedServer(responding(response(b"through"))) as proxy:
            monkeypatch.setenv("http_proxy", proxy.url)
            assert caller.send("http://behind.invalid/").body == b"through"

    def test_environment_is_read_at_every_call(self, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        """A kept connection to the proxy is not used for a direct request, and vice versa."""
        with (
            ScriptedServer(responding(response(b"direct"))) as server,
            ScriptedServer(responding(response(b"p"))) as proxy,
        ):
            assert caller.send(server.url).body == b"direct"
            monkeypatch.setenv("http_proxy", proxy.url)
            assert caller.send(server.url).body == b"p"
            monkeypatch.delenv("http_proxy")
            assert caller.send(server.url).body == b"direct"
            assert (server.connections, proxy.connections) == (1, 1)

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_trust_env_false_ignores_the_environment(
        self, make_caller: MakeCaller, ca_file: str, monkeypatch: pytest.MonkeyPatch, scheme: str
    ) -> None:
        """Proxy variables have no effect."""
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            for variable in (name, name.upper()):
                monkeypatch.setenv(variable, f"http://127.0.0.1:{closed_port()}")
        with ScriptedServer(responding(response()), server_tls() if scheme == "https" else None) as server:
            assert make_caller(trust_env=False, ca_file=ca_file).send(server.url).body == b"ok"

    def test_cgi_program_ignores_http_proxy(self, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        """A web server passes a request's header ``Proxy`` under this name (CVE-2016-5385)."""
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
        monkeypatch.setenv("REQUEST_METHOD", "GET")
        with ScriptedServer(responding(response(b"direct"))) as server:
            assert caller.send(server.url).body == b"direct"

"""The part of the HTTP suite about proxies, which the environment names as long as ``http.trust_env`` is true."""

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
    """A proxy that connects where CONNECT says, and passes bytes both ways; ``behind`` follows what it says itself."""
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
    """HTTP is forwarded, HTTPS tunnelled and verified end to end, and what fails at the proxy is said to."""

    @pytest.fixture
    def caller(self, make_caller: MakeCaller) -> Caller:
        """A transport that takes proxies from the environment."""
        return make_caller(trust_env=True)

    @pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
    def test_http_is_forwarded(self, caller: Caller, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
        """RFC 9112, section 3.2.2: the whole URL in the request line. The name is the proxy's to look up."""
        with ScriptedServer(responding(response(b"through"))) as proxy:
            monkeypatch.setenv(variable, proxy.url)
            for _ in range(2):
                found = caller.send("http://behind.invalid:8080/path?a=b", headers=[("X-Mine", "1")])
                assert found.body == b"through"
            request = proxy.requests[0]
            assert request.startswith(b"GET http://behind.invalid:8080/path?a=b HTTP/1.1\r\n")
            assert sorted(request.fields) == [("Host", "behind.invalid:8080"), ("X-Mine", "1")]
            assert proxy.connections == 1

    def test_a_body_is_forwarded(self, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        """As it would be sent to the server itself."""
        with ScriptedServer(responding(response(b"through"))) as proxy:
            monkeypatch.setenv("http_proxy", proxy.url)
            assert caller.send("http://behind.invalid/", "POST", body=b"body").body == b"through"
            assert caller.send("http://behind.invalid/", "POST", body=iter([b"bo", b"dy"])).body == b"through"
            assert [request.body for request in proxy.requests] == [b"body", b"body"]

    def test_https_goes_through_a_tunnel_and_is_verified_end_to_end(
        self, make_caller: MakeCaller, ca_file: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """RFC 9110, section 9.3.6. The proxy sees the address and no header; a tunnel is kept and used again."""
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

    def test_a_tunnel_to_somebody_else_is_refused(
        self, make_caller: MakeCaller, ca_file: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It is the server's certificate that has to be right."""
        with (
            ScriptedServer(responding(response()), server_tls(certificates.STRANGER)) as server,
            ScriptedServer(tunnel) as proxy,
        ):
            monkeypatch.setenv("https_proxy", proxy.url)
            make_caller(trust_env=True, ca_file=ca_file).fails("tls", server.url)
            assert server.requests == []

    def test_a_proxy_does_not_respond_for_the_server(
        self, make_caller: MakeCaller, ca_file: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """What comes in the clear behind its 200 is not taken for the response that TLS is to protect."""
        with (
            ScriptedServer(responding(response(b"secure")), server_tls()) as server,
            ScriptedServer(lambda server, connection: tunnel(server, connection, response(b"forged"))) as proxy,
        ):
            monkeypatch.setenv("https_proxy", proxy.url)
            make_caller(trust_env=True, ca_file=ca_file).fails("tls", server.url)
            assert server.requests == []

    def test_a_login_goes_to_the_proxy_alone(
        self, make_caller: MakeCaller, ca_file: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """RFC 7617, from the variable's user and password, which are percent-encoded there."""
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

    def test_what_a_forwarding_proxy_says_is_the_answer(self, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        """407 among it, for nothing tells it from the server's."""
        with ScriptedServer(responding(response(b"login", "407 Proxy Authentication Required"))) as proxy:
            monkeypatch.setenv("http_proxy", proxy.url)
            found = caller.send("http://behind.invalid/")
            assert (found.status, found.body) == (407, b"login")

    @pytest.mark.parametrize("scheme", ["http", "https"])
    def test_a_proxy_that_is_not_there(self, caller: Caller, monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
        """Kind ``proxy``, with its address and without its password."""
        port = closed_port()
        monkeypatch.setenv(f"{scheme}_proxy", f"http://user:{SECRET}@127.0.0.1:{port}")
        assert str(port) in caller.fails("proxy", f"{scheme}://behind.invalid/").message

    def test_a_proxy_whose_name_has_no_address(self, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        """Kind ``proxy`` too: the server's own name is not in question."""
        monkeypatch.setenv("http_proxy", f"http://user:{SECRET}@no-such-proxy.invalid:3128")
        caller.fails("proxy", "http://behind.invalid/")

    @pytest.mark.parametrize("status", ["407 Proxy Authentication Required", "403 Forbidden", "502 Bad Gateway"])
    def test_a_tunnel_that_is_not_opened(self, caller: Caller, monkeypatch: pytest.MonkeyPatch, status: str) -> None:
        """Kind ``proxy``, with the status; the proxy's page is not taken for the server's answer."""
        with ScriptedServer(responding(response(b"the proxy's page", status))) as proxy:
            monkeypatch.setenv("https_proxy", proxy.url.replace("://", f"://user:{SECRET}@"))
            assert status[:3] in caller.fails("proxy", "https://behind.invalid/").message

    @pytest.mark.parametrize(
        "raw",
        [b"HTTP/1.1 403 No\x1b[31m\x07way\r\nContent-Length: 0\r\n\r\n", b"SSH-2.0-x\r\n", b"\x15\x03\x01\0\2\2\x46"],
        ids=["control characters", "another protocol", "TLS"],
    )
    def test_tunnel_refusal_names_the_host(self, caller: Caller, monkeypatch: pytest.MonkeyPatch, raw: bytes) -> None:
        """In printable text, as every message, whatever the proxy says."""
        with ScriptedServer(responding(raw, keep_open=False)) as proxy:
            monkeypatch.setenv("https_proxy", proxy.url)
            assert "behind.invalid" in caller.fails("proxy", "https://behind.invalid/").message

    @pytest.mark.parametrize("address", ["https://behind.invalid/", "https://[::1]:8443/"])
    def test_connect_is_http_1_1_with_host(self, caller: Caller, monkeypatch: pytest.MonkeyPatch, address: str) -> None:
        """RFC 9112, section 3.2: a request without Host may be refused."""
        authority = address.split("/")[2]
        authority += "" if authority.endswith("8443") else ":443"
        with ScriptedServer(responding(response(b"", "403 Forbidden"))) as proxy:
            monkeypatch.setenv("https_proxy", proxy.url)
            caller.fails("proxy", address)
            assert proxy.requests[0].startswith(f"CONNECT {authority} HTTP/1.1\r\n".encode())
            assert proxy.requests[0].all("host") == [authority]

    def test_a_proxy_that_closes_instead_of_a_tunnel(self, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        """Kind ``proxy`` again."""
        with ScriptedServer(after_request(lambda server, connection: None)) as proxy:
            monkeypatch.setenv("https_proxy", proxy.url)
            caller.fails("proxy", "https://behind.invalid/")

    @pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\nX: "], ids=["silent", "trickling"])
    def test_a_tunnel_that_takes_too_long(
        self, caller: Caller, monkeypatch: pytest.MonkeyPatch, beginning: bytes
    ) -> None:
        """The deadline holds there as well."""

        def script(server: ScriptedServer, connection: socket.socket) -> None:
            connection.sendall(beginning)
            with contextlib.suppress(OSError):
                server.trickle(connection, b"a" if beginning else b"")

        with ScriptedServer(after_request(script)) as proxy:
            monkeypatch.setenv("https_proxy", proxy.url)
            caller.times_out("https://behind.invalid/")

    def test_a_handshake_after_a_slow_tunnel_has_only_what_is_left(
        self, caller: Caller, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The deadline is that of the call, not of each step."""

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
    def test_a_variable_that_names_no_proxy_is_a_failure(
        self, caller: Caller, monkeypatch: pytest.MonkeyPatch, value: str
    ) -> None:
        """Going without one might send to the world what was to stay behind it. The value is not repeated."""
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
        """By name, address, network, or with its port."""
        monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port()}")
        with ScriptedServer(responding(response(b"direct"))) as server:
            monkeypatch.setenv(variable, no_proxy.format(port=server.port))
            assert caller.send(server.url).body == b"direct"

    @pytest.mark.parametrize("no_proxy", ["", "other.example", "behind.invalid.example", "hind.invalid", "::1"])
    def test_no_proxy_exempts_nobody_else(self, caller: Caller, monkeypatch: pytest.MonkeyPatch, no_proxy: str) -> None:
        """A name that only ends alike is another's."""
        monkeypatch.setenv("no_proxy", no_proxy)
        with ScriptedServer(responding(response(b"through"))) as proxy:
            monkeypatch.setenv("http_proxy", proxy.url)
            assert caller.send("http://behind.invalid/").body == b"through"

    def test_the_environment_is_read_at_every_call(self, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        """A kept connection of one way is not used for the other."""
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
    def test_the_environment_is_left_alone_where_trust_env_is_false(
        self, make_caller: MakeCaller, ca_file: str, monkeypatch: pytest.MonkeyPatch, scheme: str
    ) -> None:
        """Whatever it says."""
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            for variable in (name, name.upper()):
                monkeypatch.setenv(variable, f"http://127.0.0.1:{closed_port()}")
        with ScriptedServer(responding(response()), server_tls() if scheme == "https" else None) as server:
            assert make_caller(trust_env=False, ca_file=ca_file).send(server.url).body == b"ok"

    def test_http_proxy_is_not_believed_in_a_cgi_program(self, caller: Caller, monkeypatch: pytest.MonkeyPatch) -> None:
        """A web server hands a request's ``Proxy`` header over by that name (CVE-2016-5385)."""
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{closed_port()}")
        monkeypatch.setenv("REQUEST_METHOD", "GET")
        with ScriptedServer(responding(response(b"direct"))) as server:
            assert caller.send(server.url).body == b"direct"

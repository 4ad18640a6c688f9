"""Contract suite, part: endpoints, TLS, and listeners that stop."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import ssl
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from zcli_core.testing.certificates import AUTHORITY, client_tls, server_tls
from zcli_core.testing.websocket.client import (
    PATIENCE,
    Client,
    Frame,
    read_all,
    until,
    upgrade_request,
)
from zcli_core.testing.websocket.decisions import Undecided
from zcli_core.testing.websocket.frames import (
    BINARY,
    CLOSE,
    TEXT,
    close,
    frame,
)
from zcli_core.testing.websocket.server import ServerUnderTest
from zcli_core.testing.websocket.suite import (
    Serve,
    WebSocketSuite,
    requires,
)
from zcli_core.websocket.contract import Capability, Closed, ClosedBy, Endpoint, Limits, PlainResponse, Refuse

needs_unix = pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="the system has no Unix sockets")
needs_reuse_port = pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="the system has no SO_REUSEPORT")


def serves_tls(server: ServerUnderTest) -> bool:
    """Return whether a client is served over TLS; on a loaded machine this may take longer than ``open_timeout``."""
    try:
        with server.connect(tls=client_tls()) as client:
            return client.echo() == b"are you there?"
    except (OSError, EOFError, AssertionError):
        return False


def has_ipv6() -> bool:
    """Return whether this machine has the address ::1."""
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as sock:
        sock.bind(("::1", 0))
        return True
    return False


class ListeningTests(WebSocketSuite):
    """Ports, Unix sockets, TLS, and listeners that stop."""

    # Ports --------------------------------------------------------------------------------------------------------

    def test_port_0_is_a_free_port_in_addresses(self, serve: Serve) -> None:
        """The listener picks a free port on the given host."""
        with serve() as one, serve() as two:
            assert one.port != two.port
            (address,) = one.listener.addresses
            assert address == ("127.0.0.1", one.port)

    @pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
    def test_ipv6_clients_have_ipv6_addresses(self, serve: Serve) -> None:
        """The listener and its clients have IPv6 addresses; a client's may be without flow and scope."""
        with serve(endpoint=Endpoint("::1", 0)) as server, server.connect() as client:
            assert client.echo() == b"are you there?"
            (address,) = server.listener.addresses
            assert address is not None
            assert address[0] == "::1"
            assert (server.upgrades[0].remote_address or ())[:2] == client.sock.getsockname()[:2]

    def test_port_in_use_raises_oserror(self, serve: Serve) -> None:
        """The core turns the error into a sentence."""
        with serve() as server, pytest.raises(OSError), serve(endpoint=Endpoint(port=server.port)):
            pass

    @needs_reuse_port
    def test_reuse_port_shares_a_port(self, serve: Serve) -> None:
        """Two listeners use one port, as two processes would."""
        shared = Endpoint(port=0, reuse_port=True)
        with serve(endpoint=shared) as one, serve(endpoint=replace(shared, port=one.port)) as two:
            for _ in range(200):
                with one.connect() as client:
                    assert client.echo() == b"are you there?"
                if one.connections and two.connections:
                    break
            assert one.connections
            assert two.connections

    def test_transport_can_listen_twice(self, serve: Serve) -> None:
        """Each listener has its own limits and acceptor."""
        with serve(Limits(max_size=10)) as small, serve() as large, small.connect() as one, large.connect() as two:
            assert two.echo(b"more than ten bytes") == b"more than ten bytes"
            one.send(frame(TEXT, b"more than ten bytes"))
            assert one.close_code() == 1009
            assert (len(small.upgrades), len(large.upgrades)) == (1, 1)

    # Unix sockets -------------------------------------------------------------------------------------------------

    @needs_unix
    def test_unix_socket_is_removed_on_close(self, serve: Serve, tmp_path: Path) -> None:
        """Neither the listener nor its clients have addresses, and the next listener can bind the path."""
        path = tmp_path / "s"
        for _ in range(2):
            with serve(endpoint=Endpoint(host=None, port=0, unix_path=path)) as server:
                with server.connect() as client:
                    assert client.echo() == b"are you there?"
                assert server.listener.addresses == []
                assert server.upgrades[0].remote_address is None
                assert server.upgrades[0].local_address is None
            assert not path.exists()

    @needs_unix
    def test_unix_socket_has_the_given_mode(self, serve: Serve, tmp_path: Path) -> None:
        """The umask has no effect, and the owner is unchanged without a setting."""
        path = tmp_path / "s"
        for mode in (0o660, 0o606, 0o600):
            with serve(endpoint=Endpoint(host=None, port=0, unix_path=path, unix_mode=mode)) as server:
                assert stat.S_IMODE(path.stat().st_mode) == mode
                assert path.stat().st_uid == os.geteuid()
                with server.connect() as client:
                    assert client.echo() == b"are you there?"

    # Given sockets -----------------------------------------------------------------------------------------------

    def test_given_sockets_are_served_and_closed(self, serve: Serve) -> None:
        """The listener serves on each of them and closes them in the end."""
        passed = tuple(socket.create_server(("127.0.0.1", 0)) for _ in range(2))
        names = [sock.getsockname() for sock in passed]
        with serve(endpoint=Endpoint(sockets=passed)) as server:
            assert server.listener.addresses == names
            for name in names:
                with Client(socket.create_connection(name, timeout=PATIENCE), upgrade_request()) as client:
                    assert client.echo() == b"are you there?"
        for name in names:
            with socket.socket() as sock:
                assert sock.connect_ex(name) != 0

    @needs_unix
    def test_given_unix_socket_keeps_its_file(self, serve: Serve, tmp_path: Path) -> None:
        """The file belongs to the process that has passed the socket."""
        path = tmp_path / "s"
        passed = socket.socket(socket.AF_UNIX)
        passed.bind(str(path))
        passed.listen()
        with serve(endpoint=Endpoint(sockets=(passed,))) as server:
            sock = socket.socket(socket.AF_UNIX)
            sock.settimeout(PATIENCE)
            sock.connect(str(path))
            with Client(sock, upgrade_request()) as client:
                assert client.echo() == b"are you there?"
            assert server.listener.addresses == []
        assert path.exists()

    # TLS ----------------------------------------------------------------------------------------------------------

    @requires(Capability.PENDING_CONNECTIONS)
    def test_certificate_rejected_by_client_is_reported(self, serve: Serve) -> None:
        """The TLS alert is passed to Acceptor.refused, and the next client is served."""
        with serve(endpoint=Endpoint(port=0, tls=server_tls())) as server:
            with server.socket() as sock, pytest.raises(ssl.SSLError):
                ssl.create_default_context().wrap_socket(sock, server_hostname="localhost")
            ((cause, request),) = until(lambda: server.refusals, "Acceptor.refused was not called")
            assert "certificate" in cause
            assert request is None
            with server.connect(tls=client_tls()) as client:
                assert client.echo() == b"are you there?"

    def test_client_certificate_is_in_the_request(self, serve: Serve) -> None:
        """It is None if the TLS context does not request one."""
        tls = server_tls()
        tls.load_verify_locations(cadata=AUTHORITY)
        tls.verify_mode = ssl.CERT_OPTIONAL
        with serve(endpoint=Endpoint(port=0, tls=tls)) as server, server.connect(tls=client_tls()) as client:
            assert client.echo() == b"are you there?"
            assert server.upgrades[0].client_certificate is None

    @pytest.mark.parametrize("size", [10, 1_000_000])
    def test_tls_client_is_served(self, serve: Serve, size: int) -> None:
        """The request has ``tls`` set."""
        with serve(endpoint=Endpoint(port=0, tls=server_tls())) as server:
            with server.connect(tls=client_tls()) as client:
                assert client.echo(b"x" * size, BINARY) == b"x" * size
                client.send(close(4000))
                assert client.read().opcode == CLOSE
            assert server.has_closed() == Closed(4000, "", ClosedBy.CLIENT)
            assert server.upgrades[0].tls
            assert server.upgrades[0].remote_address is not None

    @requires(Capability.EARLY_DATA, way=["closed", "violation"])
    @pytest.mark.parametrize("way", ["refused", "responded", "closed", "violation"])
    def test_tls_client_gets_the_last_response(self, serve: Serve, way: str) -> None:
        """The client has sent more than was read, and does not close the connection itself."""
        decisions = {"refused": Refuse(1008, "no"), "responded": PlainResponse(403)}
        expected = {
            "refused": b"\x03\xf0no",
            "responded": b"HTTP/1.1 403 ",
            "closed": b"\x88\x02\x03\xe8",
            "violation": b"\x03\xea",
        }
        endpoint = Endpoint(port=0, tls=server_tls())
        with (
            serve(
                Limits(close_timeout=2), endpoint, decide=lambda server, _: decisions.get(way, server.accept())
            ) as server,
            client_tls().wrap_socket(server.socket(), server_hostname="localhost") as sock,
        ):
            sock.sendall(upgrade_request() + (close(1000) if way == "closed" else frame(3)))
            with contextlib.suppress(OSError):  # the server need not read after its last response
                sock.sendall(frame(TEXT, b"x" * 50_000))
            assert expected[way] in read_all(sock)

    @requires(Capability.PENDING_CONNECTIONS, way=["says nothing", "half a hello"])
    @pytest.mark.parametrize("way", ["says nothing", "half a hello", "speaks plain HTTP", "distrusts us", "leaves"])
    def test_failed_tls_handshake_logs_nothing(self, serve: Serve, way: str, caplog: pytest.LogCaptureFixture) -> None:
        """It ends within ``open_timeout`` without a warning in the log, and the next client is served."""
        waits = way in ("says nothing", "half a hello")
        limits = Limits(open_timeout=0.5 if waits else PATIENCE, close_timeout=0.5)
        with serve(limits, Endpoint(port=0, tls=server_tls())) as server:
            sock = server.socket()
            if way == "half a hello":
                sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
            elif way == "speaks plain HTTP":
                sock.sendall(upgrade_request())
            elif way == "distrusts us":
                with pytest.raises(ssl.SSLError):
                    ssl.create_default_context().wrap_socket(sock, server_hostname="localhost")
            if way not in ("leaves", "distrusts us"):
                with contextlib.suppress(OSError):
                    read_all(sock)
            sock.close()
            until(lambda: serves_tls(server), "the next client was not served")
        assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []

    @requires(Capability.PENDING_CONNECTIONS)
    def test_silent_tls_client_ends_after_open_timeout(self, serve: Serve) -> None:
        """``open_timeout`` covers the TLS handshake and the request together."""
        with serve(Limits(open_timeout=0.4), Endpoint(port=0, tls=server_tls())) as server:
            with (
                contextlib.suppress(ssl.SSLError, ConnectionError),  # on a loaded machine this ends the handshake
                client_tls().wrap_socket(server.socket(), server_hostname="localhost") as sock,
            ):
                assert read_all(sock) == b""
            assert server.requests == []

    # Stopping -----------------------------------------------------------------------------------------------------

    def test_stop_accepting_frees_the_port_at_once(self, serve: Serve) -> None:
        """Its open connections go on."""
        with serve() as server, server.connect() as client:
            port = server.port
            server.call(server.listener.stop_accepting)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
            with serve(endpoint=Endpoint(port=port)) as other, other.connect() as another:
                assert another.echo() == client.echo() == b"are you there?"
            server.call(server.listener.stop_accepting)  # a second call does nothing

    @requires(Capability.PENDING_CONNECTIONS)
    def test_stop_accepting_drops_unfinished_requests(self, serve: Serve) -> None:
        """A client in the middle of its request is closed."""
        with serve() as server, server.socket() as silent, server.socket() as slow, server.connect():
            slow.sendall(upgrade_request()[:-2])
            server.call(server.listener.stop_accepting)
            assert read_all(silent) == read_all(slow) == b""
            assert len(server.requests) == 1

    @requires(Capability.PENDING_CONNECTIONS)
    def test_stop_accepting_cancels_decisions(self, serve: Serve) -> None:
        """The client is closed, and its decision is cancelled."""
        undecided = Undecided()
        with serve(decide=undecided) as server, server.socket() as sock:
            sock.sendall(upgrade_request())
            until(lambda: undecided.outcome == "waiting")
            server.call(server.listener.stop_accepting)
            assert read_all(sock) == b""
            until(lambda: undecided.outcome == "cancelled")

    def test_finish_accepting_admits_what_was_accepted(self, serve: Serve) -> None:
        """The port is free at once, and a connection in the middle of its request becomes a client."""
        request = upgrade_request()
        with serve() as server, server.socket() as slow:
            slow.sendall(request[:-2])
            with server.connect() as client:  # accepted after the other one
                port = server.port
                server.call(server.listener.close_sockets)
                with pytest.raises(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
                finishing = server.start(server.listener.finish_accepting())
                slow.sendall(request[-2:])
                assert slow.recv(4096).startswith(b"HTTP/1.1 101 ")
                finishing.result(PATIENCE)
                assert client.echo() == b"are you there?"
                assert len(server.connections) == 2

    def test_finish_accepting_waits_for_open_timeout(self, serve: Serve) -> None:
        """A client that sends nothing does not delay it any longer."""
        with serve(Limits(open_timeout=0.3)) as server, server.socket(), server.connect() as client:
            server.wait(server.listener.finish_accepting())
            assert client.echo() == b"are you there?"

    def test_listener_close_closes_every_connection(self, serve: Serve) -> None:
        """Clients that respond are closed at once, the others after ``close_timeout``."""
        with serve(Limits(close_timeout=0.4)) as server, contextlib.ExitStack() as stack:
            bare = stack.enter_context(server.socket())
            clients = [stack.enter_context(server.connect()) for _ in range(20)]
            silent = stack.enter_context(server.connect())
            until(lambda: len(server.connections) == 21)
            closing = server.start(server.listener.close(1012, "going"))
            for client in clients:
                assert client.read() == Frame(CLOSE, (1012).to_bytes(2, "big") + b"going")
                client.send(close(1012))
                assert client.read_to_end() == []
            closing.result(PATIENCE)
            assert server.closed == [Closed(1012, "going", ClosedBy.SERVER)] * 21
            assert silent.close_code() == 1012
            assert read_all(bare) == b""

    def test_listener_close_sends_1001_by_default(self, serve: Serve) -> None:
        """1001 means that the server is going away (RFC 6455, 7.4.1)."""
        with serve() as server, server.connect() as client:
            closing = server.start(server.listener.close())
            assert client.read() == Frame(CLOSE, b"\x03\xe9")
            client.send(close(1001))
            closing.result(PATIENCE)
            assert server.closed == [Closed(1001, "", ClosedBy.SERVER)]

    def test_listener_close_twice_does_nothing(self, serve: Serve) -> None:
        """A second close has no effect."""
        with serve() as server:
            for _ in range(2):
                server.wait(server.listener.close())

    def test_port_can_be_bound_again_at_once(self, serve: Serve) -> None:
        """This holds although the server has closed the connections, and the system keeps them for a minute."""
        port = 0
        for _ in range(3):
            with serve(endpoint=Endpoint(port=port)) as server, server.connect() as client:
                port = server.port
                assert client.echo() == b"are you there?"
                closing = server.start(server.listener.close())
                assert client.read().opcode == CLOSE
                client.send(close(1001))
                assert client.read_to_end() == []
                closing.result(PATIENCE)

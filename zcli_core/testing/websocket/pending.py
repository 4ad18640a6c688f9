"""Contract suite, part: the number of connections that are not admitted is limited."""

from __future__ import annotations

import contextlib
import socket

import pytest

from zcli_core.testing.certificates import client_tls, server_tls
from zcli_core.testing.websocket.client import (
    PATIENCE,
    reset,
    until,
    upgrade_request,
)
from zcli_core.testing.websocket.handshake import GET
from zcli_core.testing.websocket.suite import (
    Serve,
    WebSocketSuite,
    requires,
)
from zcli_core.websocket.contract import Capability, Endpoint, Limits, PlainResponse, Refuse

#: The limit of pending connections in these tests.
LIMIT = 4

#: The data of clients that stop in their handshake, and whether they use TLS.
UNDECIDED = {
    "nothing": (b"", False),
    "half a request": (upgrade_request()[:-2], False),
    "nothing over TLS": (b"", True),
    "half a TLS handshake": (b"\x16\x03\x01\x02\x00\x01\x00", True),
}

#: Decisions that refuse, with and without a delay.
REFUSED = {
    "a close frame": Refuse(1008, "no"),
    "a close frame that waits": Refuse(1008, "no", delay=PATIENCE),
    "a response": PlainResponse(403),
    "a response that waits": PlainResponse(403, delay=PATIENCE),
}


def ends(sock: socket.socket) -> bool:
    """Return whether the server has closed the connection, after anything that it has sent."""
    sock.settimeout(0.02)
    try:
        while sock.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        pass
    return True


@requires(Capability.PENDING_CONNECTIONS)
class PendingConnectionTests(WebSocketSuite):
    """Any client may open such a connection, so their number is limited."""

    @pytest.mark.parametrize("what", UNDECIDED)
    def test_pending_over_the_limit_closes_the_oldest(self, serve: Serve, what: str) -> None:
        """Connections count from the moment in which they are accepted; admitted ones and the newest ones stay."""
        sent, secure = UNDECIDED[what]
        tls = client_tls() if secure else None
        limits = Limits(max_pending_connections=LIMIT, open_timeout=PATIENCE, close_timeout=PATIENCE)
        endpoint = Endpoint(port=0, tls=server_tls() if secure else None)
        with serve(limits, endpoint) as server, server.connect(tls=tls) as let_in, contextlib.ExitStack() as stack:
            crowd = []
            for _ in range(2 * LIMIT):
                crowd.append(stack.enter_context(server.socket()))
                crowd[-1].sendall(sent)
            for old in crowd[:LIMIT]:
                until(lambda sock=old: ends(sock), "a client over the limit was not closed")  # type: ignore[misc]
            assert not any(map(ends, crowd[LIMIT:]))
            with server.connect(tls=tls) as another:
                assert another.echo() == b"are you there?"
            assert let_in.echo() == b"are you there?"

    @pytest.mark.parametrize("how", REFUSED)
    def test_refused_clients_count_while_they_stay(self, serve: Serve, how: str) -> None:
        """They count while their response is delayed, and after it until they leave."""
        decision = REFUSED[how]
        limits = Limits(max_pending_connections=LIMIT, open_timeout=PATIENCE, close_timeout=PATIENCE)
        with serve(limits, decide=lambda *_: decision) as server, contextlib.ExitStack() as stack:
            crowd = []
            for number in range(2 * LIMIT):
                crowd.append(stack.enter_context(server.socket()))
                crowd[-1].sendall(upgrade_request())
                until(lambda count=number: len(server.upgrades) > count)  # type: ignore[misc]
            for old in crowd[:LIMIT]:
                until(lambda sock=old: ends(sock), "a client over the limit was not closed")  # type: ignore[misc]

    def test_clients_that_leave_do_not_count(self, serve: Serve) -> None:
        """No open connection is closed, however many have left."""
        limits = Limits(max_pending_connections=LIMIT, open_timeout=PATIENCE, close_timeout=PATIENCE)
        with serve(limits) as server, server.socket() as first:
            for _ in range(3 * LIMIT):
                reset(server.socket())
                with server.connect() as client:  # the server sees them in order
                    assert client.echo() == b"are you there?"
                assert server.ask(GET)
            assert not ends(first)

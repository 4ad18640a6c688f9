"""The contract of a WebSocket transport, as tests. Derive a class, set the transport, and run pytest.

::

    from zcli_core.testing import WebSocketTransportContract
    from zcli_mine import zcli_websocket_transports

    class TestMine(WebSocketTransportContract):
        transport = zcli_websocket_transports()[0]

The rules are in :mod:`zcli_core.websocket.contract`. The suite tests them with clients that are slow, hostile, broken
or gone. It takes about half a minute, mostly for deadlines.

``run_loop = staticmethod(uvloop.run)`` runs the servers on another event loop. If a transport does not use
``Limits.compression``, the tests of compression are skipped. Each base class can be used alone, to test one part: the
handshake, decisions, messages, limits, flow control, closing, keepalive, listening, pending connections.

The helpers are for your own tests, too. :class:`zcli_core.testing.websocket.server.ServerUnderTest` runs a transport in
a thread, with a core that records every call and checks the rules for it.
:class:`zcli_core.testing.websocket.client.Client` sends any bytes, :mod:`zcli_core.testing.websocket.frames` makes
frames, and :mod:`zcli_core.testing.certificates` has a certificate.
"""

from __future__ import annotations

from zcli_core.testing.websocket.closing import ClosingTests
from zcli_core.testing.websocket.decisions import DecisionTests
from zcli_core.testing.websocket.flow_control import FlowControlTests
from zcli_core.testing.websocket.handshake import HandshakeTests
from zcli_core.testing.websocket.keepalive import KeepaliveTests
from zcli_core.testing.websocket.limits import LimitTests
from zcli_core.testing.websocket.listening import ListeningTests
from zcli_core.testing.websocket.messages import MessageTests
from zcli_core.testing.websocket.pending import PendingConnectionTests


class WebSocketTransportContract(
    HandshakeTests,
    DecisionTests,
    MessageTests,
    LimitTests,
    FlowControlTests,
    ClosingTests,
    KeepaliveTests,
    ListeningTests,
    PendingConnectionTests,
):
    """The rules for every WebSocket transport."""

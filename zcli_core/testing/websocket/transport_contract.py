"""The contract of a WebSocket transport, as tests: derive a class, name the transport, and run pytest.

::

    from zcli_core.testing import WebSocketTransportContract
    from zcli_mine import zcli_websocket_transports

    class TestMine(WebSocketTransportContract):
        transport = zcli_websocket_transports()[0]

What the core asks of a transport is in :mod:`zcli_core.websocket.contract`; this is what becomes of it when clients
are slow, hostile, broken or gone. It takes about half a minute, most of it spent waiting for deadlines.

``run_loop = staticmethod(uvloop.run)`` runs the servers on another event loop. A transport without compression leaves
``Limits.compression`` unused: the tests of what is compressed are skipped then. Each base of the contract can be
derived from alone, to test one part: openings, decisions, messages, limits, flow, closing, keepalive, places to listen,
crowds.

The fakes are for tests of your own, too: :class:`zcli_core.testing.websocket.server.ServerUnderTest` runs a transport
in a thread, with a core that records every call and checks the rules for it;
:class:`zcli_core.testing.websocket.client.Client` sends any bytes at all, which
:mod:`zcli_core.testing.websocket.frames` makes; :mod:`zcli_core.testing.localhost` is a certificate.
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
    """What holds for every WebSocket transport."""

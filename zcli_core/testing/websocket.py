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

The fakes are for tests of your own, too: :class:`zcli_core.testing.websocket_server.ServerUnderTest` runs a transport
in a thread, with a core that records every call and checks the rules for it;
:class:`zcli_core.testing.websocket_peer.Client` sends any bytes at all, which
:mod:`zcli_core.testing.websocket_frames` makes; :mod:`zcli_core.testing.certificates` has certificates.
"""

from __future__ import annotations

from zcli_core.testing.websocket_closing import ClosingTests
from zcli_core.testing.websocket_crowd import CrowdTests
from zcli_core.testing.websocket_deciding import DecidingTests
from zcli_core.testing.websocket_flow import FlowTests
from zcli_core.testing.websocket_keepalive import KeepaliveTests
from zcli_core.testing.websocket_limits import LimitTests
from zcli_core.testing.websocket_messages import MessageTests
from zcli_core.testing.websocket_opening import OpeningTests
from zcli_core.testing.websocket_places import PlaceTests


class WebSocketTransportContract(
    OpeningTests,
    DecidingTests,
    MessageTests,
    LimitTests,
    FlowTests,
    ClosingTests,
    KeepaliveTests,
    PlaceTests,
    CrowdTests,
):
    """What holds for every WebSocket transport."""

"""The contract of a WebSocket transport, as tests: derive a class, name the transport, and run pytest.

::

    from zcli_core.testing import WebSocketTransportContract
    from zcli_mine import zcli_websocket_transports

    class TestMine(WebSocketTransportContract):
        transport = zcli_websocket_transports()[0]

What the core asks of a transport is in :mod:`zcli_core.contracts.websocket`; this is what becomes of it when clients
are slow, hostile, broken or gone. ``-k`` picks one of the parts below by the name of a test.
"""

from __future__ import annotations

import pytest

# Without this a failing test would say no more than "AssertionError": pytest explains asserts of test modules only.
_PARTS = ("opening", "deciding", "messages", "limits", "flow", "closing", "keepalive", "places")
pytest.register_assert_rewrite(*[f"zcli_core.testing.websocket_{part}" for part in _PARTS])

from zcli_core.testing.websocket_closing import ClosingTests  # noqa: E402 - imported after they were named
from zcli_core.testing.websocket_deciding import DecidingTests  # noqa: E402
from zcli_core.testing.websocket_flow import FlowTests  # noqa: E402
from zcli_core.testing.websocket_keepalive import KeepaliveTests  # noqa: E402
from zcli_core.testing.websocket_limits import LimitTests  # noqa: E402
from zcli_core.testing.websocket_messages import MessageTests  # noqa: E402
from zcli_core.testing.websocket_opening import OpeningTests  # noqa: E402
from zcli_core.testing.websocket_places import PlaceTests  # noqa: E402


class WebSocketTransportContract(
    OpeningTests, DecidingTests, MessageTests, LimitTests, FlowTests, ClosingTests, KeepaliveTests, PlaceTests
):
    """What holds for every WebSocket transport."""

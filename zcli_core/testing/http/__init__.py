"""Tests of the contract of an HTTP transport (:class:`zcli_core.http.contract.HttpTransport`).

::

    from zcli_core.testing import HttpTransportContract
    from zcli_mine import zcli_http_transports

    class TestMine(HttpTransportContract):
        transport = zcli_http_transports()[0]

All tests run on loopback, against servers that misbehave on purpose
(:class:`~zcli_core.testing.http.peer.ScriptedServer`), in about 15 seconds. Where transports may differ, the tests
accept both results: for example, a body that is cut short is ``protocol`` or ``reset``.
"""

from __future__ import annotations

import pytest

_PARTS = (
    "base",
    "peer",
    "responses",
    "connections",
    "deadlines",
    "faults",
    "limits",
    "messages",
    "proxies",
    "sending",
    "signals",
    "tls",
)
# Registered before the imports, so that a failing assert in them shows its values.
pytest.register_assert_rewrite(*(f"{__name__}.{part}" for part in _PARTS))

from zcli_core.testing.http.connections import ConnectionsContract  # noqa: E402
from zcli_core.testing.http.deadlines import DeadlineContract  # noqa: E402
from zcli_core.testing.http.faults import FaultsContract  # noqa: E402
from zcli_core.testing.http.limits import LimitsContract  # noqa: E402
from zcli_core.testing.http.messages import MessagesContract  # noqa: E402
from zcli_core.testing.http.proxies import ProxiesContract  # noqa: E402
from zcli_core.testing.http.responses import ResponsesContract  # noqa: E402
from zcli_core.testing.http.sending import SendingContract  # noqa: E402
from zcli_core.testing.http.signals import SignalsContract  # noqa: E402
from zcli_core.testing.http.tls import TlsContract  # noqa: E402

__all__ = ["HttpTransportContract"]


class HttpTransportContract(
    SendingContract,
    ResponsesContract,
    MessagesContract,
    LimitsContract,
    FaultsContract,
    DeadlineContract,
    ConnectionsContract,
    TlsContract,
    ProxiesContract,
    SignalsContract,
):
    """The tests of every HTTP transport.

    Attributes:
        transport: The transport to test: the Provider that the plugin's hook returns.
        settings: zSpark for it, such as ``{"mine": {"speed": 3}}``.
    """

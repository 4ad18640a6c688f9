"""Helpers for tests: of scripts, without a network, and of plugins, against the contract of their kind.

The test of a script has :class:`MockTransport` answer its HTTP requests::

    mock = MockTransport(make_response(json={"celsius": 21})).install(z)

The test of a plugin derives a contract suite::

    from zcli_core.testing import ServiceBackendContract
    from zcli_memcached import zcli_service_backends

    class TestMemcached(ServiceBackendContract):
        backend = zcli_service_backends()[0]

There is a suite for each kind of plugin. The suites need pytest and no plugin of pytest; the mock transport does not
need pytest. zCLI itself never imports this package. The module of a name is imported when the name is first used, so
a suite for services loads no transport.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zcli_core.testing.auth import AuthStrategyContract, make_request
    from zcli_core.testing.backplane import BackplaneContract
    from zcli_core.testing.backplane.engine import EngineProcess
    from zcli_core.testing.contract import make_context
    from zcli_core.testing.http import HttpTransportContract
    from zcli_core.testing.layers import ConfigLayerContract
    from zcli_core.testing.mock_transport import MockRequest, MockTransport, MockTransportError, make_response
    from zcli_core.testing.services import ServiceBackendContract
    from zcli_core.testing.subsystem import SubsystemContract
    from zcli_core.testing.websocket.transport_contract import WebSocketTransportContract

__all__ = [
    "AuthStrategyContract",
    "BackplaneContract",
    "ConfigLayerContract",
    "EngineProcess",
    "HttpTransportContract",
    "MockRequest",
    "MockTransport",
    "MockTransportError",
    "ServiceBackendContract",
    "SubsystemContract",
    "WebSocketTransportContract",
    "make_context",
    "make_request",
    "make_response",
]

#: The module of each name.
_HOMES = {
    "AuthStrategyContract": "auth",
    "BackplaneContract": "backplane",
    "ConfigLayerContract": "layers",
    "EngineProcess": "backplane.engine",
    "HttpTransportContract": "http",
    "MockRequest": "mock_transport",
    "MockTransport": "mock_transport",
    "MockTransportError": "mock_transport",
    "ServiceBackendContract": "services",
    "SubsystemContract": "subsystem",
    "WebSocketTransportContract": "websocket.transport_contract",
    "make_context": "contract",
    "make_request": "auth",
    "make_response": "mock_transport",
}

# pytest shows the values of a failed assert only in test files and in modules that are registered before their import.
# A program that runs without pytest does not import it for this.
if sys.modules.get("pytest") is not None:
    _parts = (f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__))
    sys.modules["pytest"].register_assert_rewrite(*_parts)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

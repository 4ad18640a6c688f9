"""For plugin authors: suites that tell whether a plugin keeps its contract, and fakes for the other side.

::

    from zcli_core.testing import ServiceBackendContract
    from zcli_memcached import zcli_service_backends

    class TestMemcached(ServiceBackendContract):
        backend = zcli_service_backends()[0]

There is a suite for each kind of plugin. They need pytest and nothing else of its world; zCLI itself never imports
this package. A name costs the import of its module when it is first used, so a suite for services loads no transport.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from zcli_core.testing.auth import AuthStrategyContract, make_request
    from zcli_core.testing.contract import make_context
    from zcli_core.testing.http import HttpTransportContract
    from zcli_core.testing.layers import ConfigLayerContract
    from zcli_core.testing.services import ServiceBackendContract
    from zcli_core.testing.websocket import WebSocketTransportContract

__all__ = [
    "AuthStrategyContract",
    "ConfigLayerContract",
    "HttpTransportContract",
    "ServiceBackendContract",
    "WebSocketTransportContract",
    "make_context",
    "make_request",
]

#: The module of each name.
_HOMES = {
    "AuthStrategyContract": "auth",
    "ConfigLayerContract": "layers",
    "HttpTransportContract": "http",
    "ServiceBackendContract": "services",
    "WebSocketTransportContract": "websocket",
    "make_context": "contract",
    "make_request": "auth",
}

# pytest explains the asserts of test files only, unless it is told before the module is imported.
pytest.register_assert_rewrite(*(f"{__name__}.{module.name}" for module in pkgutil.iter_modules(__path__)))


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

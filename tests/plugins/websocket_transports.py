"""Servers of the available WebSocket transports, by name, for tests beyond the contract suite."""

from __future__ import annotations

from typing import Any

import pytest
import scaffolded_transport
import zcli_wsproto

from zcli_core.plugins.contract import Provider
from zcli_core.testing.contract import shared_context
from zcli_core.testing.websocket.server import ServerUnderTest
from zcli_core.websocket.contract import Transport

PROVIDERS: dict[str, Provider[Transport]] = {
    provider.name: provider for provider in [*zcli_wsproto.zcli_websocket_transports(), scaffolded_transport.PROVIDER]
}

on_every_transport = pytest.mark.parametrize("name", PROVIDERS)


def serve(name: str, *arguments: Any, **options: Any) -> ServerUnderTest:
    """Return a server of that transport; the other arguments are those of :class:`ServerUnderTest`."""
    return ServerUnderTest(PROVIDERS[name].factory(shared_context({})), *arguments, **options)

"""The transport ``uvicorn`` passes the contract suite, except for the capabilities that it does not promise.

All of it runs with ``-m slow``. The tests that :data:`CORE` names run by default.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("uvicorn")

import zcli_asgi
import zcli_wsproto

from zcli_core.testing import WebSocketTransportContract
from zcli_core.testing.contract import shared_context
from zcli_core.websocket.contract import Capability

PROVIDERS = {
    provider.name: provider
    for provider in [*zcli_wsproto.zcli_websocket_transports(), *zcli_asgi.zcli_websocket_transports()]
}
DOCS = Path(__file__).resolve().parents[2] / "docs" / "guide" / "websocket.md"

#: Tests that run by default: about one for each rule that uvicorn has a part in.
CORE: set[str] = set()


class TestUvicorn(WebSocketTransportContract):
    """The transport ``uvicorn``, of which another server owns the connections."""

    transport = PROVIDERS["uvicorn"]


def test_capability_table_is_true() -> None:
    """The table of transports in the guide says what each transport declares."""
    header, _, *rows = re.findall(
        r"^\| (.*) \|$", DOCS.read_text(encoding="utf-8").split("<!-- capabilities -->")[1], re.M
    )
    names = [cell.strip().strip("`") for cell in header.split("|")[1:]]
    written = {
        promise.strip(): {name: cell.strip() == "yes" for name, cell in zip(names, cells, strict=True)}
        for promise, *cells in (row.split("|") for row in rows)
    }
    made = {name: PROVIDERS[name].factory(shared_context({})) for name in PROVIDERS}
    declared = {
        each.value: {name: each in transport.capabilities for name, transport in made.items()} for each in Capability
    }
    assert written == declared

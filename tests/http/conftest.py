"""What the tests of the HTTP client share."""

from __future__ import annotations

import pytest
from http_clients import Clock

import zcli_core.http.call
import zcli_core.http.client
import zcli_core.http.retries
import zcli_core.testing.mock_transport


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of HTTP clients and mock transports."""
    made = Clock()
    for module in (
        zcli_core.http.call,
        zcli_core.http.client,
        zcli_core.http.retries,
        zcli_core.testing.mock_transport,
    ):
        monkeypatch.setattr(module, "time", made)
    return made

"""The plugin zcli_picows as the host and an operator see it: missing, unfit, asked for what it cannot do."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from typing import Any

import pytest
import zcli_picows
from websocket_transports import PROVIDERS, serve
from zcli_picows import parser

from zcli_core.app import zCLI
from zcli_core.contracts.websocket import Compression, Endpoint, Limits
from zcli_core.errors import ConfigError, ZCLIError
from zcli_core.testing.contract import make_context


def test_its_entry_module_imports_nothing_heavy() -> None:
    """Declaring costs nothing; what serves is imported when it is selected."""
    heavy = ["asyncio", "h11", "picows", "ssl", "zcli_picows.transport", "zcli_core.contracts.websocket_parts"]
    code = f"import sys, zcli_picows; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.usefixtures("isolated")
def test_choosing_it_without_picows_is_an_error_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing, who chose it, what to do."""
    monkeypatch.setitem(sys.modules, "picows", None)
    assert PROVIDERS["picows"].missing() == ["picows"]
    settings = {"deployment": "Production", "logger": "PROD", "websocket": {"transport": "picows"}}
    with pytest.raises(ConfigError) as caught:
        zCLI(settings)
    message = str(caught.value)
    assert "picows" in message
    assert "websocket.transport (zSpark)" in message
    assert "pip install 'zcli-core[fast]'" in message


def test_compression_is_not_offered_and_the_log_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    """A client that offers it is let in without it."""
    caplog.set_level(logging.WARNING)
    with serve("picows", Limits(compression=Compression())) as server:
        for _ in range(2):
            with server.connect(extensions="permessage-deflate") as client:
                assert "sec-websocket-extensions" not in client.headers
                assert client.echo(b"a" * 1000) == b"a" * 1000
    (record,) = [record for record in caplog.records if "compress" in record.getMessage()]
    assert "websocket.compression" in record.getMessage()


def test_without_compression_it_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """What picows logs about connections that are none does not show either."""
    caplog.set_level(logging.DEBUG)
    with serve("picows") as server, server.connect() as client:
        client.echo()
    assert [record for record in caplog.records if record.name != "asyncio"] == []


class _OtherArguments:
    def __init__(self, *, host: str) -> None: ...


class _OtherBehaviour:
    """A protocol object that takes everything and gives nothing."""

    def __init__(self, **options: Any) -> None: ...

    def connection_made(self, transport: Any) -> None: ...

    def get_buffer(self, size: int) -> memoryview:
        return memoryview(bytearray(1 << 20))

    def buffer_updated(self, size: int) -> None: ...


@pytest.mark.parametrize("other", [_OtherArguments, _OtherBehaviour])
def test_a_picows_that_does_not_fit_is_told_before_anybody_connects(
    other: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later version may change what this leans on."""
    monkeypatch.setattr(parser, "WSProtocol", other)
    transport = zcli_picows.zcli_websocket_transports()[0].factory(make_context())  # type: ignore[index]
    with pytest.raises(ZCLIError, match=r"needs picows .* pip install 'picows.*websocket\.transport"):
        asyncio.run(transport.listen(Endpoint(port=0), None, Limits()))

"""TLS of clients outside HTTP transports, which all use ``zcli_core.net.client_tls``."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from zcli_jwt.fetching import fetch
from zcli_jwt.keys import InvalidKey

from zcli_core.assembly import assemble
from zcli_core.cli.ws_client import Client, ClientError, read_url
from zcli_core.net.client_tls import is_end
from zcli_core.plugins.host import PluginHost
from zcli_core.testing import certificates
from zcli_core.testing.http.peer import ScriptedServer, responding, response


def fetch_keys(url: str, ca_file: Path) -> None:
    """Fetch a key set as the strategy ``jwt`` does."""
    config = assemble(PluginHost(), {"http": {"ca_file": str(ca_file), "trust_env": False}}).config
    with pytest.raises(InvalidKey, match="certificate is not trusted"):
        fetch(url, config, 20.0)


def connect(url: str, ca_file: Path) -> None:
    """Connect as ``zcli ws connect`` does."""
    address, _ = read_url(url.replace("https:", "wss:"))
    with pytest.raises(ClientError, match="certificate verify failed"):
        asyncio.run(Client.connect(address, [], str(ca_file), 1000))


@pytest.mark.parametrize("use", [fetch_keys, connect])
@pytest.mark.parametrize(("host", "certificate"), [("localhost", "COMMON_NAME"), ("127.0.0.1", "COMMON_ADDRESS")])
def test_client_common_name_is_not_compared(
    use: Callable[[str, Path], None], host: str, certificate: str, isolated: Path, tmp_path: Path
) -> None:
    """An authority for user certificates must not make them valid for servers (RFC 9525, section 6.3)."""
    company = tmp_path / "company.pem"
    company.write_text(certificates.COMPANY)
    tls = certificates.server_tls(getattr(certificates, certificate))
    with ScriptedServer(responding(response()), tls) as server:
        use(server.url.replace("127.0.0.1", host), company)
        assert server.requests == []


@pytest.mark.parametrize(("kind", "ends"), [(ssl.SSLError, True), (ssl.SSLEOFError, True), (ssl.SSLError, False)])
def test_is_end_without_close_notify_is_true(kind: type[ssl.SSLError], ends: bool) -> None:
    """Python of Debian 12 has no exception class for it."""
    error = kind(1, "text")
    error.reason = "UNEXPECTED_EOF_WHILE_READING" if ends else "CERTIFICATE_VERIFY_FAILED"
    assert is_end(error) is ends

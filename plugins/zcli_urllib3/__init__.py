"""The default HTTP transport: HTTP/1.1, kept connections and proxies. urllib3 provides TLS within TLS."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from zcli_core import hookimpl
from zcli_core.plugins.contract import Context, Provider

if TYPE_CHECKING:
    from zcli_core.http.contract import HttpTransport

ZCLI_CONTRACT = 1


def _transport(context: Context) -> HttpTransport:
    from zcli_urllib3.transport import Urllib3Transport

    return Urllib3Transport(context.config.http)


@hookimpl
def zcli_http_transports() -> Iterable[Provider[HttpTransport]]:
    """Return the transport ``urllib3``."""
    return [Provider("urllib3", "HTTP/1.1, verified against the system's trust store", _transport)]

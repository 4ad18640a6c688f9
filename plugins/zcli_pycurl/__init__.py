"""The HTTP transport ``curl``, over libcurl: HTTP/2, brotli, zstd. The extra ``curl`` installs what it needs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from zcli_core import hookimpl
from zcli_core.plugins.contract import Context, Provider

if TYPE_CHECKING:
    from zcli_core.http.contract import HttpTransport

ZCLI_CONTRACT = 1


def _transport(context: Context) -> HttpTransport:
    from zcli_pycurl.transport import CurlTransport

    return CurlTransport(context.config.http)


@hookimpl
def zcli_http_transports() -> Iterable[Provider[HttpTransport]]:
    """Return the transport ``curl``."""
    return [
        Provider(
            "curl",
            "HTTP/1.1 and HTTP/2 over libcurl, with gzip, br and zstd",
            _transport,
            ("pycurl",),
            needs=("pycurl",),
            install="pycurl>=7.48",
        )
    ]

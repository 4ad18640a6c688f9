"""The transport ``curl``: kept libcurl handles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pycurl

from zcli_core.errors import ConfigError
from zcli_core.http.parts.transport import PooledTransport
from zcli_pycurl.handle import Handle
from zcli_pycurl.tls import TlsOptions

if TYPE_CHECKING:
    from zcli_core.config.sections import Http

# The first version that limits the total size of the headers of a response.
_OLDEST_LIBCURL = 0x080400


class CurlTransport(PooledTransport[Handle]):
    """Implements :class:`zcli_core.http.contract.HttpTransport` with libcurl.

    Every handle keeps one connection and serves one thread at a time, because threads must not share libcurl's
    connections. HTTP/2 is used if the TLS handshake agrees on it, with one request at a time on a connection.

    libcurl reads responses differently from the transport ``urllib3`` in three ways: it ignores text after the digits
    of a chunk size, it refuses the versions HTTP/1.2 to 1.9, and it refuses a second space before the status.
    """

    def __init__(self, settings: Http) -> None:
        """Make the transport.

        Raises:
            ConfigError: libcurl is too old.
        """
        _, version, number, *_ = pycurl.version_info()
        if number < _OLDEST_LIBCURL:
            raise ConfigError(
                f"http.transport: curl needs libcurl 8.4 or later, and this pycurl has {version}: "
                "pip install --upgrade --force-reinstall pycurl"
            )
        tls = TlsOptions(settings)
        super().__init__(settings, lambda key: Handle(key, tls, settings.max_headers))

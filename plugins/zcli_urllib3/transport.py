"""The transport ``urllib3``: HTTP/1.1 over kept connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zcli_core.http.parts.transport import PooledTransport
from zcli_urllib3.connection import Http1Connection
from zcli_urllib3.tls import TlsContexts

if TYPE_CHECKING:
    from zcli_core.config.sections import Http


class Urllib3Transport(PooledTransport[Http1Connection]):
    """Implements :class:`zcli_core.http.contract.HttpTransport` on sockets, with urllib3's TLS within TLS.

    The pools of urllib3 and Python's ``http.client`` are not used, for four reasons. Their timeouts limit single
    operations, not a whole call. They read headers by the rules of e-mail. They send the whole request before they
    read. They take more time than the connection itself.
    """

    def __init__(self, settings: Http) -> None:
        """Make the transport.

        Raises:
            OSError: ``http.ca_file``, ``client_cert`` or ``client_key`` cannot be used. ``ssl.SSLError`` is an OSError.
        """
        self._tls = tls = TlsContexts(settings)
        super().__init__(settings, lambda key: Http1Connection(key, tls, settings.max_headers))

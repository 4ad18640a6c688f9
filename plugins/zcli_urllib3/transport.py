"""The transport: HTTP/1.1 over kept connections."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zcli_core.http.parts.transport import PooledTransport
from zcli_urllib3.connection import Http1Connection
from zcli_urllib3.tls import TlsContexts

if TYPE_CHECKING:
    from zcli_core.config.sections import Http


class Urllib3Transport(PooledTransport[Http1Connection]):
    """Implements :class:`zcli_core.http.contract.HttpTransport` on sockets, with urllib3's TLS within TLS.

    urllib3's pools and Python's ``http.client`` below them are not used. They time out single operations where a call
    has one deadline, read headers by the rules of e-mail, send to the end before they read, and cost more than the
    connection itself.
    """

    def __init__(self, settings: Http) -> None:
        """Raises ssl.SSLError or OSError if ``http.ca_file``, ``client_cert`` or ``client_key`` cannot be used."""
        self._tls = tls = TlsContexts(settings)
        super().__init__(settings, lambda key: Http1Connection(key, tls, settings.max_headers))

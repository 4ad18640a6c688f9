"""The TLS contexts of one transport: the trusted authorities and the client certificate."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from zcli_core.net.client_tls import client_context, openssl_knows_the_system
from zcli_core.system.forks import call_after_fork

if TYPE_CHECKING:
    import ssl

    from zcli_core.config.sections import Http


class TlsContexts:
    """Provides the TLS context of each new connection."""

    def __init__(self, settings: Http) -> None:
        """Load the files of the settings.

        Raises:
            OSError: A file cannot be used. ``ssl.SSLError`` is an OSError.
        """
        self._settings = settings
        self._shared: dict[bool, ssl.SSLContext] = {}
        self._lock = threading.Lock()
        call_after_fork(self)
        if settings.ca_file is not None or settings.client_cert is not None:
            self.for_connection(shows_certificate=settings.client_cert is not None)

    def for_connection(self, *, shows_certificate: bool = False) -> ssl.SSLContext:
        """Return a context that verifies the peer, which may see the client certificate or not."""
        if self._settings.ca_file is None and not openssl_knows_the_system():
            # Each connection has its own context, because truststore runs the handshakes of one context one after
            # another. A slow peer would delay all other calls beyond their deadlines.
            return self._make(shows_certificate)
        with self._lock:
            if shows_certificate not in self._shared:
                self._shared[shows_certificate] = self._make(shows_certificate)
            return self._shared[shows_certificate]

    def _after_fork(self) -> None:
        """Replace the lock in the child after a fork: the thread that held it does not exist there."""
        self._lock = threading.Lock()

    def _make(self, shows_certificate: bool) -> ssl.SSLContext:
        context = client_context(self._settings.ca_file)
        context.set_alpn_protocols(["http/1.1"])
        if shows_certificate and self._settings.client_cert is not None:
            # The empty passphrase keeps OpenSSL from asking for one on the terminal.
            context.load_cert_chain(self._settings.client_cert, self._settings.client_key, password="")
        return context

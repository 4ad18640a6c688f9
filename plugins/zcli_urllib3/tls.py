"""Whom to trust, and who we are: the TLS contexts of one transport."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from zcli_core.net.tls import client_context, openssl_knows_the_system
from zcli_core.system.forks import call_after_fork

if TYPE_CHECKING:
    import ssl

    from zcli_core.config.sections import Http


class TlsContexts:
    """Hands out the TLS context of each new connection.

    Raises ssl.SSLError or OSError at once if the files that the configuration names cannot be used.
    """

    def __init__(self, settings: Http) -> None:
        self._settings = settings
        self._shared: dict[bool, ssl.SSLContext] = {}
        self._lock = threading.Lock()
        call_after_fork(self)
        if settings.ca_file is not None or settings.client_cert is not None:
            self.for_connection(shows_certificate=settings.client_cert is not None)

    def for_connection(self, *, shows_certificate: bool = False) -> ssl.SSLContext:
        """A context that verifies the peer and, if it asks, shows it the client certificate or none."""
        if self._settings.ca_file is None and not openssl_knows_the_system():
            # A context of its own for each connection: truststore lets only one of a context's handshakes run at a
            # time, so that a slow peer would hold up all other calls beyond their deadlines.
            return self._make(shows_certificate)
        with self._lock:
            if shows_certificate not in self._shared:
                self._shared[shows_certificate] = self._make(shows_certificate)
            return self._shared[shows_certificate]

    def after_fork(self) -> None:
        """In the child after a fork: a lock that another thread held has nobody left to release it."""
        self._lock = threading.Lock()

    def _make(self, shows_certificate: bool) -> ssl.SSLContext:
        context = client_context(self._settings.ca_file)
        context.set_alpn_protocols(["http/1.1"])
        if shows_certificate and self._settings.client_cert is not None:
            # An empty passphrase, or OpenSSL would ask for one on the terminal.
            context.load_cert_chain(self._settings.client_cert, self._settings.client_key, password="")
        return context

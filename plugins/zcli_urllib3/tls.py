"""Whom to trust, and who we are: the TLS contexts of one transport."""

from __future__ import annotations

import os
import ssl
import sys
import threading
from typing import TYPE_CHECKING

from zcli_core.forks import call_after_fork

if TYPE_CHECKING:
    from zcli_core.config.sections import Http


class TlsContexts:
    """Hands out the TLS context of each new connection.

    Raises ssl.SSLError or OSError at once if the files that the configuration names cannot be used.
    """

    def __init__(self, settings: Http) -> None:
        self._settings = settings
        self._shared: ssl.SSLContext | None = None
        self._lock = threading.Lock()
        call_after_fork(self)
        if settings.ca_file is not None or settings.client_cert is not None:
            self.for_connection()

    def for_connection(self) -> ssl.SSLContext:
        """A context that verifies the peer."""
        if self._shared is not None:
            return self._shared
        if self._settings.ca_file is not None or _openssl_knows_the_system():
            with self._lock:
                if self._shared is None:
                    self._shared = self._make_shared()
                return self._shared
        import truststore

        # A context of its own for each connection: truststore lets only one of a context's handshakes run at a time,
        # so that a slow peer would hold up everybody beyond their deadlines.
        context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._configure(context)
        return context

    def after_fork(self) -> None:
        """In the child after a fork: a lock that another thread held has nobody left to release it."""
        self._lock = threading.Lock()

    def _make_shared(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self._settings.ca_file is not None:
            context.load_verify_locations(cafile=self._settings.ca_file)
            # The file may name an authority that was itself signed by one that is not in it.
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        else:
            # What truststore does here too, but for each connection anew, at the cost of reading every certificate of
            # the system, and with a lock held until the peer has finished its handshake.
            context.set_default_verify_paths()
        self._configure(context)
        return context

    def _configure(self, context: ssl.SSLContext) -> None:
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        # Some builds of Python, such as Debian 12's, take a connection that breaks off for one that ended.
        context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
        if self._settings.client_cert is not None:
            # An empty passphrase, or OpenSSL would ask for one on the terminal.
            context.load_cert_chain(self._settings.client_cert, self._settings.client_key, password="")


def _openssl_knows_the_system() -> bool:
    """Whether OpenSSL itself finds the system's authorities, as it does on most of Linux."""
    if sys.platform in ("win32", "darwin"):
        return False
    paths = ssl.get_default_verify_paths()
    return bool(paths.cafile or (paths.capath and os.path.isdir(paths.capath) and os.listdir(paths.capath)))

"""TLS contexts for connections that zCLI opens: the one place that decides whom it trusts, and for which names."""

from __future__ import annotations

import os
import ssl
import sys
from pathlib import Path


def client_context(ca_file: str | Path | None = None) -> ssl.SSLContext:
    """Return a context that verifies the server: TLS 1.2 or later, and names from subjectAltName only.

    A common name is never compared, because an authority that issues user or device certificates may let their holder
    choose it (RFC 9525, section 6.3).

    Args:
        ca_file: PEM file of the authorities to trust instead of the system's.

    Raises:
        OSError: The file cannot be used. ``ssl.SSLError`` is an OSError.
    """
    if ca_file is None and not openssl_knows_the_system():
        import truststore

        context: ssl.SSLContext = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if ca_file is None:
            # What truststore does here too, but for each connection anew, at the cost of reading every certificate of
            # the system, and with a lock held until the peer has finished its handshake.
            context.set_default_verify_paths()
        else:
            context.load_verify_locations(cafile=ca_file)
            # The file may name an authority that was itself signed by one that is not in it.
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.hostname_checks_common_name = False
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Some builds of Python, such as Debian 12's, take a connection that breaks off for one that ended.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    return context


def is_end(error: ssl.SSLError) -> bool:
    """Return whether an error of TLS is the end of the connection, with or without TLS saying so.

    Builds of Python that set ``OP_IGNORE_UNEXPECTED_EOF`` by default, such as Debian 12's, have no class for an end
    that was not announced.
    """
    known = isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError))
    return known or error.reason == "UNEXPECTED_EOF_WHILE_READING"


def openssl_knows_the_system() -> bool:
    """Whether OpenSSL itself finds the system's authorities, as it does on most of Linux."""
    if sys.platform in ("win32", "darwin"):
        return False
    paths = ssl.get_default_verify_paths()
    return bool(paths.cafile or (paths.capath and os.path.isdir(paths.capath) and os.listdir(paths.capath)))

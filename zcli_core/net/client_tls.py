"""TLS contexts of clients. They decide which authorities and which names of a certificate zCLI accepts."""

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
            # truststore would do the same, but would read every certificate of the system for each connection, and hold
            # a lock during the handshake.
            context.set_default_verify_paths()
        else:
            context.load_verify_locations(cafile=ca_file)
            # The file may have an authority whose own issuer is not in it.
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.hostname_checks_common_name = False
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Some builds of Python, such as that of Debian 12, do not report a connection that ends without a close_notify.
    context.options &= ~getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
    return context


def is_end(error: ssl.SSLError) -> bool:
    """Return whether an error is the end of the TLS connection, with or without a close_notify.

    Builds of Python that set ``OP_IGNORE_UNEXPECTED_EOF`` by default, such as that of Debian 12, have no exception
    class for an end without a close_notify.
    """
    known = isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError))
    return known or error.reason == "UNEXPECTED_EOF_WHILE_READING"


def openssl_knows_the_system() -> bool:
    """Return whether OpenSSL finds the system's authorities by itself, as on most Linux systems."""
    if sys.platform in ("win32", "darwin"):
        return False
    paths = ssl.get_default_verify_paths()
    return bool(paths.cafile or (paths.capath and os.path.isdir(paths.capath) and os.listdir(paths.capath)))

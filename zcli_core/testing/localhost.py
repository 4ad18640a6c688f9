"""A certificate for localhost, only for tests, because its private key is public.

Self-signed for ``localhost``, 127.0.0.1 and ::1, valid from 2020 to 2120. Nothing outside a test may trust it.
"""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path

#: The private key and the certificate, in PEM.
LOCALHOST_PEM = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgfpT90d+MYEdqR/En
oaq+CHpYGTXNMsDXIBCWZTz0kZihRANCAATV2xxaf/nchZH5/ZTr2dvdSNbsYfxm
g9SHggIqfIfGeilFpZed3cAOerYj5wFILfXGCoRoxc4EbEAjRiqjjG30
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBzDCCAXOgAwIBAgIBATAKBggqhkjOPQQDAjAaMRgwFgYDVQQDDA96Q0xJIHRl
c3RzIG9ubHkwIBcNMjAwMTAxMDAwMDAwWhgPMjEyMDAxMDEwMDAwMDBaMBoxGDAW
BgNVBAMMD3pDTEkgdGVzdHMgb25seTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IA
BNXbHFp/+dyFkfn9lOvZ291I1uxh/GaD1IeCAip8h8Z6KUWll53dwA56tiPnAUgt
9cYKhGjFzgRsQCNGKqOMbfSjgacwgaQwLAYDVR0RBCUwI4IJbG9jYWxob3N0hwR/
AAABhxAAAAAAAAAAAAAAAAAAAAABMA8GA1UdEwEB/wQFMAMBAf8wDgYDVR0PAQH/
BAQDAgKEMBMGA1UdJQQMMAoGCCsGAQUFBwMBMB0GA1UdDgQWBBSXayt9wnwV4v58
AKAA+1Z2s116yjAfBgNVHSMEGDAWgBSXayt9wnwV4v58AKAA+1Z2s116yjAKBggq
hkjOPQQDAgNHADBEAiA+pTyQMfhHh0st86CWeu1SKFi4gqVLX/mKu5xS5g8P9wIg
e+wgptIaCfW5ttpFy3XTsBVex2SA9Jh8HmRdRbteBro=
-----END CERTIFICATE-----
"""
#: The certificate alone.
LOCALHOST_CERTIFICATE = LOCALHOST_PEM[LOCALHOST_PEM.index("-----BEGIN CERTIFICATE") :]


def server_tls() -> ssl.SSLContext:
    """Return the TLS context of a server on localhost."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory(prefix="zcli-testing-") as folder:  # the ssl module reads it only from a file
        file = Path(folder) / "localhost.pem"
        file.write_text(LOCALHOST_PEM, encoding="ascii")
        context.load_cert_chain(file)
    return context


def client_tls() -> ssl.SSLContext:
    """Return the TLS context of a client that trusts only that server."""
    return ssl.create_default_context(cadata=LOCALHOST_CERTIFICATE)

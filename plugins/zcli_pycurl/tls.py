"""libcurl's options for TLS: the trusted authorities and the client certificate."""

from __future__ import annotations

import os
import re
import ssl
import sys
from typing import TYPE_CHECKING

import pycurl

from zcli_core.http.contract import TransportFailure

if TYPE_CHECKING:
    from zcli_core.config.sections import Http

#: Options and their values. None unsets an option that libcurl has a default for.
Options = list[tuple[int, str | bytes | int | None]]

#: Where systems keep their authorities, as a folder with hashed names and as one file. The OpenSSL in pycurl's wheels
#: was built on another system and looks elsewhere.
FOLDERS = ("/etc/ssl/certs", "/etc/pki/tls/certs", "/system/etc/security/cacerts")
FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
)

# The name of a file in a folder where OpenSSL looks up authorities by hash.
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")


class TlsOptions:
    """The options of every TLS connection. The core has checked the files that the settings name."""

    def __init__(self, settings: Http) -> None:
        self._authorities: Options | None = None
        self._identity: Options = []
        if settings.ca_file is not None:
            self._authorities = [(pycurl.CAINFO, os.fsencode(settings.ca_file))]
        if settings.client_cert is not None:
            self._identity = [
                (pycurl.SSLCERT, os.fsencode(settings.client_cert)),
                (pycurl.SSLKEY, os.fsencode(settings.client_key or settings.client_cert)),
                (pycurl.KEYPASSWD, ""),  # keeps OpenSSL from asking on the terminal
            ]

    def for_server(self, *, shows_certificate: bool) -> Options:
        """Return the options of a connection to a server.

        Raises:
            TransportFailure: ``tls``: no trusted authorities were found.
        """
        return [
            *self._for_peer(),
            (pycurl.OPT_CERTINFO, 1),
            (pycurl.SSL_SESSIONID_CACHE, 0),  # a resumed session has no certificates to check
            *(self._identity if shows_certificate else ()),
        ]

    def for_proxy(self) -> Options:
        """Return the options of a TLS connection to a proxy. A proxy never sees the client certificate.

        Raises:
            TransportFailure: As for :meth:`for_server`.
        """
        return [(_FOR_PROXY[option], value) for option, value in self._for_peer()]

    def _for_peer(self) -> Options:
        if self._authorities is None:
            self._authorities = system_authorities()
        return [(pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2), *_NO_DEFAULTS, *self._authorities]


#: Unsets the authorities that a distribution has built into libcurl.
_NO_DEFAULTS: Options = [(pycurl.CAPATH, None), (pycurl.CAINFO, None)]

_FOR_PROXY = {
    pycurl.SSLVERSION: pycurl.PROXY_SSLVERSION,
    pycurl.CAINFO: pycurl.PROXY_CAINFO,
    pycurl.CAPATH: pycurl.PROXY_CAPATH,
    pycurl.SSL_OPTIONS: pycurl.PROXY_SSL_OPTIONS,
}


def system_authorities() -> Options:
    """Return the options that make libcurl trust the system's authorities.

    The environment variables SSL_CERT_FILE and SSL_CERT_DIR are used as Python uses them.

    Raises:
        TransportFailure: ``tls``: no authorities were found.
    """
    if sys.platform in ("win32", "darwin"):
        return [(pycurl.SSL_OPTIONS, pycurl.SSLOPT_NATIVE_CA)]
    known = ssl.get_default_verify_paths()
    folder = next(filter(_can_be_looked_up, [known.capath, *FOLDERS]), None)
    file = next(filter(_has_content, [known.cafile, *FILES]), None)
    options: Options = [(pycurl.CAPATH, folder)] if folder else []
    # A folder is preferred: OpenSSL reads a whole file for every connection, which takes about 8 ms.
    if file and (folder is None or known.openssl_cafile_env in os.environ):
        options.append((pycurl.CAINFO, file))
    if not options:
        raise TransportFailure(
            "tls", "the certificate authorities of this system were not found: set http.ca_file to a PEM file with them"
        )
    return options


def _can_be_looked_up(folder: str | None) -> bool:
    try:
        return folder is not None and any(_HASHED.fullmatch(name) for name in os.listdir(folder))
    except OSError:
        return False


def _has_content(file: str | None) -> bool:
    try:
        return file is not None and os.path.getsize(file) > 0
    except OSError:
        return False

"""Whom to trust, and who we are: libcurl's options for TLS."""

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

#: None as the value unsets an option that libcurl has a default for.
Options = list[tuple[int, str | bytes | int | None]]

#: Where systems keep their authorities, for an OpenSSL that was built somewhere else: as a folder that OpenSSL can look
#: one up in, and as one file.
FOLDERS = ("/etc/ssl/certs", "/etc/pki/tls/certs", "/system/etc/security/cacerts")
FILES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/share/certs/ca-root-nss.crt",
)

# The name of a file in a folder that OpenSSL can look an authority up in.
_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")


class TlsOptions:
    """The options of every connection with TLS. The core has tried the files that the settings name."""

    def __init__(self, settings: Http) -> None:
        self._authorities: Options | None = None
        self._identity: Options = []
        if settings.ca_file is not None:
            self._authorities = [(pycurl.CAINFO, os.fsencode(settings.ca_file))]
        if settings.client_cert is not None:
            self._identity = [
                (pycurl.SSLCERT, os.fsencode(settings.client_cert)),
                (pycurl.SSLKEY, os.fsencode(settings.client_key or settings.client_cert)),
                (pycurl.KEYPASSWD, ""),  # or OpenSSL would ask for a passphrase on the terminal
            ]

    def for_server(self, *, shows_certificate: bool) -> Options:
        """For a connection with a server. Raises TransportFailure of kind ``tls`` if there is nobody to trust."""
        return [
            *self._for_peer(),
            (pycurl.OPT_CERTINFO, 1),
            (pycurl.SSL_SESSIONID_CACHE, 0),  # libcurl has no certificates of a resumed session to look at
            *(self._identity if shows_certificate else ()),
        ]

    def for_proxy(self) -> Options:
        """For a connection with a proxy that speaks TLS itself. Raises TransportFailure as :meth:`for_server` does.

        A proxy is never shown the client certificate.
        """
        return [(_FOR_PROXY[option], value) for option, value in self._for_peer()]

    def _for_peer(self) -> Options:
        if self._authorities is None:
            self._authorities = system_authorities()
        return [(pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2), *_NO_DEFAULTS, *self._authorities]


#: A distribution's libcurl has authorities of its own, which would be trusted besides those that are set.
_NO_DEFAULTS: Options = [(pycurl.CAPATH, None), (pycurl.CAINFO, None)]

_FOR_PROXY = {
    pycurl.SSLVERSION: pycurl.PROXY_SSLVERSION,
    pycurl.CAINFO: pycurl.PROXY_CAINFO,
    pycurl.CAPATH: pycurl.PROXY_CAPATH,
    pycurl.SSL_OPTIONS: pycurl.PROXY_SSL_OPTIONS,
}


def system_authorities() -> Options:
    """The options that make libcurl trust whom the system trusts.

    The OpenSSL inside pycurl's wheels looks where it was built, where there is nothing. SSL_CERT_FILE and SSL_CERT_DIR
    count as they do for Python. Raises TransportFailure of kind ``tls`` if nothing is found.
    """
    if sys.platform in ("win32", "darwin"):
        return [(pycurl.SSL_OPTIONS, pycurl.SSLOPT_NATIVE_CA)]
    known = ssl.get_default_verify_paths()
    folder = next(filter(_can_be_looked_up, [known.capath, *FOLDERS]), None)
    file = next(filter(_has_content, [known.cafile, *FILES]), None)
    options: Options = [(pycurl.CAPATH, folder)] if folder else []
    # A folder is looked up in; a file is read through for every connection, which takes some 8 ms.
    if file and (folder is None or known.openssl_cafile_env in os.environ):
        options.append((pycurl.CAINFO, file))
    if not options:
        raise TransportFailure(
            "tls", "this system's certificate authorities were not found: set http.ca_file to a PEM file of them"
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

"""Whom to trust, and who we are: libcurl's options for TLS."""

from __future__ import annotations

import os
import re
import ssl
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pycurl

from zcli_core.contracts.http import TransportFailure
from zcli_core.errors import ConfigError

if TYPE_CHECKING:
    from zcli_core.config.sections import Http

Options = list[tuple[int, str | int]]

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
    """The options of every connection with TLS.

    Raises ConfigError at once if the files that the configuration names cannot be used. ``origin_of`` gives who set a
    setting, for that message.
    """

    def __init__(self, settings: Http, origin_of: Callable[[str], str] | None = None) -> None:
        self._origin_of = origin_of
        self._authorities: Options | None = None
        self._identity: Options = []
        if settings.ca_file is not None:
            self._authorities = [(pycurl.CAINFO, self._checked_authorities(settings.ca_file))]
        if settings.client_cert is not None:
            certificate, key = self._checked_identity(settings.client_cert, settings.client_key)
            # Without a passphrase OpenSSL would ask for one on the terminal.
            self._identity = [(pycurl.SSLCERT, certificate), (pycurl.SSLKEY, key), (pycurl.KEYPASSWD, "")]
        elif settings.client_key is not None:
            raise ConfigError(
                f"{self._named('http.client_key')} is set and http.client_cert is not: a key is of no use without it"
            )

    def for_server(self) -> Options:
        """For a connection with a server. Raises TransportFailure of kind ``tls`` if there is nobody to trust."""
        if self._authorities is None:
            self._authorities = system_authorities()
        return [(pycurl.SSLVERSION, pycurl.SSLVERSION_TLSv1_2), *self._authorities, *self._identity]

    def for_proxy(self) -> Options:
        """For a connection with a proxy that speaks TLS itself. Raises TransportFailure as :meth:`for_server` does."""
        return [(_FOR_PROXY[option], value) for option, value in self.for_server()]

    def _named(self, key: str) -> str:
        return key if self._origin_of is None else f"{key} ({self._origin_of(key)})"

    # The ssl module reads the files first: libcurl would not before it connects, and says less about them.

    def _checked_authorities(self, ca_file: Path) -> str:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cafile=ca_file)
        except ssl.SSLError:
            raise ConfigError(f"{self._named('http.ca_file')}: {ca_file} holds no certificate in PEM format") from None
        except OSError as error:
            raise ConfigError(f"{self._named('http.ca_file')}: {ca_file} cannot be read: {error.strerror}") from None
        return str(ca_file)

    def _checked_identity(self, certificate: Path, key: Path | None) -> tuple[str, str]:
        def refuse() -> str:
            setting = "http.client_key" if key else "http.client_cert"
            raise ConfigError(
                f"{self._named(setting)}: {key or certificate} is encrypted; give a key without a passphrase"
            )

        name = self._named("http.client_cert")
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(certificate, key, password=refuse)
        except ssl.SSLError as error:
            what = f"{certificate} and {key}" if key else f"{certificate}"
            reason = (error.reason or "no PEM").lower().replace("_", " ")
            raise ConfigError(f"{name}: {what}: no certificate with its key in PEM format: {reason}") from None
        except OSError as error:
            raise ConfigError(f"{name}: {error.filename or certificate} cannot be read: {error.strerror}") from None
        return str(certificate), str(key or certificate)


_FOR_PROXY = {
    pycurl.SSLVERSION: pycurl.PROXY_SSLVERSION,
    pycurl.CAINFO: pycurl.PROXY_CAINFO,
    pycurl.CAPATH: pycurl.PROXY_CAPATH,
    pycurl.SSL_OPTIONS: pycurl.PROXY_SSL_OPTIONS,
    pycurl.SSLCERT: pycurl.PROXY_SSLCERT,
    pycurl.SSLKEY: pycurl.PROXY_SSLKEY,
    pycurl.KEYPASSWD: pycurl.PROXY_KEYPASSWD,
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
    # A folder is looked up in; a file is read through for each connection, about a hundred times slower.
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

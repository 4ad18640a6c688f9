"""TLS for wss://: check the certificate before the port opens, and reload a renewed one without a restart."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path
from typing import TYPE_CHECKING

from zcli_core.errors import ConfigError
from zcli_core.net.pem_files import CertificateFiles, CertificateProblem, check_readable, key_warning, load
from zcli_core.security_warnings import warn_security

if TYPE_CHECKING:
    import logging

    from zcli_core.config import Config

# X509_verify_cert's codes, openssl/x509_vfy.h
_NOT_YET_VALID, _EXPIRED = 9, 10
#: A certificate that expires within this number of days gets a warning.
WARN_DAYS = 14


def make_context(files: CertificateFiles) -> tuple[ssl.SSLContext, str | None]:
    """Make a context for TLS 1.2 and later and check its certificate in a handshake.

    Returns:
        The context, and a warning if the certificate expires soon.

    Raises:
        CertificateProblem: A file is missing, unreadable or not PEM, the key is encrypted or does not match, or the
            certificate has expired.
    """
    check_readable("cert", files.certificate)
    check_readable("key", files.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    load(context, files)
    return context, _expiry_warning(files, check_validity(context, files.certificate))


def check_validity(server: ssl.SSLContext, certificate: Path) -> float | None:
    """Check the dates of the server's certificate in a handshake in memory; only a client's side can see them.

    Returns:
        The expiry, in seconds since the epoch. None if OpenSSL finds another problem in the chain, which some clients
        accept.

    Raises:
        CertificateProblem: The certificate has expired or is not valid yet.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # trust the certificate itself
    verify_mode, server.verify_mode = server.verify_mode, ssl.CERT_NONE
    try:
        client.load_verify_locations(certificate)
        expiry = _handshake(client, server)
    except ssl.SSLCertVerificationError as error:
        if error.verify_code == _EXPIRED:
            raise CertificateProblem("cert", f"the certificate {certificate} has expired; renew it") from error
        if error.verify_code == _NOT_YET_VALID:
            message = f"the certificate {certificate} is not valid yet; check this machine's clock"
            raise CertificateProblem("cert", message) from error
        return None
    except ssl.SSLError:
        return None
    finally:
        server.verify_mode = verify_mode
    return ssl.cert_time_to_seconds(expiry) if expiry else None


def _handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> str | None:
    """Return the ``notAfter`` of the server's certificate, as the client sees it."""
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(to_client, to_server), server.wrap_bio(to_server, to_client, server_side=True))
    for _ in range(4):  # each flight of TLS 1.3 and 1.2 takes a turn
        for end in ends:
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
    found = ends[0].getpeercert() or {}
    expiry = found.get("notAfter")
    return expiry if isinstance(expiry, str) else None


def _expiry_warning(files: CertificateFiles, expiry: float | None) -> str | None:
    import time

    if expiry is None:
        return None
    days = (expiry - time.time()) / 86400
    if days > WARN_DAYS:
        return None
    return f"the certificate {files.certificate} expires in {days:.1f} days; a renewed file is loaded without a restart"


# --- from the settings ---


def configured_files(config: Config) -> CertificateFiles | None:
    """Return the files that the settings name, or None if TLS is off.

    Raises:
        ConfigError: TLS is on and ``ssl_cert`` is not set.
    """
    settings = config.websocket
    if not settings.ssl_enabled:
        return None
    if settings.ssl_cert is None:
        raise ConfigError(
            f"websocket.ssl_enabled ({config.explain('websocket.ssl_enabled').origin}) turns on wss://, but "
            "websocket.ssl_cert is not set; name the PEM file of the certificate in WEBSOCKET_SSL_CERT, and that of "
            "its key in WEBSOCKET_SSL_KEY"
        )
    return CertificateFiles(settings.ssl_cert, settings.ssl_key or settings.ssl_cert)


def configured_context(config: Config, log: logging.Logger) -> tuple[ssl.SSLContext, CertificateFiles] | None:
    """Return the context that the settings describe and its files, or None if TLS is off.

    Raises:
        ConfigError: The certificate, its key or the client CA cannot be used.
    """
    files = configured_files(config)
    if files is None:
        if config.websocket.ssl_client_ca is not None:
            raise ConfigError(
                f"websocket.ssl_client_ca ({config.explain('websocket.ssl_client_ca').origin}) requires "
                "client certificates, which need wss://, but websocket.ssl_enabled is not set"
            )
        if config.websocket.ssl_cert is not None:
            origin = config.explain("websocket.ssl_cert").origin
            message = "websocket.ssl_cert is set (%s), but websocket.ssl_enabled is not: serving ws://"
            warn_security(log, message, origin)
        return None
    try:
        context, warning = make_context(files)
    except CertificateProblem as problem:
        setting, hint = f"ssl_{problem.part}", ""
        if config.websocket.ssl_key is None:
            setting, hint = "ssl_cert", "; websocket.ssl_key is not set, so the key is read from the same file"
        origin = config.explain(f"websocket.{setting}").origin
        raise ConfigError(f"websocket.{setting} ({origin}): {problem}{hint}") from problem
    if warning:
        log.warning("%s", warning)
    exposed = key_warning("websocket.ssl_key" if config.websocket.ssl_key else "websocket.ssl_cert", files.key)
    if exposed:
        warn_security(log, "%s", exposed)
    if config.websocket.ssl_client_ca is not None:
        _require_certificates(context, config.websocket.ssl_client_ca, config)
    return context, files


def _require_certificates(context: ssl.SSLContext, authorities: Path, config: Config) -> None:
    """Require a client certificate of one of these authorities.

    Raises:
        ConfigError: The file cannot be used.
    """
    origin = config.explain("websocket.ssl_client_ca").origin
    try:
        context.load_verify_locations(authorities)
    except OSError as error:  # ssl.SSLError is a subclass
        wrong = "holds no certificate in PEM format" if isinstance(error, ssl.SSLError) else None
        detail = wrong or f"cannot be read: {error.strerror}"
        raise ConfigError(f"websocket.ssl_client_ca ({origin}): {authorities} {detail}") from error
    context.verify_mode = ssl.CERT_REQUIRED


# --- reloading ---


class CertificateReloader:
    """A watcher that reloads a renewed certificate. Call :meth:`check` regularly in the event loop's thread."""

    def __init__(self, context: ssl.SSLContext, files: CertificateFiles, log: logging.Logger) -> None:
        self._context = context
        self._files = files
        self._log = log
        self._loaded = self._seen = files.stamp()

    def check(self) -> None:
        """Load the files if they have changed and are unchanged since the last check.

        If they cannot be used, the error is logged once and the current certificate stays in use.
        """
        stamp = self._files.stamp()
        settled, self._seen = stamp == self._seen, stamp
        if stamp is None or stamp == self._loaded or not settled:
            return
        self._loaded = stamp
        try:
            _, warning = make_context(self._files)
            load(self._context, self._files)
        except CertificateProblem as problem:
            self._log.error("cannot load the changed certificate, the old one stays in use: %s", problem)
            return
        self._log.info("new connections get the renewed certificate %s", self._files.certificate)
        if warning:
            self._log.warning("%s", warning)

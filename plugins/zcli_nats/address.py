"""Where the NATS of the backplane is, from ``backplane.nats`` and ``services.nats``."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any, NamedTuple

from zcli_core.errors import ConfigError
from zcli_nats.backplane_settings import NatsBackplaneSettings
from zcli_nats.credentials import Credentials, read_credentials

if TYPE_CHECKING:
    from zcli_core.config import Config

_PORT = 4222
_URL = "backplane.nats.url"


class Address(NamedTuple):
    """Where NATS is, and how to log in. Its text has no credentials."""

    #: For a server that requires TLS, also when the URL does not.
    context: ssl.SSLContext
    host: str = "127.0.0.1"
    port: int = _PORT
    #: Whether a server without TLS is refused.
    tls: bool = False
    user: str | None = None
    password: str | None = None
    token: str | None = None
    credentials: Credentials | None = None
    #: The setting of the credential and where it was set, for errors; None without a credential.
    login_from: str | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        # Not as a URL: the setting of the URL is secret, so that the log would hide the whole address.
        return f"{host}:{self.port}{' over TLS' if self.tls else ''}"

    def __repr__(self) -> str:
        return f"<Address {self}>"


def read_address(config: Config) -> Address:
    """Return the address that the settings name: the URL, or else that of ``services.nats``.

    Raises:
        ConfigError: A setting is invalid. The message never shows the URL, because it may hold a password.
    """
    settings = config.section(NatsBackplaneSettings)
    if settings.url is None:
        given = _of_service(config)
    else:
        try:
            given = parse_url(settings.url)
        except ValueError as error:
            raise ConfigError(f"{_named(config, _URL)} is not a valid URL of a NATS server: {error}") from None
    login = {name: given.pop(name, None) for name in ("user", "password", "token")}
    for name, value in login.items():
        own = getattr(settings, name)
        if own is not None and value is not None:
            raise ConfigError(
                f"{_named(config, _URL)} and {_named(config, f'backplane.nats.{name}')} both have a {name}"
            )
        login[name] = own or value
    credentials = None
    if settings.credentials_file is not None:
        try:
            credentials = read_credentials(settings.credentials_file)
        except ValueError as error:
            raise ConfigError(f"{_named(config, 'backplane.nats.credentials_file')}: {error}") from None
    _check_login(login, credentials)
    source = None
    if credentials or login["password"] or login["token"]:
        own = [name for name in ("password", "token", "credentials_file") if getattr(settings, name) is not None]
        source = _named(config, f"backplane.nats.{own[0]}" if own else _URL)
    return Address(_tls_context(config), credentials=credentials, login_from=source, **given, **login)


def _check_login(login: dict[str, Any], credentials: Credentials | None) -> None:
    if (login["user"] is None) != (login["password"] is None):
        raise ConfigError("the backplane's NATS needs both user and password; set backplane.nats.user and .password")
    if sum(each is not None for each in (login["user"], login["token"], credentials)) > 1:
        raise ConfigError(
            "the backplane's NATS has more than one of user and password, token, and credentials_file; set only one"
        )


def _of_service(config: Config) -> dict[str, Any]:
    try:
        service: Any = config.get("services.nats")
    except ValueError:  # the service is not there
        return {}
    return {"host": service.host, "port": service.port, "tls": service.tls}


def parse_url(url: str) -> dict[str, Any]:
    """Return what a URL says: host, port, tls, user, password, token.

    Raises:
        ValueError: The URL is invalid. The message has no part of it that may be a password.
    """
    from urllib.parse import unquote

    from zcli_core.backplane.parts.engine_urls import host_and_port, split_url

    parts = split_url(url, ("nats", "tls"))
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError("it must end after the port")
    if "," in parts.netloc.rpartition("@")[2]:
        raise ValueError("it must name one server; for several, use a name that resolves to all of them")
    host, port = host_and_port(parts, _PORT)
    found = {"host": host, "port": port, "tls": parts.scheme == "tls"}
    if parts.password is not None:
        return {**found, "user": unquote(parts.username or ""), "password": unquote(parts.password)}
    return {**found, "token": unquote(parts.username)} if parts.username else found


def _tls_context(config: Config) -> ssl.SSLContext:
    from zcli_core.net.client_tls import client_context
    from zcli_core.net.pem_files import CertificateFiles, load
    from zcli_core.net.tls_settings import check_tls_files

    settings = config.section(NatsBackplaneSettings)
    check_tls_files(config, "backplane.nats")
    context = client_context(settings.ca_file)
    if settings.client_cert is not None:
        load(context, CertificateFiles(settings.client_cert, settings.client_key or settings.client_cert))
    return context


def _named(config: Config, key: str) -> str:
    return f"{key} ({config.explain(key).origin})"

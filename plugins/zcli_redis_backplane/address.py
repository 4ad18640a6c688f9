"""Where the Redis of the backplane is, from ``backplane.redis`` and ``services.redis``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from zcli_core.errors import ConfigError
from zcli_redis_backplane.settings import RedisBackplaneSettings

if TYPE_CHECKING:
    import ssl

    from zcli_core.config import Config

_PORT = 6379
_SCHEMES = {"redis": False, "valkey": False, "rediss": True, "valkeys": True, "unix": False}
_URL, _PASSWORD = "backplane.redis.url", "backplane.redis.password"


class Address(NamedTuple):
    """Where Redis is, and how to log in. Its text has no credentials."""

    host: str = "127.0.0.1"
    port: int = _PORT
    #: Path of a Unix socket, which is used instead of host and port.
    path: str | None = None
    tls: ssl.SSLContext | None = None
    user: str | None = None
    password: str | None = None
    database: int = 0
    #: The setting of the password and where it was set, for errors; None without a password.
    login_from: str | None = None

    def __str__(self) -> str:
        if self.path is not None:
            return f"the socket {self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        # Not as a URL: the setting of the URL is secret, so that the log would hide the whole address.
        return f"{host}:{self.port}{' over TLS' if self.tls else ''}"

    def __repr__(self) -> str:
        return f"<Address {self}>"


def read_address(config: Config) -> Address:
    """Return the address that the settings name: the URL, or else that of ``services.redis``.

    Raises:
        ConfigError: A setting is invalid. The message never shows the URL, because it may hold a password.
    """
    settings = config.section(RedisBackplaneSettings)
    if settings.url is None:
        given, encrypted = _of_service(config)
    else:
        given, encrypted = _of_url(config, settings.url)
    if settings.password is not None:
        if given.password is not None:
            raise ConfigError(f"{_named(config, _URL)} and {_named(config, _PASSWORD)} both have a password; keep one")
        given = given._replace(password=settings.password)
    if given.password is not None:
        given = given._replace(login_from=_named(config, _URL if settings.password is None else _PASSWORD))
    if given.user is not None and given.password is None:
        raise ConfigError(f"the backplane's Redis has the user {given.user!r}, but no password; set {_PASSWORD}")
    return given._replace(tls=_tls_context(config, encrypted))


def _of_service(config: Config) -> tuple[Address, bool]:
    """Return the address of the service, and whether it is reached over TLS."""
    try:
        service: Any = config.get("services.redis")
    except ValueError:  # the plugin of the service is disabled
        return Address(), False
    if service.host.startswith("/"):
        return Address(path=service.host, user=service.user, database=service.database), False
    return Address(service.host, service.port, user=service.user, database=service.database), service.tls


def _of_url(config: Config, url: str) -> tuple[Address, bool]:
    try:
        return parse_url(url)
    except ValueError as error:
        raise ConfigError(f"{_named(config, _URL)} is not a valid URL of a Redis: {error}") from None


def parse_url(url: str) -> tuple[Address, bool]:
    """Return the address in a URL, and whether it is reached over TLS.

    Raises:
        ValueError: The URL is invalid. The message has no part of it that may be a password.
    """
    from urllib.parse import parse_qs, unquote

    from zcli_core.backplane.parts.engine_urls import host_and_port, split_url

    parts = split_url(url, _SCHEMES)
    query = parse_qs(parts.query, keep_blank_values=True)
    if parts.fragment or set(query) - {"db"}:
        raise ValueError("it may have no parameter but db; files for TLS are settings, such as backplane.redis.ca_file")
    login: dict[str, Any] = {
        "user": unquote(parts.username) if parts.username else None,
        "password": unquote(parts.password) if parts.password else None,
    }
    if parts.scheme == "unix":
        if not parts.path.startswith("/"):
            raise ValueError("it has no path of a socket, as in unix:///run/redis/redis.sock")
        return Address(path=unquote(parts.path), database=_database(query.get("db", [""])[-1]), **login), False
    host, port = host_and_port(parts, _PORT)
    database = _database(query.get("db", [""])[-1] or parts.path.strip("/"))
    return Address(host, port, database=database, **login), _SCHEMES[parts.scheme]


def _database(text: str) -> int:
    if text and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError("its database must be a number, as in redis://127.0.0.1:6379/0")
    return int(text or 0)


def _tls_context(config: Config, encrypted: bool) -> ssl.SSLContext | None:
    from zcli_core.net.client_tls import client_context
    from zcli_core.net.pem_files import CertificateFiles, load
    from zcli_core.net.tls_settings import check_tls_files

    settings = config.section(RedisBackplaneSettings)
    if not encrypted:
        unused = next((name for name in ("ca_file", "client_cert", "client_key") if getattr(settings, name)), None)
        if unused is not None:
            name = _named(config, f"backplane.redis.{unused}")
            raise ConfigError(f"{name} is for TLS, but the backplane's Redis is reached without; use a rediss:// URL")
        return None
    check_tls_files(config, "backplane.redis")
    files: list[Any] = [settings]
    if settings.url is None:
        check_tls_files(config, "services.redis")
        files.append(config.get("services.redis"))
    context = client_context(next((each.ca_file for each in files if each.ca_file), None))
    for each in files:
        if each.client_cert is not None:
            load(context, CertificateFiles(each.client_cert, each.client_key or each.client_cert))
            break
    return context


def _named(config: Config, key: str) -> str:
    return f"{key} ({config.explain(key).origin})"

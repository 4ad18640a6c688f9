"""Check the configuration of a server and make its parts, before a port is opened."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from zcli_core.errors import ConfigError
from zcli_core.net.origins import OriginRules
from zcli_core.plugins.contract import Context
from zcli_core.plugins.host import PluginHost
from zcli_core.plugins.records import AUTH_STRATEGY, WEBSOCKET_TRANSPORT
from zcli_core.security_warnings import warn_security
from zcli_core.websocket.endpoint import is_local, make_endpoint, make_limits
from zcli_core.websocket.gate import Rules
from zcli_core.websocket.strategy_runner import StrategyRunner
from zcli_core.websocket.trusted_proxies import TrustedProxies

if TYPE_CHECKING:
    from zcli_core.config import Config
    from zcli_core.websocket.contract import Endpoint, Limits, Transport
    from zcli_core.websocket.handler_threads import HandlerThreads
    from zcli_core.websocket.tls import CertificateReloader

_T = TypeVar("_T")

#: Empty without ``websocket.require_auth``.
Strategies = tuple[StrategyRunner, ...]


class ServerSetup(NamedTuple):
    """The checked settings of one run."""

    endpoint: Endpoint
    #: Whether sockets of systemd replace the endpoint: if the caller gave neither host nor port.
    may_use_systemd: bool
    limits: Limits
    rules: Rules
    #: None: no TLS.
    reloader: CertificateReloader | None


def make_setup(config: Config, host: Any, port: Any, paths: Collection[str] | None, log: logging.Logger) -> ServerSetup:
    """Check the settings of one run.

    Args:
        config: The configuration.
        host: The caller's host, or None for ``websocket.host``.
        port: The caller's port, or None for ``websocket.port``.
        paths: The paths that have a handler, or None if all have.
        log: Where warnings go.

    Raises:
        ConfigError: Settings cannot be used, such as a certificate or an origin. It lists all problems.
        ValueError: ``host`` or ``port`` is invalid.
    """
    settings = config.websocket
    config.refuse_misspelt("websocket")
    problems: list[str] = []
    tls = _collecting(problems, lambda: _make_tls(config, log))
    origins = _collecting(problems, lambda: _make_origin_rules(config, log))
    proxies = _collecting(problems, lambda: _make_proxies(config))
    owner = _collecting(problems, lambda: _find_owner(config))
    if problems or proxies is None or owner is None:
        raise ConfigError(problems)
    context, reloader = tls or (None, None)
    endpoint = make_endpoint(settings, host, port, context, owner)
    may_use_systemd = host is None and port is None
    return ServerSetup(endpoint, may_use_systemd, make_limits(settings), Rules(origins, paths, proxies), reloader)


def make_asgi_rules(config: Config, paths: Collection[str] | None, log: logging.Logger) -> Rules:
    """Check the settings of an ASGI application; return the rules by which clients may connect.

    Args:
        config: The configuration.
        paths: The paths that have a handler, or None if all have.
        log: Where warnings go.

    Raises:
        ConfigError: Settings cannot be used. It lists all problems.
    """
    config.refuse_misspelt("websocket")
    problems: list[str] = []
    origins = _collecting(problems, lambda: _make_origin_rules(config, log))
    proxies = _collecting(problems, lambda: _make_proxies(config))
    if config.websocket.ssl_client_ca is not None:
        origin = config.explain("websocket.ssl_client_ca").origin
        problems.append(
            f"websocket.ssl_client_ca ({origin}) demands client certificates, but an ASGI server owns the connections; "
            "configure client certificates in that server and unset websocket.ssl_client_ca"
        )
    if problems or proxies is None:
        raise ConfigError(problems)
    if config.websocket.ssl_enabled:
        text = "websocket.ssl_enabled has no effect inside an ASGI server, which owns the connections; enable TLS there"
        warn_security(log, text)
    _warn_about_unused_token(config, log)
    return Rules(origins, paths, proxies)


def make_plugins(
    config: Config, host: PluginHost, threads: HandlerThreads, log: logging.Logger
) -> tuple[Transport, Strategies]:
    """Make the transport and the auth strategies that the settings select.

    Raises:
        ConfigError: One of them cannot be made, or no client could ever connect.
    """
    problems: list[str] = []
    context = Context(config, log)
    transport = _collecting(problems, lambda: host.make(WEBSOCKET_TRANSPORT, context))
    strategies = _collecting(problems, lambda: make_strategies(config, host, threads, log))
    if problems or transport is None or strategies is None:
        raise ConfigError(problems)
    return transport, strategies


def make_strategies(config: Config, host: PluginHost, threads: HandlerThreads, log: logging.Logger) -> Strategies:
    """Make the auth strategies that the settings select.

    Raises:
        ConfigError: One of them cannot be made, or no client could ever connect.
    """
    if not config.websocket.require_auth:
        return ()
    if not config.websocket.auth:
        raise ConfigError(
            f"websocket.auth ({config.explain('websocket.auth').origin}) names no strategy, but websocket.require_auth "
            f"({config.explain('websocket.require_auth').origin}) is on, so no client could connect; set it to "
            "['token'], which is the default"
        )
    names = dict.fromkeys(config.websocket.auth)
    made = host.make_all(AUTH_STRATEGY, Context(config, log))
    return tuple(
        StrategyRunner(name, record.name, strategy, threads, log)
        for name, (record, strategy) in zip(names, made, strict=True)
    )


def warn_if_open(config: Config, endpoint: Endpoint, log: logging.Logger) -> None:
    """Warn if the server does not authenticate clients although a token is set or other machines can connect."""
    settings = config.websocket
    _warn_about_unused_token(config, log)
    if settings.require_auth or is_local(endpoint) or (settings.ssl_enabled and settings.ssl_client_ca):
        return
    warn_security(
        log,
        "every machine that can reach %s may connect, because websocket.require_auth is off and this is not a loopback "
        "address",
        endpoint.host or "the socket",
    )


def _warn_about_unused_token(config: Config, log: logging.Logger) -> None:
    settings = config.websocket
    if not settings.require_auth and (settings.token is not None or settings.tokens):
        message = "a WebSocket token is set, but websocket.require_auth is off: clients without a token may connect"
        warn_security(log, message)


def _make_proxies(config: Config) -> TrustedProxies:
    try:
        return TrustedProxies(config.websocket.trusted_proxies)
    except ValueError as error:
        origin = config.explain("websocket.trusted_proxies").origin
        raise ConfigError([f"websocket.trusted_proxies ({origin}): {problem}" for problem in error.args]) from None


def _find_owner(config: Config) -> tuple[int, int]:
    """Return the user id and group id of ``websocket.unix_owner``; -1 for one that is not set."""
    owner = config.websocket.unix_owner
    if owner is None or config.websocket.unix_path is None:
        return -1, -1
    user, _, group = owner.partition(":")
    try:
        import grp
        import pwd

        return (
            -1 if not user else int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid,
            -1 if not group else int(group) if group.isdecimal() else grp.getgrnam(group).gr_gid,
        )
    except (ImportError, KeyError):
        origin = config.explain("websocket.unix_owner").origin
        raise ConfigError(
            f"websocket.unix_owner ({origin}): {owner!r} names a user or group that does not exist on this machine; "
            "expected USER, USER:GROUP or :GROUP"
        ) from None


def _make_tls(config: Config, log: logging.Logger) -> tuple[Any, CertificateReloader] | None:
    settings = config.websocket
    if not settings.ssl_enabled and settings.ssl_cert is None and settings.ssl_client_ca is None:
        return None  # do not import ssl
    from zcli_core.websocket.tls import CertificateReloader, configured_context

    configured = configured_context(config, log)
    if configured is None:
        return None
    context, files = configured
    return context, CertificateReloader(context, files, log)


def _make_origin_rules(config: Config, log: logging.Logger) -> OriginRules | None:
    patterns = config.websocket.allowed_origins
    if patterns is None:
        return None
    try:
        rules = OriginRules(patterns)
    except ValueError as error:
        origin = config.explain("websocket.allowed_origins").origin
        raise ConfigError([f"websocket.allowed_origins ({origin}): {problem}" for problem in error.args]) from None
    if config.websocket.token_cookie is not None and rules.admits_null:
        origin = config.explain("websocket.allowed_origins").origin
        raise ConfigError(
            f"websocket.allowed_origins ({origin}) admits pages of any site ('*', 'null' or 'file://'), and "
            f"websocket.token_cookie ({config.explain('websocket.token_cookie').origin}) reads the token from a "
            "cookie, which browsers send for pages of every site; list the origins that may connect"
        )
    if rules.admits_null:
        message = (
            "websocket.allowed_origins admits pages opened from a file, and every page whose origin is 'null', such as "
            "a sandboxed frame; use this for development only"
        )
        if config.deployment == "Production":
            warn_security(log, message)
        else:
            log.info(message)
    return rules


def _collecting(problems: list[str], make: Callable[[], _T]) -> _T | None:
    try:
        return make()
    except ConfigError as error:
        problems += error.problems
        return None

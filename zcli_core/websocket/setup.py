"""What a server is made of, from the configuration; every mistake in it is found before a port is opened."""

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
from zcli_core.websocket.addresses import TrustedProxies
from zcli_core.websocket.default_origins import DefaultOrigins
from zcli_core.websocket.gate import Rules
from zcli_core.websocket.listening import is_local, is_loopback, make_endpoint, make_limits
from zcli_core.websocket.strategies import AskedStrategy

if TYPE_CHECKING:
    from zcli_core.config import Config
    from zcli_core.websocket.contract import Endpoint, Limits, Transport
    from zcli_core.websocket.threads import HandlerThreads
    from zcli_core.websocket.tls import Renewal

_T = TypeVar("_T")


class Parts(NamedTuple):
    """What plugins make, once for every ``zCLI`` object."""

    transport: Transport
    #: Empty where nobody has to say who it is.
    strategies: tuple[AskedStrategy, ...]


class Plan(NamedTuple):
    """How one run of the server is to be."""

    endpoint: Endpoint
    #: Whether sockets that systemd passes on are used instead of the endpoint.
    may_be_passed: bool
    limits: Limits
    #: None: ``allowed_origins`` is not set.
    origins: OriginRules | None
    #: None: every path is admitted.
    paths: Collection[str] | None
    proxies: TrustedProxies
    #: None: no TLS.
    renewal: Renewal | None


def make_parts(config: Config, host: PluginHost, threads: HandlerThreads, log: logging.Logger) -> Parts:
    """Have the plugins make the transport and the strategies.

    :raises ConfigError: one of them cannot be made, or nobody could ever enter.
    """
    problems: list[str] = []
    context = Context(config, log)
    transport = _collecting(problems, lambda: host.make(WEBSOCKET_TRANSPORT, context))
    strategies = _collecting(problems, lambda: _make_strategies(context, host, threads, log))
    if problems or transport is None or strategies is None:
        raise ConfigError(problems)
    return Parts(transport, strategies)


def _make_strategies(
    context: Context, host: PluginHost, threads: HandlerThreads, log: logging.Logger
) -> tuple[AskedStrategy, ...]:
    config = context.config
    if not config.websocket.require_auth:
        return ()
    if not config.websocket.auth:
        raise ConfigError(
            f"websocket.auth ({config.explain('websocket.auth').origin}) names no strategy, but websocket.require_auth "
            f"({config.explain('websocket.require_auth').origin}) is on: nobody could connect; 'token' is the usual one"
        )
    names = dict.fromkeys(config.websocket.auth)
    made = host.make_all(AUTH_STRATEGY, context)
    return tuple(
        AskedStrategy(name, record.name, strategy, threads, log)
        for name, (record, strategy) in zip(names, made, strict=True)
    )


def make_plan(config: Config, host: Any, port: Any, paths: Collection[str] | None, log: logging.Logger) -> Plan:
    """Check the settings of one run.

    ``host`` and ``port`` are the caller's, None where it gave none; ``paths`` are those that have a handler, None if
    all have.

    :raises ConfigError: a certificate, an origin, a proxy or an owner cannot be used; every problem at once.
    :raises ValueError: a host or port that is none.
    """
    settings = config.websocket
    config.refuse_misspelt("websocket")
    problems: list[str] = []
    secured = _collecting(problems, lambda: _make_tls(config, log))
    rules = _collecting(problems, lambda: _make_origin_rules(config, log))
    proxies = _collecting(problems, lambda: _make_proxies(config))
    owner = _collecting(problems, lambda: _find_owner(config))
    if problems or proxies is None or owner is None:
        raise ConfigError(problems)
    context, renewal = secured or (None, None)
    endpoint = make_endpoint(settings, host, port, context, owner)
    may_be_passed = host is None and port is None
    return Plan(endpoint, may_be_passed, make_limits(settings), rules, paths, proxies, renewal)


def make_rules(config: Config, plan: Plan, endpoint: Endpoint) -> Rules:
    """What the gate of one run goes by. ``endpoint`` is where it listens in the end, which systemd may decide."""
    default = DefaultOrigins(endpoint.host, is_loopback(endpoint), config.websocket.require_auth)
    return Rules(plan.origins, default, plan.paths, plan.proxies)


def warn_if_open(config: Config, endpoint: Endpoint, log: logging.Logger) -> None:
    """Warn of a server that asks for nothing, if it has a token or other machines can reach it."""
    settings = config.websocket
    if not settings.require_auth and (settings.token is not None or settings.tokens):
        warn_security(log, "a WebSocket token is set, but websocket.require_auth is not: everybody is admitted")
    if settings.require_auth or is_local(endpoint) or (settings.ssl_enabled and settings.ssl_client_ca):
        return
    warn_security(
        log,
        "anybody who reaches %s may connect: websocket.require_auth is off and it is not a loopback address",
        endpoint.host or "the socket",
    )


def _make_proxies(config: Config) -> TrustedProxies:
    try:
        return TrustedProxies(config.websocket.trusted_proxies)
    except ValueError as error:
        origin = config.explain("websocket.trusted_proxies").origin
        raise ConfigError([f"websocket.trusted_proxies ({origin}): {problem}" for problem in error.args]) from None


def _find_owner(config: Config) -> tuple[int, int]:
    """The ids of ``websocket.unix_owner``; -1 for one that is not set."""
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
            f"websocket.unix_owner ({origin}): {owner!r} names a user or group that this machine does not have; "
            "expected USER, USER:GROUP or :GROUP"
        ) from None


def _make_tls(config: Config, log: logging.Logger) -> tuple[Any, Renewal] | None:
    settings = config.websocket
    if not settings.ssl_enabled and settings.ssl_cert is None and settings.ssl_client_ca is None:
        return None  # the module ssl is not needed
    from zcli_core.websocket.tls import Renewal, configured_context

    configured = configured_context(config, log)
    if configured is None:
        return None
    context, files = configured
    return context, Renewal(context, files, log)


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
            f"websocket.token_cookie ({config.explain('websocket.token_cookie').origin}) takes the token from a "
            "cookie, which browsers send for every page; name the origins that may connect"
        )
    if rules.admits_null:
        message = (
            "pages opened from a file may connect, and so may every page whose origin is 'null', such as a sandboxed "
            "frame: websocket.allowed_origins is meant for development"
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

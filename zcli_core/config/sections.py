"""The core's own settings sections. A plugin declares its sections with the hook ``zcli_settings``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from zcli_core.config.settings import Section, setting

if TYPE_CHECKING:
    from pathlib import Path


def _file_name(value: Any) -> str | None:
    if value is not None and (not value.strip(". ") or any(c in value for c in '/\\:*?"<>|\0\n')):
        return "a name that can be a file's name"
    return None


def _header_value(value: Any) -> str | None:
    from zcli_core.net.headers import check_header

    try:
        check_header("User-Agent", value)
    except ValueError:
        return "text that a header can carry: one line of Latin-1 characters"
    return None


def _octal_mode(value: Any) -> str | None:
    import re

    if value is None or re.fullmatch("0?[0-7]{3}", value):
        return None
    return "permissions as three octal digits, such as 660"


def _cookie_name(value: Any) -> str | None:
    import re

    if value is None or re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", value):
        return None
    return "the name of a cookie: letters, digits and !#$%&'*+-.^_`|~"


def _hosts(value: Any) -> str | None:
    from zcli_core.net.hosts import split_host

    try:
        for host in value or ():
            split_host(host)
    except ValueError:
        return "hosts, each with or without a port, such as api.example or [::1]:8443"
    return None


class Application(Section, name=""):
    """The script as a whole."""

    deployment: Literal["Development", "Testing", "Production"] = setting(
        "Development", "which deployment this is; it decides banners, console level and overlays"
    )
    title: str | None = setting(None, "name of the log and its file; the script's name if unset", check=_file_name)
    logger: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "PROD"] = setting(
        "INFO", "log level; PROD keeps the console silent and writes DEBUG to the file"
    )
    logger_path: Path | None = setting(None, "folder of the log file; the user's log folder if unset", written=True)
    logger_max_bytes: int = setting(5_000_000, "size at which the log file is rotated, in bytes", minimum=1000)
    logger_backups: int = setting(3, "how many rotated log files are kept", minimum=1)
    env_file: Path | None = setting(None, "the .zEnv file to read, named in any layer but itself; looked for if unset")


class Plugins(Section, name="plugins"):
    """Which plugins take part."""

    disable: tuple[str, ...] = setting((), "plugins that are not imported, by entry-point name", security=True)
    prefer: Mapping[str, str] = setting(
        {}, "which plugin wins where two provide one name: {name: plugin}, as in {redis: zcli_redis}"
    )


class Http(Section, name="http"):
    """The HTTP client."""

    transport: str = setting("urllib3", "the transport that carries requests")
    timeout: float = setting(10.0, "deadline of a whole call, in seconds", above=0)
    retries: int = setting(0, "how often a failed idempotent request is tried again", minimum=0, maximum=10)
    retry_all_methods: bool = setting(False, "retry POST and PATCH too, which may then be carried out twice")
    max_bytes: int = setting(64 * 1024 * 1024, "largest decoded body that is accepted, in bytes", minimum=1)
    max_headers: int = setting(1000, "header fields that a response may have", minimum=1, maximum=5000)
    max_redirects: int = setting(10, "how many redirects are followed", minimum=0)
    pool_size: int = setting(64, "connections kept open per host", minimum=16)
    trust_env: bool = setting(True, "take proxies from HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY")
    ca_file: Path | None = setting(None, "PEM file of the authorities to trust instead of the system's", security=True)
    client_cert: Path | None = setting(None, "PEM file of the client's certificate", security=True)
    client_key: Path | None = setting(None, "PEM file of its key, if it is not in client_cert", security=True)
    client_cert_hosts: tuple[str, ...] | None = setting(
        None, "hosts that client_cert is shown to, such as api.example or api.example:8443; if unset, the host that a "
        "call is made to; it is not shown to any other host that a redirect leads to, nor to proxies",
        check=_hosts, security=True,
    )  # fmt: skip
    user_agent: str | None = setting(None, "the User-Agent header; zcli-core/<version> if unset", check=_header_value)


class WebSocket(Section, name="websocket", variable_prefix="WEBSOCKET_"):
    """The WebSocket server."""

    transport: str = setting("wsproto", "the transport that speaks the protocol")
    host: str = setting("127.0.0.1", "address to listen on")
    port: int = setting(8765, "port to listen on; 0 picks a free one", minimum=0, maximum=65535)
    require_auth: bool = setting(False, "admit only clients that an auth strategy accepts", security=True)
    auth: tuple[str, ...] = setting(
        ("token",), "auth strategies, asked in this order; with several, the identity of a client begins with the name "
        "of the one that identified it, as in token:alice", security=True,
    )  # fmt: skip
    token: str | None = setting(
        None, "the token that admits a client, 16 characters or more; zcli token makes one", secret=True
    )
    tokens: Mapping[str, str] = setting({}, "further tokens by the name of their holder", secret=True)
    token_cookie: str | None = setting(
        None,
        "name of a cookie in which a client may send its token; no cookie is read if unset",
        check=_cookie_name,
        security=True,
    )
    allowed_origins: tuple[str, ...] | None = setting(
        None, "origins of pages that may connect, such as https://example.com; * admits all. If unset, pages of "
        "this host and of localhost may connect, and pages opened from a file if the server listens on loopback and "
        "require_auth is off. Programs that send no Origin are not concerned",
        security=True,
    )  # fmt: skip
    trusted_proxies: tuple[str, ...] = setting(
        (), "proxies whose X-Forwarded-For, X-Forwarded-Proto and Forwarded headers tell the client's address and "
        "whether it used TLS: addresses, networks such as 10.0.0.0/8, and unix for the clients of the Unix socket",
        security=True,
    )  # fmt: skip
    subprotocols: tuple[str, ...] = setting((), "subprotocols to agree on, the best first")
    refuse_with: Literal["close", "http"] = setting("close", "refuse by close code, or by HTTP status")
    auth_failures_max: int = setting(
        10, "wrong credentials that an IP address (or IPv6 /64 network) may send within auth_failures_window seconds, "
        "those that are being judged included; an IPv6 /56 network may send 4 times as many, a /48 16 times",
        minimum=1, security=True,
    )  # fmt: skip
    auth_failures_window: float = setting(
        60.0, "seconds in which the wrong credentials of an address are counted (auth_failures_max)",
        above=0, security=True,
    )  # fmt: skip
    max_refusal_delay: float = setting(
        3.0, "longest time, in seconds, that the answer to a refused client waits; it grows with each refusal of its "
        "address, so that a client that reconnects at once is slowed down; 0 answers at once", minimum=0, maximum=60,
    )  # fmt: skip
    max_connections: int = setting(
        1000, "clients at once; as many connections again, but at least 100, may be in the handshake or being refused",
        minimum=1, restricts=True,
    )  # fmt: skip
    max_connections_per_address: int | None = setting(
        None, "clients of one IP address (or IPv6 /64 network) at once; no limit if unset", minimum=1, security=True
    )
    max_messages_per_second: float | None = setting(
        None, "messages a second that are read from one client; a client that sends more is read more slowly, and no "
        "message is dropped; no limit if unset", above=0, restricts=True,
    )  # fmt: skip
    max_headers: int = setting(128, "headers that the request of a client may have", minimum=16, restricts=True)
    max_header_bytes: int = setting(
        16 * 1024, "bytes that the request line and the headers of a client may have together",
        minimum=1024, maximum=256 * 1024, restricts=True,
    )  # fmt: skip
    max_size: int = setting(1024 * 1024, "largest message, decoded, in bytes", minimum=1, restricts=True)
    max_fragments: int = setting(1024, "empty fragments that one message may have", minimum=1, restricts=True)
    send_buffer_max: int = setting(
        4 * 1024 * 1024, "bytes a slow client may leave unread", minimum=1024, restricts=True
    )
    open_timeout: float = setting(10.0, "seconds for TLS and the upgrade together", above=0)
    close_timeout: float = setting(5.0, "seconds for a close handshake", above=0)
    drain_timeout: float = setting(5.0, "seconds that handlers at work get to finish when the server stops", minimum=0)
    ping_interval: float = setting(20.0, "seconds between two pings to a client; 0 sends none", minimum=0)
    ping_timeout: float = setting(
        20.0, "seconds a silent client gets to answer a ping; receiving a large message is not silence", above=0
    )
    compression: bool = setting(False, "offer permessage-deflate")
    compression_window_bits: int = setting(12, "deflate window, as a power of two", minimum=9, maximum=15)
    compression_memory_level: int = setting(5, "zlib memory level", minimum=1, maximum=9)
    compression_threshold: int = setting(256, "smallest message that is compressed, in bytes", minimum=0)
    ssl_enabled: bool = setting(False, "serve wss:// and https://", security=True)
    ssl_cert: Path | None = setting(None, "PEM file of the certificate chain", security=True)
    ssl_key: Path | None = setting(None, "PEM file of the private key", security=True)
    ssl_client_ca: Path | None = setting(
        None, "PEM file of the authorities whose certificates clients must show to connect over wss://; clients need "
        "no certificate if unset; the file is read when the server starts", security=True,
    )  # fmt: skip
    unix_path: Path | None = setting(None, "listen on this Unix socket instead of a port", written=True)
    unix_mode: str | None = setting(
        None, "permissions of the Unix socket's file in octal, such as 660; a client needs write permission; by "
        "default the process's umask decides", check=_octal_mode, security=True,
    )  # fmt: skip
    unix_owner: str | None = setting(
        None, "owner of the Unix socket's file: USER, USER:GROUP or :GROUP, by name or number; the process's own if "
        "unset", security=True,
    )  # fmt: skip
    reuse_port: bool = setting(False, "let several processes listen on the port")
    loop: Literal["auto", "asyncio", "uvloop"] = setting("auto", "event loop; auto takes uvloop if installed")


class Services(Section, name="services"):
    """Local services as a whole; each has a section of its own below."""

    folder: Path | None = setting(
        None, "where servers that zCLI starts keep data and logs; the user's data folder if unset", written=True
    )
    timeout: float = setting(1.0, "seconds a service has to answer when it is asked how it is", above=0)
    start_timeout: float = setting(30.0, "seconds a service has to be ready, or gone, once it is told to", above=0)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Return the section of one service, such as ``config.services.redis``."""


CORE_SECTIONS: tuple[type[Section], ...] = (Application, Plugins, Http, WebSocket, Services)

"""The core's own settings sections. A plugin declares its sections with the hook ``zcli_settings``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from zcli_core.config.settings import Section, setting

if TYPE_CHECKING:
    from pathlib import Path


def _file_name(value: Any) -> str | None:
    if value is not None and (not value.strip(". ") or any(c in value for c in '/\\:*?"<>|\0\n')):
        return "a valid file name"
    return None


def _header_value(value: Any) -> str | None:
    from zcli_core.net.headers import check_header

    try:
        check_header("User-Agent", value)
    except ValueError:
        return "one line of Latin-1 characters"
    return None


def _namespace(value: Any) -> str | None:
    import re

    # A separator of an engine would make the names of two applications equal, and NATS has patterns.
    if re.fullmatch(r"[\w-]+(\.[\w-]+)*", value, re.ASCII):
        return None
    return "ASCII letters, digits, _ and -, in parts separated by dots, such as shop.live"


def _octal_mode(value: Any) -> str | None:
    import re

    if value is None or re.fullmatch("0?[0-7]{3}", value):
        return None
    return "permissions as three octal digits, such as 660"


def _cookie_name(value: Any) -> str | None:
    import re

    if value is None or re.fullmatch(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+", value):
        return None
    return "a cookie name: letters, digits and !#$%&'*+-.^_`|~"


def _hosts(value: Any) -> str | None:
    from zcli_core.net.hosts import split_host

    try:
        for host in value or ():
            split_host(host)
    except ValueError:
        return "hosts with or without a port, such as api.example or [::1]:8443"
    return None


class Application(Section, name=""):
    """The script as a whole."""

    deployment: Literal["Development", "Testing", "Production"] = setting(
        "Development", "deployment in force; it decides which messages the console shows and which `deployments` "
        "settings apply",
    )  # fmt: skip
    zMode: Literal["Terminal", "zBifrost"] = setting(  # noqa: N815 - the guide's name
        "Terminal", "what z.walker.run() does: zBifrost serves browsers until Ctrl+C, Terminal has nothing to run",
        exact=True,
    )  # fmt: skip
    title: str | None = setting(
        None, "name of the log and of the log file; the name of the script if unset", check=_file_name
    )
    logger: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "PROD"] = setting(
        "INFO", "lowest level that is logged; PROD shows nothing on the console and writes all levels to the log file"
    )
    logger_format: Literal["text", "json"] = setting(
        "text", "how the log file and the console show a record: text, or json for one JSON object a line"
    )
    logger_path: Path | None = setting(
        None, "folder of the log file; the log folder of the user if unset", written=True
    )
    logger_max_bytes: int = setting(5_000_000, "size at which the log file is rotated, in bytes", minimum=1000)
    logger_backups: int = setting(3, "number of rotated log files to keep", minimum=1)
    env_file: Path | None = setting(
        None, "path of the .zEnv file, set in any other layer; if unset, the .zEnv in the working directory or beside "
        "the script",
    )  # fmt: skip


class Plugins(Section, name="plugins"):
    """Which plugins take part."""

    disable: tuple[str, ...] = setting((), "names of plugins that are not imported", security=True)
    prefer: Mapping[str, str] = setting(
        {}, "plugin to use if several plugins provide the same name: {name: plugin}, such as {redis: zcli_redis}"
    )


class Http(Section, name="http"):
    """The HTTP client."""

    transport: str = setting("urllib3", "name of the HTTP transport that sends requests")
    timeout: float = setting(10.0, "deadline of a whole HTTP call, in seconds", above=0)
    retries: int = setting(
        0, "how many times a failed HTTP request is repeated, if its method is idempotent", minimum=0, maximum=10
    )
    retry_all_methods: bool = setting(
        False, "repeat failed POST and PATCH requests too; the server may then process one twice"
    )
    max_response_bytes: int = setting(
        64 * 1024 * 1024, "largest body of an HTTP response that is accepted, decoded, in bytes", minimum=1
    )
    max_headers: int = setting(
        1000, "highest number of header fields that an HTTP response may have", minimum=1, maximum=5000
    )
    max_redirects: int = setting(10, "highest number of redirects that one HTTP call follows", minimum=0)
    pool_size: int = setting(64, "highest number of idle HTTP connections that are kept for each host", minimum=16)
    trust_env: bool = setting(True, "use the proxies that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY name")
    ca_file: Path | None = setting(
        None, "PEM file of certificate authorities that HTTPS requests trust; those of the system if unset",
        security=True,
    )  # fmt: skip
    client_cert: Path | None = setting(
        None, "PEM file of the client certificate for HTTPS servers that require one", security=True
    )
    client_key: Path | None = setting(
        None, "PEM file of the private key of http.client_cert, if that file does not hold the key", security=True
    )
    client_cert_hosts: tuple[str, ...] | None = setting(
        None, "hosts that get the certificate http.client_cert, such as api.example or api.example:8443; if unset, "
        "the host of the URL of a call; other hosts, such as targets of redirects and proxies, never get it",
        check=_hosts, security=True,
    )  # fmt: skip
    user_agent: str | None = setting(
        None, "value of the User-Agent header of HTTP requests; zcli-core/<version> if unset", check=_header_value
    )


class WebSocket(Section, name="websocket", variable_prefix="WEBSOCKET_"):
    """The WebSocket server."""

    transport: str = setting("wsproto", "name of the WebSocket transport of the server")
    host: str = setting("127.0.0.1", "address that the WebSocket server listens on")
    port: int = setting(
        8765, "port that the WebSocket server listens on; 0 picks a free port", minimum=0, maximum=65535
    )
    require_auth: bool = setting(
        False, "admit only WebSocket clients that an auth strategy of websocket.auth accepts", security=True
    )
    auth: tuple[str, ...] = setting(
        ("token",), "names of the auth strategies of the WebSocket server, tried in this order; with several, the "
        "identity of a client begins with the name of the strategy that accepted it, such as token:alice",
        security=True,
    )  # fmt: skip
    token: str | None = setting(
        None, "token that admits a WebSocket client, at least 16 characters; `zcli token` makes one", secret=True
    )
    tokens: Mapping[str, str] = setting(
        {}, "further tokens that admit WebSocket clients, by the identity of the holder: {alice: TOKEN}", secret=True
    )
    token_cookie: str | None = setting(
        None, "name of a cookie in which a WebSocket client may send its token; if unset, cookies are ignored",
        check=_cookie_name, security=True,
    )  # fmt: skip
    allowed_origins: tuple[str, ...] | None = setting(
        None, "origins of web pages that may connect to the WebSocket server, such as https://example.com; * allows "
        "all. If unset, pages of this host and of localhost may connect, and pages opened from a file if the server "
        "listens on loopback and websocket.require_auth is off. Programs that send no Origin header are not checked",
        security=True,
    )  # fmt: skip
    trusted_proxies: tuple[str, ...] = setting(
        (), "proxies in front of the WebSocket server whose X-Forwarded-For, X-Forwarded-Proto and Forwarded headers "
        "are trusted: addresses, networks such as 10.0.0.0/8, and unix for clients of the Unix socket", security=True,
    )  # fmt: skip
    subprotocols: tuple[str, ...] = setting(
        (), "WebSocket subprotocols that the server supports, in order of preference"
    )
    refuse_with: Literal["close", "http"] = setting(
        "close", "how the WebSocket server refuses a client: close accepts the handshake and sends a close code, http "
        "sends an HTTP error status",
    )  # fmt: skip
    max_auth_failures: int = setting(
        10, "highest number of wrong credentials from one IP address (or IPv6 /64 network) within "
        "websocket.auth_failures_window, to all workers together, including attempts still being checked; an IPv6 /56 "
        "network may send 4 times as many, an IPv6 /48 network 16 times as many", minimum=1, security=True,
    )  # fmt: skip
    auth_failures_window: float = setting(
        60.0, "length of the window in which wrong credentials of a client address are counted, in seconds",
        above=0, security=True,
    )  # fmt: skip
    max_refusal_delay: float = setting(
        3.0, "longest delay before a WebSocket client is refused, in seconds; the delay grows with each refusal of "
        "the same address, which slows down clients that reconnect at once; 0 refuses at once", minimum=0, maximum=60,
    )  # fmt: skip
    max_connections: int = setting(
        1000, "highest number of WebSocket clients of each worker at the same time; the same number of further "
        "connections, but at least 100, may be in the handshake or being refused", minimum=1, restricts=True,
    )  # fmt: skip
    max_connections_per_address: int | None = setting(
        None, "highest number of WebSocket clients of one IP address (or IPv6 /64 network) at the same time, in each "
        "worker; no limit if unset", minimum=1, security=True,
    )  # fmt: skip
    max_messages_per_second: float | None = setting(
        None, "highest number of messages per second that are read from one WebSocket client; further messages are "
        "read later, and none is dropped; no limit if unset", above=0, restricts=True,
    )  # fmt: skip
    max_headers: int = setting(
        128, "highest number of header fields in the request of a WebSocket client", minimum=16, restricts=True
    )
    max_header_bytes: int = setting(
        16 * 1024, "largest size of the request line and headers of a WebSocket client together, in bytes",
        minimum=1024, maximum=256 * 1024, restricts=True,
    )  # fmt: skip
    max_size: int = setting(
        1024 * 1024, "largest WebSocket message that a client may send, decompressed, in bytes",
        minimum=1, restricts=True,
    )  # fmt: skip
    max_fragments: int = setting(
        1024, "highest number of empty fragments in one WebSocket message", minimum=1, restricts=True
    )
    max_send_buffer: int = setting(
        4 * 1024 * 1024, "most bytes that may wait to be sent to one WebSocket client; a slower client is "
        "disconnected with close code 1013", minimum=1024, restricts=True,
    )  # fmt: skip
    open_timeout: float = setting(10.0, "timeout of the TLS and WebSocket handshakes together, in seconds", above=0)
    close_timeout: float = setting(5.0, "timeout of the WebSocket close handshake, in seconds", above=0)
    drain_timeout: float = setting(
        5.0, "how long running WebSocket handlers may take to finish when the server stops, in seconds", minimum=0
    )
    ping_interval: float = setting(
        20.0, "interval of pings to each WebSocket client, in seconds; 0 turns pings off", minimum=0
    )
    ping_timeout: float = setting(
        20.0, "how long the server waits for a pong of a WebSocket client, in seconds; while parts of a message "
        "arrive, the time does not count", above=0,
    )  # fmt: skip
    compression: bool = setting(False, "compress WebSocket messages with permessage-deflate, if the client supports it")
    compression_window_bits: int = setting(
        12, "size of the deflate window for WebSocket compression, as a power of two", minimum=9, maximum=15
    )
    compression_memory_level: int = setting(5, "zlib memory level of WebSocket compression", minimum=1, maximum=9)
    compression_threshold: int = setting(
        256, "smallest WebSocket message that the server compresses, in bytes", minimum=0
    )
    ssl_enabled: bool = setting(False, "serve wss:// and https:// on the port of the WebSocket server", security=True)
    ssl_cert: Path | None = setting(None, "PEM file of the certificate chain of the WebSocket server", security=True)
    ssl_key: Path | None = setting(None, "PEM file of the private key of websocket.ssl_cert", security=True)
    ssl_client_ca: Path | None = setting(
        None, "PEM file of the certificate authorities for client certificates; if set, clients must show a "
        "certificate of one of them to connect over wss://; the file is read when the server starts", security=True,
    )  # fmt: skip
    unix_path: Path | None = setting(
        None, "path of a Unix socket that the WebSocket server listens on instead of a port", written=True
    )
    unix_mode: str | None = setting(
        None, "permissions of the file websocket.unix_path in octal, such as 660; clients need write permission; if "
        "unset, the umask of the process decides", check=_octal_mode, security=True,
    )  # fmt: skip
    unix_owner: str | None = setting(
        None, "owner of the file websocket.unix_path: USER, USER:GROUP or :GROUP, by name or number; the user of the "
        "process if unset", security=True,
    )  # fmt: skip
    workers: int | Literal["auto"] = setting(
        1, "number of processes that serve the WebSocket clients on the same port; auto uses one for each CPU that "
        "this process may use", minimum=1,
    )  # fmt: skip
    worker_timeout: float = setting(
        30.0, "how long a worker of the WebSocket server may take to become ready, and how long its event loop may be "
        "blocked, in seconds; after that it is replaced", above=0,
    )  # fmt: skip
    reload_spread: float = setting(
        10.0, "time over which the clients of the old workers are closed when the WebSocket server is reloaded, in "
        "seconds; 0 closes all at once", minimum=0,
    )  # fmt: skip
    reuse_port: bool = setting(False, "let several processes listen on the port of the WebSocket server")
    backplane: str = setting(
        "local", "name of the backplane that carries WebSocket messages between processes; local reaches the clients "
        "of this process only",
    )  # fmt: skip
    access_log: bool = setting(
        False, "log a line for each WebSocket connection when it ends or is refused, at the level INFO"
    )
    max_rooms: int = setting(128, "highest number of rooms that one WebSocket client may be in", minimum=1)
    loop: Literal["auto", "asyncio", "uvloop"] = setting(
        "auto", "event loop of the WebSocket server; auto uses uvloop if it is installed"
    )


class Backplane(Section, name="backplane"):
    """The link between the WebSocket servers of several processes; each engine has a section of its own below."""

    namespace: str = setting(
        "zcli", "first part of the names of all channels and keys on the backplane's engine; processes with the same "
        "namespace exchange messages, so every application on one engine needs its own", check=_namespace,
    )  # fmt: skip
    required: bool = setting(
        True, "refuse to start the WebSocket server if the backplane's engine cannot be reached; if off, the server "
        "starts, is not ready, and keeps trying",
    )  # fmt: skip
    connect_timeout: float = setting(5.0, "timeout of connecting to the backplane's engine, in seconds", above=0)
    timeout: float = setting(2.0, "timeout of one operation on the backplane's engine, in seconds", above=0)
    first_retry: float = setting(
        0.1, "longest pause before the first attempt to connect to the backplane's engine again, in seconds; it "
        "doubles with each attempt", above=0,
    )  # fmt: skip
    max_retry: float = setting(
        0.8, "longest pause between two attempts to connect to the backplane's engine, in seconds", above=0
    )
    probe_interval: float = setting(
        5.0, "interval of the messages that the server sends to itself through the backplane, in seconds", above=0
    )
    probe_timeout: float = setting(
        5.0, "how long such a message may take before the server connects to the backplane's engine again, in seconds",
        above=0,
    )  # fmt: skip
    max_message: int | None = setting(
        None, "largest message that is published on the backplane, in bytes; websocket.max_size if unset", minimum=1
    )
    max_queue: int = setting(
        8 * 1024 * 1024, "most bytes that may wait to be published on the backplane; a further message is not "
        "published", minimum=1024,
    )  # fmt: skip
    linger: float = setting(
        10.0, "how long a room stays subscribed on the backplane after its last member has left, in seconds", minimum=0
    )
    presence_timeout: float = setting(
        15.0, "how long the clients of a crashed process are still shown as present, in seconds", minimum=1
    )

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Return the section of one engine, such as ``config.backplane.redis``."""


class Services(Section, name="services"):
    """Local services as a whole; each has a section of its own below."""

    folder: Path | None = setting(
        None, "folder for data and logs of service processes that zCLI starts; the data folder of the user if unset",
        written=True,
    )  # fmt: skip
    probe_timeout: float = setting(1.0, "timeout of a status probe of a service, in seconds", above=0)
    start_timeout: float = setting(30.0, "how long zCLI waits for a service to start or stop, in seconds", above=0)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Return the section of one service, such as ``config.services.redis``."""


CORE_SECTIONS: tuple[type[Section], ...] = (Application, Plugins, Http, WebSocket, Backplane, Services)

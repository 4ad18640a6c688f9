"""The type of zSpark: the settings that a script may give to ``zCLI``, with those of zCLI's own plugins.

Made by ``python tests/zspark_types.py > zcli_core/zspark.py`` from the declarations of the settings; do not edit it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict


class ServicesMongodbSettings(TypedDict, total=False):
    """MongoDB."""

    host: str | None
    """host name or address of the service, or the path of its Unix socket"""
    port: int | None
    """TCP port of MongoDB"""
    data_dir: str | Path | None
    """data folder of the service if zCLI starts it; a folder below services.folder if unset"""
    launcher: str | None
    """how zCLI starts the service: systemd, debian-cluster, homebrew, windows-service, local or auto"""
    ca_file: str | Path | None
    """PEM file of certificate authorities for the TLS certificate of the service; if unset, probes accept any"""
    client_cert: str | Path | None
    """PEM file of the client certificate for a service that requires one"""
    client_key: str | Path | None
    """PEM file of the private key of the client certificate, if client_cert does not hold it"""
    user: str | None
    """MongoDB user to connect as"""
    database: str | None
    """MongoDB database to connect to"""
    tls: bool | None
    """connect to MongoDB with TLS; if off, TLS is tried only after MongoDB refuses an unencrypted connection"""


class BackplaneNatsSettings(TypedDict, total=False):
    """The NATS server that carries messages between processes."""

    url: str | None
    """URL of the NATS server of the backplane, with special characters in a password escaped:
    nats://[user:password@]host[:port], nats://token@host, or tls:// to require TLS; if unset, the address in
    services.nats"""
    user: str | None
    """user for the NATS server of the backplane, if backplane.nats.url has none"""
    password: str | None
    """password of backplane.nats.user"""
    token: str | None
    """token for a NATS server of the backplane that authenticates its clients by token"""
    credentials_file: str | Path | None
    """file with the JSON Web Token and the key of a NATS user, as the command nsc writes it; needs the package
    cryptography"""
    ca_file: str | Path | None
    """PEM file of certificate authorities that the TLS connection to the backplane's NATS trusts; those of the system
    if unset"""
    client_cert: str | Path | None
    """PEM file of the client certificate for a backplane's NATS that requires one"""
    client_key: str | Path | None
    """PEM file of the private key of backplane.nats.client_cert, if that file does not hold the key"""


class ServicesNatsSettings(TypedDict, total=False):
    """NATS."""

    host: str | None
    """host name or address of the service, or the path of its Unix socket"""
    port: int | None
    """TCP port for clients of NATS"""
    data_dir: str | Path | None
    """data folder of the service if zCLI starts it; a folder below services.folder if unset"""
    launcher: str | None
    """how zCLI starts the service: systemd, debian-cluster, homebrew, windows-service, local or auto"""
    ca_file: str | Path | None
    """PEM file of certificate authorities for the TLS certificate of the service; if unset, probes accept any"""
    client_cert: str | Path | None
    """PEM file of the client certificate for a service that requires one"""
    client_key: str | Path | None
    """PEM file of the private key of the client certificate, if client_cert does not hold it"""
    tls: bool | None
    """connect to NATS with TLS; if off, TLS is used only if NATS requires it"""


class ServicesPostgresqlSettings(TypedDict, total=False):
    """PostgreSQL."""

    host: str | None
    """host name or address of PostgreSQL, or the folder of its Unix socket"""
    port: int | None
    """TCP port of PostgreSQL"""
    data_dir: str | Path | None
    """data folder of the service if zCLI starts it; a folder below services.folder if unset"""
    launcher: str | None
    """how zCLI starts the service: systemd, debian-cluster, homebrew, windows-service, local or auto"""
    ca_file: str | Path | None
    """PEM file of certificate authorities for the TLS certificate of the service; if unset, probes accept any"""
    client_cert: str | Path | None
    """PEM file of the client certificate for a service that requires one"""
    client_key: str | Path | None
    """PEM file of the private key of the client certificate, if client_cert does not hold it"""
    user: str | None
    """PostgreSQL role to connect as"""
    database: str | None
    """PostgreSQL database to connect to"""


class ServicesRedisSettings(TypedDict, total=False):
    """Redis or Valkey."""

    host: str | None
    """host name or address of the service, or the path of its Unix socket"""
    port: int | None
    """TCP port of Redis"""
    data_dir: str | Path | None
    """data folder of the service if zCLI starts it; a folder below services.folder if unset"""
    launcher: str | None
    """how zCLI starts the service: systemd, debian-cluster, homebrew, windows-service, local or auto"""
    ca_file: str | Path | None
    """PEM file of certificate authorities for the TLS certificate of the service; if unset, probes accept any"""
    client_cert: str | Path | None
    """PEM file of the client certificate for a service that requires one"""
    client_key: str | Path | None
    """PEM file of the private key of the client certificate, if client_cert does not hold it"""
    user: str | None
    """Redis ACL user to connect as"""
    database: int | None
    """number of the Redis database"""
    tls: bool | None
    """connect to Redis with TLS; if off, TLS is tried only after Redis refuses an unencrypted connection"""
    local_password: bool | None
    """protect a Redis that zCLI starts with a random password; password_file in the connection info holds it"""


class BackplaneRedisSettings(TypedDict, total=False):
    """The Redis or Valkey that carries messages between processes."""

    url: str | None
    """URL of the Redis or Valkey of the backplane, with special characters in a password escaped:
    redis://user:password@host:port/database, rediss:// for TLS, or unix:///path/of/socket; if unset, the address in
    services.redis"""
    password: str | None
    """password for the Redis or Valkey of the backplane, if backplane.redis.url has none"""
    ca_file: str | Path | None
    """PEM file of certificate authorities that the TLS connection to the backplane's Redis trusts; if unset, those of
    services.redis.ca_file or of the system"""
    client_cert: str | Path | None
    """PEM file of the client certificate for a backplane's Redis that requires one"""
    client_key: str | Path | None
    """PEM file of the private key of backplane.redis.client_cert, if that file does not hold the key"""


class PluginsSettings(TypedDict, total=False):
    """Which plugins take part."""

    disable: Collection[str] | None
    """names of plugins that are not imported"""
    prefer: Mapping[str, str] | None
    """plugin to use if several plugins provide the same name: {name: plugin}, such as {redis: zcli_redis}"""


class HttpSettings(TypedDict, total=False):
    """The HTTP client."""

    transport: str | None
    """name of the HTTP transport that sends requests"""
    timeout: float | None
    """deadline of a whole HTTP call, in seconds"""
    retries: int | None
    """how many times a failed HTTP request is repeated, if its method is idempotent"""
    retry_all_methods: bool | None
    """repeat failed POST and PATCH requests too; the server may then process one twice"""
    max_response_bytes: int | None
    """largest body of an HTTP response that is accepted, decoded, in bytes"""
    max_headers: int | None
    """highest number of header fields that an HTTP response may have"""
    max_redirects: int | None
    """highest number of redirects that one HTTP call follows"""
    pool_size: int | None
    """highest number of idle HTTP connections that are kept for each host"""
    trust_env: bool | None
    """use the proxies that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY name"""
    ca_file: str | Path | None
    """PEM file of certificate authorities that HTTPS requests trust; those of the system if unset"""
    client_cert: str | Path | None
    """PEM file of the client certificate for HTTPS servers that require one"""
    client_key: str | Path | None
    """PEM file of the private key of http.client_cert, if that file does not hold the key"""
    client_cert_hosts: Collection[str] | None
    """hosts that get the certificate http.client_cert, such as api.example or api.example:8443; if unset, the host of
    the URL of a call; other hosts, such as targets of redirects and proxies, never get it"""
    user_agent: str | None
    """value of the User-Agent header of HTTP requests; zcli-core/<version> if unset"""


class WebsocketSettings(TypedDict, total=False):
    """The WebSocket server."""

    transport: str | None
    """name of the WebSocket transport of the server"""
    host: str | None
    """address that the WebSocket server listens on"""
    port: int | None
    """port that the WebSocket server listens on; 0 picks a free port"""
    require_auth: bool | None
    """admit only WebSocket clients that an auth strategy of websocket.auth accepts"""
    auth: Collection[str] | None
    """names of the auth strategies of the WebSocket server, tried in this order; with several, the identity of a client
    begins with the name of the strategy that accepted it, such as token:alice"""
    token: str | None
    """token that admits a WebSocket client, at least 16 characters; `zcli token` makes one"""
    tokens: Mapping[str, str] | None
    """further tokens that admit WebSocket clients, by the identity of the holder: {alice: TOKEN}"""
    token_cookie: str | None
    """name of a cookie in which a WebSocket client may send its token; if unset, cookies are ignored"""
    allowed_origins: Collection[str] | None
    """origins of web pages that may connect to the WebSocket server, such as https://example.com; * allows all. If
    unset, pages of this host and of localhost may connect, and pages opened from a file if the server listens on
    loopback and websocket.require_auth is off. Programs that send no Origin header are not checked"""
    trusted_proxies: Collection[str] | None
    """proxies in front of the WebSocket server whose X-Forwarded-For, X-Forwarded-Proto and Forwarded headers are
    trusted: addresses, networks such as 10.0.0.0/8, and unix for clients of the Unix socket"""
    subprotocols: Collection[str] | None
    """WebSocket subprotocols that the server supports, in order of preference"""
    refuse_with: Literal["close", "http"] | None
    """how the WebSocket server refuses a client: close accepts the handshake and sends a close code, http sends an HTTP
    error status"""
    max_auth_failures: int | None
    """highest number of wrong credentials from one IP address (or IPv6 /64 network) within
    websocket.auth_failures_window, to all workers together, including attempts still being checked; an IPv6 /56 network
    may send 4 times as many, an IPv6 /48 network 16 times as many"""
    auth_failures_window: float | None
    """length of the window in which wrong credentials of a client address are counted, in seconds"""
    max_refusal_delay: float | None
    """longest delay before a WebSocket client is refused, in seconds; the delay grows with each refusal of the same
    address, which slows down clients that reconnect at once; 0 refuses at once"""
    max_connections: int | None
    """highest number of WebSocket clients of each worker at the same time; the same number of further connections, but
    at least 100, may be in the handshake or being refused"""
    max_connections_per_address: int | None
    """highest number of WebSocket clients of one IP address (or IPv6 /64 network) at the same time, in each worker; no
    limit if unset"""
    max_messages_per_second: float | None
    """highest number of messages per second that are read from one WebSocket client; further messages are read later,
    and none is dropped; no limit if unset"""
    max_headers: int | None
    """highest number of header fields in the request of a WebSocket client"""
    max_header_bytes: int | None
    """largest size of the request line and headers of a WebSocket client together, in bytes"""
    max_size: int | None
    """largest WebSocket message that a client may send, decompressed, in bytes"""
    max_fragments: int | None
    """highest number of empty fragments in one WebSocket message"""
    max_send_buffer: int | None
    """most bytes that may wait to be sent to one WebSocket client; a slower client is disconnected with close code
    1013"""
    open_timeout: float | None
    """timeout of the TLS and WebSocket handshakes together, in seconds"""
    close_timeout: float | None
    """timeout of the WebSocket close handshake, in seconds"""
    drain_timeout: float | None
    """how long running WebSocket handlers may take to finish when the server stops, in seconds"""
    ping_interval: float | None
    """interval of pings to each WebSocket client, in seconds; 0 turns pings off"""
    ping_timeout: float | None
    """how long the server waits for a pong of a WebSocket client, in seconds; while parts of a message arrive, the time
    does not count"""
    compression: bool | None
    """compress WebSocket messages with permessage-deflate, if the client supports it"""
    compression_window_bits: int | None
    """size of the deflate window for WebSocket compression, as a power of two"""
    compression_memory_level: int | None
    """zlib memory level of WebSocket compression"""
    compression_threshold: int | None
    """smallest WebSocket message that the server compresses, in bytes"""
    ssl_enabled: bool | None
    """serve wss:// and https:// on the port of the WebSocket server"""
    ssl_cert: str | Path | None
    """PEM file of the certificate chain of the WebSocket server"""
    ssl_key: str | Path | None
    """PEM file of the private key of websocket.ssl_cert"""
    ssl_client_ca: str | Path | None
    """PEM file of the certificate authorities for client certificates; if set, clients must show a certificate of one
    of them to connect over wss://; the file is read when the server starts"""
    unix_path: str | Path | None
    """path of a Unix socket that the WebSocket server listens on instead of a port"""
    unix_mode: str | None
    """permissions of the file websocket.unix_path in octal, such as 660; clients need write permission; if unset, the
    umask of the process decides"""
    unix_owner: str | None
    """owner of the file websocket.unix_path: USER, USER:GROUP or :GROUP, by name or number; the user of the process if
    unset"""
    workers: int | Literal["auto"] | None
    """number of processes that serve the WebSocket clients on the same port; auto uses one for each CPU that this
    process may use"""
    worker_timeout: float | None
    """how long a worker of the WebSocket server may take to become ready, and how long its event loop may be blocked,
    in seconds; after that it is replaced"""
    reload_spread: float | None
    """time over which the clients of the old workers are closed when the WebSocket server is reloaded, in seconds; 0
    closes all at once"""
    reuse_port: bool | None
    """let several processes listen on the port of the WebSocket server"""
    backplane: str | None
    """name of the backplane that carries WebSocket messages between processes; local reaches the clients of this
    process only"""
    access_log: bool | None
    """log a line for each WebSocket connection when it ends or is refused, at the level INFO"""
    max_rooms: int | None
    """highest number of rooms that one WebSocket client may be in"""
    loop: Literal["auto", "asyncio", "uvloop"] | None
    """event loop of the WebSocket server; auto uses uvloop if it is installed"""


class BackplaneSettings(TypedDict, total=False):
    """The link between the WebSocket servers of several processes; each engine has a section of its own below."""

    namespace: str | None
    """first part of the names of all channels and keys on the backplane's engine; processes with the same namespace
    exchange messages, so every application on one engine needs its own"""
    required: bool | None
    """refuse to start the WebSocket server if the backplane's engine cannot be reached; if off, the server starts, is
    not ready, and keeps trying"""
    connect_timeout: float | None
    """timeout of connecting to the backplane's engine, in seconds"""
    timeout: float | None
    """timeout of one operation on the backplane's engine, in seconds"""
    first_retry: float | None
    """longest pause before the first attempt to connect to the backplane's engine again, in seconds; it doubles with
    each attempt"""
    max_retry: float | None
    """longest pause between two attempts to connect to the backplane's engine, in seconds"""
    probe_interval: float | None
    """interval of the messages that the server sends to itself through the backplane, in seconds"""
    probe_timeout: float | None
    """how long such a message may take before the server connects to the backplane's engine again, in seconds"""
    max_message: int | None
    """largest message that is published on the backplane, in bytes; websocket.max_size if unset"""
    max_queue: int | None
    """most bytes that may wait to be published on the backplane; a further message is not published"""
    linger: float | None
    """how long a room stays subscribed on the backplane after its last member has left, in seconds"""
    presence_timeout: float | None
    """how long the clients of a crashed process are still shown as present, in seconds"""
    nats: BackplaneNatsSettings
    redis: BackplaneRedisSettings


class ServicesSettings(TypedDict, total=False):
    """Local services as a whole; each has a section of its own below."""

    folder: str | Path | None
    """folder for data and logs of service processes that zCLI starts; the data folder of the user if unset"""
    probe_timeout: float | None
    """timeout of a status probe of a service, in seconds"""
    start_timeout: float | None
    """how long zCLI waits for a service to start or stop, in seconds"""
    mongodb: ServicesMongodbSettings
    nats: ServicesNatsSettings
    postgresql: ServicesPostgresqlSettings
    redis: ServicesRedisSettings


class AsgiSettings(TypedDict, total=False):
    """The transport ``uvicorn``."""

    app: str | None
    """ASGI application, as package.module:attribute, that answers the plain HTTP requests on the port of the WebSocket
    server, if websocket.transport is uvicorn"""


class BifrostSettings(TypedDict, total=False):
    """zBifrost: data models that clients of the WebSocket server may read and change."""

    models: str | Path | Mapping[str, Any] | None
    """models of zBifrost: the path of a YAML file, or a mapping of model names to fields and access rules"""
    database: str | None
    """URL of the database of zBifrost, such as sqlite:///FILE or postgresql+psycopg://USER:PASSWORD@HOST:PORT/DATABASE;
    if unset, a SQLite file in the folder of the log, with the name of the log"""
    cache_ttl: float | None
    """how long zBifrost keeps the result of a read, in seconds, unless a write changes its model before; 0 turns the
    cache off"""
    cache_max: int | None
    """most bytes that results in the cache of zBifrost may take in one process; the result that was used least recently
    is dropped first"""
    rows_max: int | None
    """most rows that one read of zBifrost returns, and most rows that one create takes"""
    result_max: int | None
    """largest result of a read of zBifrost, in bytes of JSON; a larger one is refused, and a larger event tells the
    client to read again"""
    requests_max: int | None
    """most requests of one client that zBifrost handles at the same time; a further one is refused"""
    subscriptions_max: int | None
    """most subscriptions of one client of zBifrost at the same time"""
    query_timeout: float | None
    """how long one statement of zBifrost may run in the database, or wait for a lock there, in seconds"""
    auth_tier: Literal["none", "zSession", "application", "dual"] | None
    """who may use zBifrost: none admits all clients that the WebSocket server admits, zSession an operator with a token
    of websocket.tokens, application a user of an application with a key, dual either of them"""
    operators: Mapping[str, str] | None
    """roles of operators in zBifrost, by the identity that websocket.tokens gives them"""
    admin_role: str | None
    """role that may clear the cache of zBifrost and change how long results are kept"""


class ConsoleSettings(TypedDict, total=False):
    """The console: a page on the WebSocket port that shows the server's clients, rooms and messages."""

    enabled: bool | None
    """serve the console, a page for browsers at / of the WebSocket port; if unset, in Development only"""


class JwtSettings(TypedDict, total=False):
    """The JSON Web Tokens that admit a client. Exactly one of the four key settings must be set."""

    secret: str | None
    """secret for verifying JSON Web Tokens signed with HS256, at least 32 bytes"""
    public_key_file: str | Path | None
    """PEM file of the public key for verifying RS256 or ES256 tokens; reloaded when it changes"""
    jwks_file: str | Path | None
    """file with public keys as a JSON Web Key Set (RFC 7517); reloaded when it changes"""
    jwks_url: str | None
    """https:// URL of a JSON Web Key Set with the public keys"""
    jwks_refresh: float | None
    """interval at which the keys at jwt.jwks_url are fetched again, in seconds"""
    jwks_interval: float | None
    """shortest time between two fetches of jwt.jwks_url, in seconds, even if tokens name unknown keys"""
    jwks_max_age: float | None
    """how long keys of jwt.jwks_url stay in use if they cannot be fetched again, in seconds"""
    jwks_timeout: float | None
    """timeout of a fetch of jwt.jwks_url, in seconds"""
    algorithms: Collection[str] | None
    """accepted signature algorithms of JSON Web Tokens: HS256, RS256, ES256; if unset, those that fit the key"""
    issuer: str | None
    """issuer (claim iss) that a JSON Web Token must have; any issuer if unset"""
    audience: Collection[str] | None
    """accepted audiences (claim aud) of JSON Web Tokens; if unset, tokens that name an audience are refused"""
    leeway: float | None
    """tolerated clock difference for the claims exp, nbf and iat, in seconds"""
    required_claims: Collection[str] | None
    """claims that every JSON Web Token must have"""
    identity_claim: str | None
    """claim of a JSON Web Token that holds the identity of the client"""
    close_at_expiry: bool | None
    """close a WebSocket connection (1008) when the JSON Web Token that admitted its client expires"""
    max_token_bytes: int | None
    """longest JSON Web Token that is checked, in bytes"""


class PrometheusSettings(TypedDict, total=False):
    """Metrics of the WebSocket server for Prometheus."""

    port: int | None
    """port of the page with metrics for Prometheus; there is no page if it is unset, and 0 picks a free port, which the
    log shows"""
    host: str | None
    """address that the page with metrics for Prometheus listens on; every program that reaches it can read the
    metrics"""


class SecretsDirSettings(TypedDict, total=False):
    """A folder of secret files, one value per file, as Docker and Kubernetes mount them."""

    folder: str | Path | None
    """folder of secret files, one value per file, such as /run/secrets; if unset, no secret files are read"""


class Settings(TypedDict, total=False):
    """The script as a whole."""

    deployment: Literal["Development", "Testing", "Production"] | None
    """deployment in force; it decides which messages the console shows and which `deployments` settings apply"""
    zMode: Literal["Terminal", "zBifrost"] | None
    """what z.walker.run() does: zBifrost serves browsers until Ctrl+C, Terminal has nothing to run"""
    title: str | None
    """name of the log and of the log file; the name of the script if unset"""
    logger: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "PROD"] | None
    """lowest level that is logged; PROD shows nothing on the console and writes all levels to the log file"""
    logger_format: Literal["text", "json"] | None
    """how the log file and the console show a record: text, or json for one JSON object a line"""
    logger_path: str | Path | None
    """folder of the log file; the log folder of the user if unset"""
    logger_max_bytes: int | None
    """size at which the log file is rotated, in bytes"""
    logger_backups: int | None
    """number of rotated log files to keep"""
    env_file: str | Path | None
    """path of the .zEnv file, set in any other layer; if unset, the .zEnv in the working directory or beside the
    script"""
    plugins: PluginsSettings
    http: HttpSettings
    websocket: WebsocketSettings
    backplane: BackplaneSettings
    services: ServicesSettings
    asgi: AsgiSettings
    bifrost: BifrostSettings
    console: ConsoleSettings
    jwt: JwtSettings
    prometheus: PrometheusSettings
    secrets_dir: SecretsDirSettings


class Deployments(TypedDict, total=False):
    """Settings for one deployment only, by its name."""

    Development: Settings
    Testing: Settings
    Production: Settings


class ZSpark(Settings, total=False):
    """The settings that a script gives to ``zCLI``; ``zcli config`` lists them with their values.

    >>> zSpark: ZSpark = {"title": "my-script", "http": {"timeout": 5}}

    None as a value means that the script does not set the setting. A setting of a third-party plugin is not a key of
    this type; ``zCLI`` also accepts any other mapping.
    """

    deployments: Deployments
    """Settings for one deployment only: ``{"Production": {"http": {"timeout": 20}}}``."""

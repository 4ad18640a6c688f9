"""The type of zSpark: the settings that a script may give to ``zCLI``, with those of zCLI's own plugins.

Made by ``python tests/zspark_types.py > zcli_core/zspark.py`` from the declarations of the settings; do not edit it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Literal, TypedDict


class ServicesMongodbSettings(TypedDict, total=False):
    """MongoDB."""

    host: str | None
    """name or address to reach it at, or the path of its Unix socket"""
    port: int | None
    """TCP port"""
    data_dir: str | Path | None
    """data folder of a server that zCLI starts; one of zCLI's own if unset"""
    launcher: str | None
    """what starts it: systemd, debian-cluster, homebrew, windows-service, local or auto"""
    ca_file: str | Path | None
    """PEM file of the authorities that its TLS certificate must be from"""
    client_cert: str | Path | None
    """PEM file of the client certificate, for a service that requires one"""
    client_key: str | Path | None
    """PEM file of the private key of client_cert, if it is not in that file"""
    user: str | None
    """user to connect as"""
    database: str | None
    """database to connect to"""
    tls: bool | None
    """connect with TLS; where it is off, TLS is still tried if plain text is turned away"""


class ServicesPostgresqlSettings(TypedDict, total=False):
    """PostgreSQL."""

    host: str | None
    """name or address to reach it at, or the folder of its Unix socket"""
    port: int | None
    """TCP port"""
    data_dir: str | Path | None
    """data folder of a server that zCLI starts; one of zCLI's own if unset"""
    launcher: str | None
    """what starts it: systemd, debian-cluster, homebrew, windows-service, local or auto"""
    ca_file: str | Path | None
    """PEM file of the authorities that its TLS certificate must be from"""
    client_cert: str | Path | None
    """PEM file of the client certificate, for a service that requires one"""
    client_key: str | Path | None
    """PEM file of the private key of client_cert, if it is not in that file"""
    user: str | None
    """role to connect as"""
    database: str | None
    """database to connect to"""


class ServicesRedisSettings(TypedDict, total=False):
    """Redis or Valkey."""

    host: str | None
    """name or address to reach it at, or the path of its Unix socket"""
    port: int | None
    """TCP port"""
    data_dir: str | Path | None
    """data folder of a server that zCLI starts; one of zCLI's own if unset"""
    launcher: str | None
    """what starts it: systemd, debian-cluster, homebrew, windows-service, local or auto"""
    ca_file: str | Path | None
    """PEM file of the authorities that its TLS certificate must be from"""
    client_cert: str | Path | None
    """PEM file of the client certificate, for a service that requires one"""
    client_key: str | Path | None
    """PEM file of the private key of client_cert, if it is not in that file"""
    user: str | None
    """ACL user to connect as"""
    database: int | None
    """number of the database"""
    tls: bool | None
    """connect with TLS; where it is off, TLS is still tried if plain text is turned away"""
    local_password: bool | None
    """give a Redis that zCLI starts a random password; the connection info names its file, password_file"""


class PluginsSettings(TypedDict, total=False):
    """Which plugins take part."""

    disable: Collection[str] | None
    """plugins that are not imported, by entry-point name"""
    prefer: Mapping[str, str] | None
    """which plugin wins where two provide one name: {name: plugin}, as in {redis: zcli_redis}"""


class HttpSettings(TypedDict, total=False):
    """The HTTP client."""

    transport: str | None
    """the transport that carries requests"""
    timeout: float | None
    """deadline of a whole call, in seconds"""
    retries: int | None
    """how often a failed idempotent request is tried again"""
    retry_all_methods: bool | None
    """retry POST and PATCH too, which may then be carried out twice"""
    max_bytes: int | None
    """largest decoded body that is accepted, in bytes"""
    max_headers: int | None
    """header fields that a response may have"""
    max_redirects: int | None
    """how many redirects are followed"""
    pool_size: int | None
    """connections kept open per host"""
    trust_env: bool | None
    """take proxies from HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY"""
    ca_file: str | Path | None
    """PEM file of the authorities to trust instead of the system's"""
    client_cert: str | Path | None
    """PEM file of the client's certificate"""
    client_key: str | Path | None
    """PEM file of its key, if it is not in client_cert"""
    client_cert_hosts: Collection[str] | None
    """hosts that client_cert is shown to, such as api.example or api.example:8443; if unset, the host that a call is
    made to; it is not shown to any other host that a redirect leads to, nor to proxies"""
    user_agent: str | None
    """the User-Agent header; zcli-core/<version> if unset"""


class WebsocketSettings(TypedDict, total=False):
    """The WebSocket server."""

    transport: str | None
    """the transport that speaks the protocol"""
    host: str | None
    """address to listen on"""
    port: int | None
    """port to listen on; 0 picks a free one"""
    require_auth: bool | None
    """admit only clients that an auth strategy accepts"""
    auth: Collection[str] | None
    """auth strategies, asked in this order; with several, the identity of a client begins with the name of the one that
    identified it, as in token:alice"""
    token: str | None
    """the token that admits a client, 16 characters or more; zcli token makes one"""
    tokens: Mapping[str, str] | None
    """further tokens by the name of their holder"""
    token_cookie: str | None
    """name of a cookie in which a client may send its token; no cookie is read if unset"""
    allowed_origins: Collection[str] | None
    """origins of pages that may connect, such as https://example.com; * admits all. If unset, pages of this host and of
    localhost may connect, and pages opened from a file if the server listens on loopback and require_auth is off.
    Programs that send no Origin are not concerned"""
    trusted_proxies: Collection[str] | None
    """proxies whose X-Forwarded-For, X-Forwarded-Proto and Forwarded headers tell the client's address and whether it
    used TLS: addresses, networks such as 10.0.0.0/8, and unix for the clients of the Unix socket"""
    subprotocols: Collection[str] | None
    """subprotocols to agree on, the best first"""
    refuse_with: Literal["close", "http"] | None
    """refuse by close code, or by HTTP status"""
    auth_failures_max: int | None
    """wrong credentials that an IP address (or IPv6 /64 network) may send within auth_failures_window seconds, those
    that are being judged included; an IPv6 /56 network may send 4 times as many, a /48 16 times"""
    auth_failures_window: float | None
    """seconds in which the wrong credentials of an address are counted (auth_failures_max)"""
    max_refusal_delay: float | None
    """longest time, in seconds, that the answer to a refused client waits; it grows with each refusal of its address,
    so that a client that reconnects at once is slowed down; 0 answers at once"""
    max_connections: int | None
    """clients at once; as many connections again, but at least 100, may be in the handshake or being refused"""
    max_connections_per_address: int | None
    """clients of one IP address (or IPv6 /64 network) at once; no limit if unset"""
    max_messages_per_second: float | None
    """messages a second that are read from one client; a client that sends more is read more slowly, and no message is
    dropped; no limit if unset"""
    max_headers: int | None
    """headers that the request of a client may have"""
    max_header_bytes: int | None
    """bytes that the request line and the headers of a client may have together"""
    max_size: int | None
    """largest message, decoded, in bytes"""
    max_fragments: int | None
    """empty fragments that one message may have"""
    send_buffer_max: int | None
    """bytes a slow client may leave unread"""
    open_timeout: float | None
    """seconds for TLS and the upgrade together"""
    close_timeout: float | None
    """seconds for a close handshake"""
    drain_timeout: float | None
    """seconds that handlers at work get to finish when the server stops"""
    ping_interval: float | None
    """seconds between two pings to a client; 0 sends none"""
    ping_timeout: float | None
    """seconds a silent client gets to answer a ping; receiving a large message is not silence"""
    compression: bool | None
    """offer permessage-deflate"""
    compression_window_bits: int | None
    """deflate window, as a power of two"""
    compression_memory_level: int | None
    """zlib memory level"""
    compression_threshold: int | None
    """smallest message that is compressed, in bytes"""
    ssl_enabled: bool | None
    """serve wss:// and https://"""
    ssl_cert: str | Path | None
    """PEM file of the certificate chain"""
    ssl_key: str | Path | None
    """PEM file of the private key"""
    ssl_client_ca: str | Path | None
    """PEM file of the authorities whose certificates clients must show to connect over wss://; clients need no
    certificate if unset; the file is read when the server starts"""
    unix_path: str | Path | None
    """listen on this Unix socket instead of a port"""
    unix_mode: str | None
    """permissions of the Unix socket's file in octal, such as 660; a client needs write permission; by default the
    process's umask decides"""
    unix_owner: str | None
    """owner of the Unix socket's file: USER, USER:GROUP or :GROUP, by name or number; the process's own if unset"""
    reuse_port: bool | None
    """let several processes listen on the port"""
    loop: Literal["auto", "asyncio", "uvloop"] | None
    """event loop; auto takes uvloop if installed"""


class ServicesSettings(TypedDict, total=False):
    """Local services as a whole; each has a section of its own below."""

    folder: str | Path | None
    """where servers that zCLI starts keep data and logs; the user's data folder if unset"""
    timeout: float | None
    """seconds a service has to answer when it is asked how it is"""
    start_timeout: float | None
    """seconds a service has to be ready, or gone, once it is told to"""
    mongodb: ServicesMongodbSettings
    postgresql: ServicesPostgresqlSettings
    redis: ServicesRedisSettings


class JwtSettings(TypedDict, total=False):
    """Which JSON Web Tokens admit a client; one of the four keys has to be set."""

    secret: str | None
    """the secret that HS256 tokens are signed with, 32 bytes or more"""
    public_key_file: str | Path | None
    """PEM file of the public key that RS256 or ES256 tokens are verified with; read again when it changes"""
    jwks_file: str | Path | None
    """file with public keys as a JSON Web Key Set (RFC 7517); read again when it changes"""
    jwks_url: str | None
    """https:// address of a JSON Web Key Set"""
    jwks_refresh: float | None
    """seconds after which the keys at jwks_url are fetched again"""
    jwks_interval: float | None
    """seconds between two fetches, however many tokens name a key that is not known"""
    jwks_max_age: float | None
    """seconds after which fetched keys are not used any more if they cannot be fetched again"""
    jwks_timeout: float | None
    """seconds that a fetch may take"""
    algorithms: Collection[str] | None
    """signature algorithms that are accepted, out of HS256, RS256 and ES256; by default those of the key"""
    issuer: str | None
    """the iss that a token must have; any will do if unset"""
    audience: Collection[str] | None
    """the aud of which a token must have one; tokens for any audience are refused if unset"""
    leeway: float | None
    """seconds that clocks may differ by, for exp, nbf and iat"""
    required_claims: Collection[str] | None
    """claims that a token must have"""
    identity_claim: str | None
    """the claim that names the client"""
    close_at_expiry: bool | None
    """close a WebSocket connection (1008) when the JSON Web Token that admitted its client expires"""
    max_token_bytes: int | None
    """longest token that is looked at, in bytes"""


class SecretsDirSettings(TypedDict, total=False):
    """A folder of secret files, one value a file, as Docker and Kubernetes mount them."""

    folder: str | Path | None
    """the folder, such as /run/secrets; none is read if unset"""


class Settings(TypedDict, total=False):
    """The script as a whole."""

    deployment: Literal["Development", "Testing", "Production"] | None
    """which deployment this is; it decides banners, console level and overlays"""
    title: str | None
    """name of the log and its file; the script's name if unset"""
    logger: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL", "PROD"] | None
    """log level; PROD keeps the console silent and writes DEBUG to the file"""
    logger_path: str | Path | None
    """folder of the log file; the user's log folder if unset"""
    logger_max_bytes: int | None
    """size at which the log file is rotated, in bytes"""
    logger_backups: int | None
    """how many rotated log files are kept"""
    env_file: str | Path | None
    """the .zEnv file to read, named in any layer but itself; looked for if unset"""
    plugins: PluginsSettings
    http: HttpSettings
    websocket: WebsocketSettings
    services: ServicesSettings
    jwt: JwtSettings
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

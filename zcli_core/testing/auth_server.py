"""A whole server whose door one auth strategy keeps, and a client that knocks: what is needed to try it end to end."""

from __future__ import annotations

import contextlib
import socket
import struct
import sys
import types
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from zcli_core import hookimpl
from zcli_core.app import zCLI
from zcli_core.auth.contract import AuthStrategy
from zcli_core.plugins.contract import CONTRACT_VERSION, Provider
from zcli_core.testing.contract import Offered
from zcli_core.websocket.contract import Request

#: The name under which the strategy is selected, so that it is this one and no namesake that is installed.
NAME = "strategy-under-test"
_PLUGIN = "zcli_strategy_under_test"
_PATIENCE = 20.0


class Served(NamedTuple):
    """A server on loopback that is up."""

    z: zCLI
    port: int


@contextlib.contextmanager
def serving(offered: Offered[AuthStrategy], settings: Mapping[str, Any], folder: Path) -> Iterator[Served]:
    """A server, made by ``zCLI`` with these settings, that asks this strategy and no other.

    The strategy is installed for that long as a plugin of its own, in ``folder``, and comes in as any plugin does.
    """
    websocket = {**settings.get("websocket", {}), "require_auth": True, "auth": [NAME], "ssl_enabled": False}
    websocket |= {"max_auth_failures": 1_000_000, "max_refusal_delay": 0, "refuse_with": "close", "unix_path": None}
    quiet = {"title": NAME, "deployment": "Testing", "logger": "PROD", "logger_path": str(folder / "log")}
    with pytest.MonkeyPatch.context() as patch:
        _install(offered, folder, patch)
        with zCLI({**settings, **quiet, "websocket": websocket}) as z:
            handle = z.comm.websocket.start_background(host="127.0.0.1", port=0)
            if handle.port is None:
                raise AssertionError("the server has no port")
            yield Served(z, handle.port)


def _install(offered: Offered[AuthStrategy], folder: Path, patch: pytest.MonkeyPatch) -> None:
    if isinstance(offered, Provider):
        provider = Provider(NAME, offered.summary, offered.factory, needs=offered.needs, install=offered.install)
    else:
        provider = Provider(NAME, "of a test", offered)

    def zcli_auth_strategies() -> list[Provider[AuthStrategy]]:
        return [provider]

    info = folder / "site" / f"{_PLUGIN}-0.dist-info"
    info.mkdir(parents=True)
    (info / "entry_points.txt").write_text(f"[zcli]\n{_PLUGIN} = {_PLUGIN}\n", encoding="utf-8")
    module = types.ModuleType(_PLUGIN)
    vars(module).update(ZCLI_CONTRACT=CONTRACT_VERSION, zcli_auth_strategies=hookimpl(zcli_auth_strategies))
    patch.setitem(sys.modules, _PLUGIN, module)
    patch.syspath_prepend(str(info.parent))


# A client --------------------------------------------------------------------------------------------------------


class Reception(NamedTuple):
    """How a client was received: ``code`` and ``reason`` of the close frame, None and "" for one that was let in."""

    code: int | None
    reason: str
    subprotocol: str | None
    #: The client's own address, by which the server knows it.
    address: tuple[str, int]


@contextlib.contextmanager
def knocking(port: int, request: Request) -> Iterator[Reception]:
    """Open a WebSocket with that request's target and headers; the connection stays open meanwhile if it is let in."""
    with socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE) as sock, sock.makefile("rb") as stream:
        target = f"{request.path}?{request.query}" if request.query else request.path
        lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in request.headers.items())]
        sock.sendall("\r\n".join([*lines, "", ""]).encode("latin-1"))
        status = stream.readline()
        headers = {}
        while line := stream.readline().strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        if b" 101 " not in status:
            raise AssertionError(f"the transport did not upgrade: {status!r}")
        with contextlib.suppress(OSError):  # it may have been turned away already
            sock.sendall(b"\x81\x85\0\0\0\0hello")  # a text frame, masked with zeros; the server sends it back
        code, reason = _answer(stream.read(2), stream)
        yield Reception(code, reason, headers.get("sec-websocket-protocol"), sock.getsockname())


def _answer(head: bytes, stream: Any) -> tuple[int | None, str]:
    if len(head) < 2:
        raise AssertionError("the server hung up without a close frame")
    payload = stream.read(head[1])  # at most 125 bytes: a close frame's limit, and the echo is shorter
    if head[0] == 0x81 and payload == b"hello":
        return None, ""
    if head[0] == 0x88 and len(payload) >= 2:
        return struct.unpack("!H", payload[:2])[0], payload[2:].decode()
    raise AssertionError(f"the server sent {head + payload!r}")

"""The check of ``zcli doctor`` that reaches the engine of the backplane, sends a probe through it, and asks it."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

from zcli_core.backplane.contract import Capability
from zcli_core.config.sections import Backplane as Settings
from zcli_core.errors import BackplaneFailure
from zcli_core.plugins.contract import Context
from zcli_core.plugins.records import BACKPLANE
from zcli_core.printable import printable

if TYPE_CHECKING:
    from zcli_core.backplane.contract import Backplane
    from zcli_core.backplane.link import Link
    from zcli_core.cli.session import Session
    from zcli_core.config import Config

_Finding = tuple[Literal["ok", "warning", "wrong"], str]


def check_backplane(session: Session, log: logging.Logger) -> Iterator[_Finding]:
    """Connect to the engine that ``websocket.backplane`` selects, as a server does, and report what it says.

    It subscribes to a channel of its own and is not present in any room.

    Raises:
        ConfigError: The backplane cannot be used.
    """
    config = session.config
    backplane = session.host.make(BACKPLANE, Context(config, log))
    if Capability.REMOTE not in backplane.capabilities:
        yield "ok", f"{config.websocket.backplane}: no engine; messages reach the clients of one process only"
        return
    yield from asyncio.run(_examine(backplane, session, log))


async def _examine(backplane: Backplane, session: Session, log: logging.Logger) -> list[_Finding]:
    from zcli_core.backplane.link import Link
    from zcli_core.websocket.process_links import start_advice

    config = session.config
    settings = config.section(Settings)
    link = Link(
        backplane,
        settings,
        process=secrets.token_hex(8),
        name=config.websocket.backplane,
        max_message=settings.max_message or config.websocket.max_size,
        origin=secrets.token_bytes(8),
        receive=None,
        changed=None,
        log=log,
    )
    link.start(required=True)
    try:
        await link.proven()
        return await _describe(link, backplane, config)
    except BackplaneFailure as failure:
        text = printable(str(failure))
        text = text if backplane.address in text else f"{_where(backplane, config)}: {text}"
        advice = start_advice(session.host, config.websocket.backplane, failure.kind)
        return [_unreachable(f"{text}; {advice}" if advice else text, config)]
    finally:
        await link.close()


def _where(backplane: Backplane, config: Config) -> str:
    return f"{config.websocket.backplane} at {backplane.address}"


async def _describe(link: Link, backplane: Backplane, config: Config) -> list[_Finding]:
    """Describe the engine of a link that is up."""
    where = _where(backplane, config)
    proof = f"{where}: a probe came back after {(link.counters.probe_seconds or 0.0) * 1000:.1f} ms"
    try:
        report = await link.report()
        others = await _other_processes(link, backplane)
    except BackplaneFailure as failure:
        return [("warning", f"{proof}, but it cannot be examined: {printable(str(failure))}")]
    found: list[_Finding] = [("warning", f"{where}: {printable(problem)}") for problem in report.problems]
    namespace = config.section(Settings).namespace
    found.append(("ok", f"{proof}; {printable(report.engine)}, namespace {namespace!r}, {others}"))
    return found


async def _other_processes(link: Link, backplane: Backplane) -> str:
    if Capability.PRESENCE not in backplane.capabilities:
        return "the number of other processes is unknown"
    count = len(set(await link.processes()) - {link.process})
    return f"{count or 'no'} other process{'' if count == 1 else 'es'}"


def _unreachable(text: str, config: Config) -> _Finding:
    if config.section(Settings).required:
        return "wrong", f"{text}; the WebSocket server does not start without it (backplane.required)"
    return "warning", f"{text}; the WebSocket server starts without it, and is not ready"

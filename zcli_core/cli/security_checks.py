"""The security section of ``zcli doctor``: who else can read, reach or change something of ours.

Each check is one function. It takes the session and yields findings: ``"wrong"`` if a start would be refused,
``"warning"`` for everything else. Nothing is yielded if there is nothing to report. A check changes nothing and shows
no secret. What it logs as a warning to the logger ``zcli.doctor`` becomes a finding, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

from zcli_core.errors import ConfigError
from zcli_core.security import key_warning

if TYPE_CHECKING:
    from zcli_core.cli.session import Session

State = Literal["ok", "warning", "wrong"]
Findings = Iterator[tuple[State, str]]


def _readable_keys(session: Session) -> Findings:
    """Private keys that other users can read: ``websocket.ssl_key`` and the ``client_key`` of every section."""
    settings = session.config.settings
    for name in settings:
        section, _, attribute = name.rpartition(".")
        certificate = attribute.replace("_key", "_cert")
        if attribute not in ("ssl_key", "client_key") or f"{section}.{certificate}" not in settings:
            continue
        for setting in (attribute, certificate):
            with contextlib.suppress(ConfigError):  # the check of the configuration reports it
                file = getattr(session.config.get(section), setting)
                warning = None if file is None else key_warning(f"{section}.{setting}", file)
                if warning is not None:
                    yield "warning", warning


def _readable_secrets(session: Session) -> Findings:
    """Configuration files with secrets that other users can read."""
    yield from ()


def _foreign_files(session: Session) -> Findings:
    """Configuration files that belong to another user, or that others may write."""
    yield from ()


def _weak_tokens(session: Session) -> Findings:
    """Tokens that can be guessed."""
    yield from ()


def _open_server(session: Session) -> Findings:
    """A WebSocket server that other machines reach and that asks for no credential."""
    yield from ()


def _services_of_others(session: Session) -> Findings:
    """A configured service that runs as another user, and local services that other users can use."""
    yield from ()


#: Every check, in the order of the report.
SECURITY_CHECKS: tuple[Callable[[Session], Findings], ...] = (
    _readable_keys,
    _readable_secrets,
    _foreign_files,
    _weak_tokens,
    _open_server,
    _services_of_others,
)

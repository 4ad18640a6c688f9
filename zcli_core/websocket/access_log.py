"""The access log: one record for each connection, when it has ended or was refused."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from zcli_core.auth.parts import BEARER
from zcli_core.printable import printable
from zcli_core.websocket.addresses import format_address
from zcli_core.websocket.counters import ACCEPTED, Traffic

if TYPE_CHECKING:
    from zcli_core.websocket.admission import Admission
    from zcli_core.websocket.contract import Address, Connection, Request

#: Most characters of a text that a client has chosen.
_LONGEST = 300
#: Values that are written without quotes. A value of this kind has no space, quote or = and is not a single -.
_PLAIN = re.compile(r"(?!-$)[\w.:/@%+~,;&()*!\[\]-]+", re.ASCII)


class ConnectionTraffic(Traffic):
    """What one connection has sent and received, with the time of its beginning."""

    __slots__ = ("began",)

    def __init__(self) -> None:
        super().__init__()
        self.began = time.monotonic()


class AccessLog:
    """Writes a record for each connection to the logger ``zcli.<title>.access``, at INFO.

    The message is ``key=value`` for each field, and the record has the same fields as ``extra``. A record has neither
    the query of the request nor a header.
    """

    def __init__(self, log: logging.Logger, subprotocols: Iterable[str]) -> None:
        """Prepare the log.

        Args:
            log: The log of the server, a child of the application's.
            subprotocols: The names that may be shown. Any other one may be a token.
        """
        self._log = (log.parent or log).getChild("access")
        self._subprotocols = {*subprotocols, BEARER}

    def ended(
        self, admission: Admission, connection: Connection, traffic: ConnectionTraffic, code: int, reason: str,
        result: str = ACCEPTED,
    ) -> None:  # fmt: skip
        """Write the record of a connection that was open.

        Args:
            admission: What the gate knows about the client.
            connection: The transport's side of the connection.
            traffic: What was sent and received.
            code: The close code.
            reason: The close reason.
            result: One of :data:`zcli_core.websocket.counters.RESULTS`.
        """
        request = admission.request or connection.request
        subprotocol = connection.subprotocol if connection.subprotocol in self._subprotocols else None
        self._write(
            request.remote_address, admission.identity, request, subprotocol, result, code, reason,
            time.monotonic() - traffic.began, traffic,
        )  # fmt: skip

    def refused(self, address: Address, request: Request | None, result: str, code: int | None, reason: str) -> None:
        """Write the record of a connection that was refused.

        Args:
            address: The client's address.
            request: The request, as far as it was read.
            result: One of :data:`zcli_core.websocket.counters.RESULTS`.
            code: The close code or the HTTP status; None if neither was sent.
            reason: Why it was refused.
        """
        self._write(address, None, request, None, result, code, reason, 0.0, Traffic())

    def _write(
        self, address: Address, identity: str | None, request: Request | None, subprotocol: str | None, result: str,
        code: int | None, reason: str, seconds: float, traffic: Traffic,
    ) -> None:  # fmt: skip
        if not self._log.isEnabledFor(logging.INFO):
            return
        fields: dict[str, str | int | float | None] = {
            "client": "unix" if address is None else format_address(address),
            "identity": _shortened(identity),
            "path": _shortened(None if request is None else request.path),
            "subprotocol": subprotocol,
            "result": result,
            "code": code,
            "reason": _shortened(reason),
            "seconds": round(seconds, 3),
            "messages_in": traffic.messages_received,
            "messages_out": traffic.messages_sent,
            "bytes_in": traffic.bytes_received,
            "bytes_out": traffic.bytes_sent,
        }
        text = " ".join(f"{name}={_shown(value)}" for name, value in fields.items())
        self._log.info("%s", text, extra=fields)


def _shortened(text: str | None) -> str | None:
    return text if text is None or len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _shown(value: str | float | None) -> str:
    """Return a value as one word, or in quotes."""
    if not isinstance(value, str):
        return "-" if value is None else str(value)
    if _PLAIN.fullmatch(value):
        return value
    quoted = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{printable(quoted)}"'

"""The transport of one client, whose errors become failures of the call."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from zcli_core.errors import raised_by_signal
from zcli_core.http.contract import HttpRequest, HttpTransport, RawResponse, TransportFailure
from zcli_core.http.streamed_body import BodySourceError
from zcli_core.printable import printable
from zcli_core.system.forks import call_after_fork


class GuardedTransport:
    """Makes the configured transport for the first request, and sends requests over it.

    An error of the transport other than TransportFailure is logged, and becomes a failure of kind ``transport``.
    """

    def __init__(self, name: str, make: Callable[[], HttpTransport], log: logging.Logger) -> None:
        """Prepare to make a transport.

        Args:
            name: The setting ``http.transport``, for messages.
            make: Makes the transport; called once, for the first request.
            log: The application's logger.
        """
        self._name = name
        self._make = make
        self._log = log
        self._transport: HttpTransport | None = None
        self._lock = threading.Lock()
        self._closed = False
        call_after_fork(self)

    @property
    def content_codings(self) -> tuple[str, ...]:
        """The content codings that the transport decodes."""
        codings: tuple[str, ...] = getattr(self._transport or self._first_transport(), "content_codings", ())
        return codings

    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        """Send one request as :meth:`zcli_core.http.contract.HttpTransport.send` does.

        Returns:
            The response. Control characters in its reason are escaped, because it is shown in logs and on terminals.

        Raises:
            TransportFailure: There is no response.
            BodySourceError: The caller's own file or iterable raised an error.
            RuntimeError: The client is closed.
        """
        transport = self._transport or self._first_transport()
        try:
            raw = transport.send(request, deadline, max_bytes)
            return raw if raw.reason.isprintable() else raw._replace(reason=printable(raw.reason))
        except (TransportFailure, BodySourceError):
            raise
        except Exception as error:
            if raised_by_signal(error):
                raise
            self._log.exception("the HTTP transport %r failed", self._name)
            raise TransportFailure(
                "transport", f"the transport {self._name!r} failed with {type(error).__name__}; the log has the details"
            ) from error

    def replace(self, transport: HttpTransport) -> None:
        """Use another transport from now on, and close the one used so far.

        Raises:
            RuntimeError: The client is closed.
        """
        with self._lock:
            self._check_open()
            previous, self._transport = self._transport, transport
        if previous is not None:
            previous.close()

    def close(self) -> None:
        """Close every connection. Requests sent afterwards raise RuntimeError."""
        with self._lock:
            self._closed = True
            transport, self._transport = self._transport, None
        if transport is not None:
            transport.close()

    def _after_fork(self) -> None:
        """Replace the lock in the child after a fork: the thread that held it does not exist there."""
        self._lock = threading.Lock()

    def _first_transport(self) -> HttpTransport:
        with self._lock:
            self._check_open()
            if self._transport is None:
                self._transport = self._make()
            return self._transport

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("this HTTP client is closed, so no more requests can be sent")

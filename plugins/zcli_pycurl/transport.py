"""The transport: one request, one answer, over a pooled handle."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING

import pycurl

from zcli_core.contracts.http import HttpRequest, RawResponse
from zcli_core.contracts.http_proxies import proxy_for
from zcli_core.errors import ConfigError
from zcli_pycurl.codings import CONTENT_CODINGS
from zcli_pycurl.handle import Handle
from zcli_pycurl.place import Place
from zcli_pycurl.pool import HandlePool
from zcli_pycurl.tls import TlsOptions

if TYPE_CHECKING:
    from zcli_core.config.sections import Http

# Since then libcurl has a limit for all the headers of an answer together.
_OLDEST_LIBCURL = 0x080400


class CurlTransport:
    """Implements :class:`zcli_core.contracts.http.HttpTransport` with libcurl.

    Every handle keeps one connection and serves one thread at a time: libcurl's connections must not be shared between
    threads. HTTP/2 is spoken where TLS agrees on it, one request at a time on a connection.
    """

    content_codings = CONTENT_CODINGS

    def __init__(self, settings: Http, origin_of: Callable[[str], str] | None = None) -> None:
        """``origin_of`` gives who set a setting, for messages.

        Raises ConfigError if ``http.ca_file``, ``client_cert`` or ``client_key`` cannot be used, or libcurl is too old.
        """
        _, version, number, *_ = pycurl.version_info()
        if number < _OLDEST_LIBCURL:
            raise ConfigError(
                f"http.transport: curl needs libcurl 8.4 or later, and this pycurl has {version}: "
                "pip install --upgrade --force-reinstall pycurl"
            )
        self._trust_env = settings.trust_env
        self._tls = TlsOptions(settings, origin_of)
        self._pool = HandlePool(settings.pool_size)
        # Also at the end of a program that closes nothing.
        self._finalizer = weakref.finalize(self, self._pool.close)
        _transports.add(self)

    def exchange(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        """See :meth:`zcli_core.contracts.http.HttpTransport.exchange`."""
        url = request.url
        place = Place(url.scheme, url.host, url.port, proxy_for(url) if self._trust_env else None)
        handle = self._pool.take(place, request) or Handle(place, self._tls)
        try:
            raw = handle.exchange(request, deadline, max_bytes)
        except BaseException:
            handle.close()
            raise
        if handle.may_be_reused:
            self._pool.give_back(place, handle)
        else:
            handle.close()
        return raw

    def close(self) -> None:
        """Close every connection; those in use are closed when their answer is complete."""
        self._finalizer()

    def after_fork(self) -> None:
        """In the child after a fork: begin without connections."""
        self._pool.after_fork()


# A fork handler cannot be taken back, so there is one for all transports, and it does not keep them alive.
_transports: weakref.WeakSet[CurlTransport] = weakref.WeakSet()


def _after_fork() -> None:
    for transport in list(_transports):
        transport.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

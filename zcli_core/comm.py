"""The facade ``z.comm``. Each part is imported and created when a script first uses it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

from zcli_core.net.tls_settings import check_tls_files
from zcli_core.plugins.contract import Context
from zcli_core.plugins.host import PluginHost
from zcli_core.plugins.records import HTTP_TRANSPORT
from zcli_core.system.forks import call_after_fork

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from zcli_core.config import Config
    from zcli_core.http.client import HttpClient
    from zcli_core.http.contract import HttpResponse, HttpTransport
    from zcli_core.http.options import RequestOptions, Timeout
    from zcli_core.http.request_body import Data
    from zcli_core.http.request_headers import HeadersLike
    from zcli_core.http.values import Pairs
    from zcli_core.services.services import Services
    from zcli_core.types import ConnectionInfo, HttpMetrics, ServiceStatus
    from zcli_core.websocket.facade import WebSocketServer


_T = TypeVar("_T")


class _Every:
    """The default of ``name``: every service. None is an error, because a script may have failed to find a name."""

    def __repr__(self) -> str:
        return "<every service>"


_EVERY: Any = _Every()


class _Part(Generic[_T]):
    """A part of the facade. Its first use, in any thread, creates it; later uses read an attribute.

    ``functools.cached_property`` has no lock since Python 3.12.
    """

    def __init__(self, make: Callable[[Any], _T]) -> None:
        self._make = make
        self.__doc__ = make.__doc__

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, comm: Comm | None, owner: type) -> _T:
        if comm is None:
            return self  # type: ignore[return-value]
        with comm._lock:
            if self._name not in comm.__dict__:
                if comm._closed:
                    raise RuntimeError("this zCLI object is closed")
                comm.__dict__[self._name] = self._make(comm)
            part: _T = comm.__dict__[self._name]
            return part


class Comm:
    """HTTP, ports, WebSockets and services of one ``zCLI`` object."""

    def __init__(self, config: Config, host: PluginHost, log: logging.Logger, owner: object = None) -> None:
        """Keep ``owner`` alive, so that the log stays open during ``zCLI().comm.http_get(url)``."""
        self._owner = owner
        self._lock = threading.RLock()
        self._closed = False
        self._config = config
        self._host = host
        self._log = log
        call_after_fork(self)

    def _after_fork(self) -> None:
        """Replace the lock, because a thread that does not exist in the child may hold it."""
        self._lock = threading.RLock()

    # --- HTTP ---

    @_Part
    def http(self) -> HttpClient:
        """The HTTP client. The plugin that ``http.transport`` selects provides its transport."""
        from zcli_core.http.client import HttpClient

        log = self._log.getChild("http")
        context = Context(self._config, log)
        on_request = self._host.notifier("zcli_http_request", log)
        on_response = self._host.notifier("zcli_http_response", log)
        return HttpClient(
            self._config.http,
            lambda: self._http_transport(context),
            log,
            on_request=on_request and (lambda request: on_request(request, context)),
            on_response=on_response and (lambda request, outcome: on_response(request, outcome, context)),
        )

    def _http_transport(self, context: Context) -> HttpTransport:
        self._config.refuse_misspelt("http")
        check_tls_files(self._config, "http")
        http = self._config.http
        if http.client_cert is not None:
            from zcli_core.net.pem_files import key_warning
            from zcli_core.security_warnings import warn_security

            name = "http.client_cert" if http.client_key is None else "http.client_key"
            exposed = key_warning(name, http.client_key or http.client_cert)
            if exposed is not None:
                warn_security(context.log, "%s", exposed)
        transport: HttpTransport = self._host.make(HTTP_TRANSPORT, context)
        return transport

    def http_request(
        self,
        method: str,
        url: str,
        *,
        params: Pairs | str | None = None,
        data: Data | None = None,
        headers: HeadersLike | None = None,
        timeout: Timeout | None = None,
        **options: Unpack[RequestOptions],
    ) -> HttpResponse | None:
        """Send a request and return the response, or None if no response arrived.

        Args:
            method: ``"GET"`` or any other, in any case.
            url: An ``http://`` or ``https://`` URL; only ``zcli http`` adds a missing scheme. Credentials in it are
                sent as Basic authentication and are shown nowhere.
            params: Names and values, added to the URL's query, or a str that is ready. A value is str, int, float,
                bool (``true``, ``false``), bytes, an enum member (its value), a date, time or datetime (ISO 8601), a
                UUID or a Decimal. An iterable of these repeats the name; None leaves it out.
            data: The body. A dict or list is sent as JSON, str as UTF-8, bytes as they are. A file opened in binary
                mode or an iterable of bytes is read while it is sent: a file to the end that it has now.
            json: The body, any value that JSON can hold. ``json=None`` sends ``null``.
            form: Names and values as for ``params``, sent as an HTML form does.
            files: Files by field name, sent as multipart/form-data, together with ``form`` if that is given. A file is
                bytes, str, a Path, a file opened in binary mode, or a tuple (file name, content[, content type]). With
                None as its file name the tuple is a form field. An empty ``files`` sends ``form`` as multipart.
            headers: Header fields; None as a value leaves out one that zCLI would send.
            auth: (user, password) for Basic, a str for Bearer, or a function that takes the
                :class:`~zcli_core.http.contract.HttpRequest` and changes its headers.
            timeout: Seconds that the whole call may take: connecting, sending, redirects, retries, the last byte of the
                body. ``http.timeout`` if not given, 10 unless configured. A pair (connect, read) limits each attempt
                instead: ``connect`` seconds until the connection is established, ``read`` seconds from then to the last
                byte. The whole call may then take ``http.timeout``, or the sum of its attempts if that is longer.
            retries: How often a request that failed, or got the status 429, 502, 503 or 504, is tried again;
                ``http.retries`` if not given, 0 unless configured. Retry-After is respected if the timeout leaves room.
            retry_all_methods: Try POST and PATCH again too, which the server may then execute twice;
                ``http.retry_all_methods`` if not given.
            follow_redirects: False returns a redirect as the response.

        Raises:
            TypeError, ValueError: An argument is invalid. Nothing was sent.
            OSError: A file to send cannot be read.
        """
        return self.http.request(method, url, params=params, data=data, headers=headers, timeout=timeout, **options)

    def http_get(
        self,
        url: str,
        params: Pairs | str | None = None,
        headers: HeadersLike | None = None,
        timeout: Timeout | None = None,
        *,
        data: Data | None = None,
        **options: Unpack[RequestOptions],
    ) -> HttpResponse | None:
        """Send a GET request and return the response, or None if no response arrived.

        Args:
            url: An ``http://`` or ``https://`` URL.
            params: Names and values to add to the URL's query.
            headers: Header fields. The value None leaves out a header that zCLI would send.
            timeout: Seconds that the whole call may take, or a pair (connect, read) for each attempt.
                ``http.timeout`` (10) if not given.
            data: The body, if the request has one.
            json: A body that is any JSON value; ``json=None`` sends ``null``.
            form: A body with the fields of a form.
            files: A body with files to upload, by field name.
            auth: (user, password) for Basic, a str for Bearer, or a function that changes the request's headers.
            retries: How often a failed request is tried again. ``http.retries`` (0) if not given.
            retry_all_methods: Try POST and PATCH again too. ``http.retry_all_methods`` (False) if not given.
            follow_redirects: False returns a redirect as the response.

        :meth:`http_request` describes each argument in detail.

        Raises:
            TypeError, ValueError: An argument is invalid. Nothing was sent.
        """
        return self.http.request("GET", url, params=params, data=data, headers=headers, timeout=timeout, **options)

    def http_post(
        self,
        url: str,
        data: Data | None = None,
        headers: HeadersLike | None = None,
        timeout: Timeout | None = None,
        *,
        params: Pairs | str | None = None,
        **options: Unpack[RequestOptions],
    ) -> HttpResponse | None:
        """Send a POST request and return the response, or None if no response arrived.

        Args:
            url: An ``http://`` or ``https://`` URL.
            data: The body. A dict or list is sent as JSON, str as UTF-8, bytes as they are. A file opened in binary
                mode or an iterable of bytes is streamed.
            headers: Header fields. The value None leaves out a header that zCLI would send.
            timeout: Seconds that the whole call may take, or a pair (connect, read) for each attempt.
                ``http.timeout`` (10) if not given.
            params: Names and values to add to the URL's query.
            json: A body that is any JSON value; ``json=None`` sends ``null``.
            form: A body with the fields of a form.
            files: A body with files to upload, by field name.
            auth: (user, password) for Basic, a str for Bearer, or a function that changes the request's headers.
            retries: How often a failed request is tried again. ``http.retries`` (0) if not given.
            retry_all_methods: Try POST and PATCH again too. ``http.retry_all_methods`` (False) if not given.
            follow_redirects: False returns a redirect as the response.

        :meth:`http_request` describes each argument in detail.

        Raises:
            TypeError, ValueError: An argument is invalid. Nothing was sent.
            OSError: A file to send cannot be read.
        """
        return self.http.request("POST", url, params=params, data=data, headers=headers, timeout=timeout, **options)

    def http_put(
        self,
        url: str,
        data: Data | None = None,
        headers: HeadersLike | None = None,
        timeout: Timeout | None = None,
        *,
        params: Pairs | str | None = None,
        **options: Unpack[RequestOptions],
    ) -> HttpResponse | None:
        """Send a PUT request and return the response, or None if no response arrived.

        The arguments and errors are those of :meth:`http_post`.
        """
        return self.http.request("PUT", url, params=params, data=data, headers=headers, timeout=timeout, **options)

    def http_patch(
        self,
        url: str,
        data: Data | None = None,
        headers: HeadersLike | None = None,
        timeout: Timeout | None = None,
        *,
        params: Pairs | str | None = None,
        **options: Unpack[RequestOptions],
    ) -> HttpResponse | None:
        """Send a PATCH request and return the response, or None if no response arrived.

        The arguments and errors are those of :meth:`http_post`.
        """
        return self.http.request("PATCH", url, params=params, data=data, headers=headers, timeout=timeout, **options)

    def http_delete(
        self,
        url: str,
        params: Pairs | str | None = None,
        headers: HeadersLike | None = None,
        timeout: Timeout | None = None,
        *,
        data: Data | None = None,
        **options: Unpack[RequestOptions],
    ) -> HttpResponse | None:
        """Send a DELETE request and return the response, or None if no response arrived.

        The arguments and errors are those of :meth:`http_get`.
        """
        return self.http.request("DELETE", url, params=params, data=data, headers=headers, timeout=timeout, **options)

    def http_options(
        self,
        url: str,
        params: Pairs | str | None = None,
        headers: HeadersLike | None = None,
        timeout: Timeout | None = None,
        *,
        data: Data | None = None,
        **options: Unpack[RequestOptions],
    ) -> HttpResponse | None:
        """Send an OPTIONS request and return the response, or None if no response arrived.

        The arguments and errors are those of :meth:`http_get`.
        """
        return self.http.request("OPTIONS", url, params=params, data=data, headers=headers, timeout=timeout, **options)

    def http_head(
        self,
        url: str,
        params: Pairs | str | None = None,
        headers: HeadersLike | None = None,
        timeout: Timeout | None = None,
        *,
        data: Data | None = None,
        **options: Unpack[RequestOptions],
    ) -> HttpResponse | None:
        """Send a HEAD request and return the response, which has no body, or None if no response arrived.

        The arguments and errors are those of :meth:`http_get`.
        """
        return self.http.request("HEAD", url, params=params, data=data, headers=headers, timeout=timeout, **options)

    # --- ports ---

    def check_port(self, port: int, host: str = "127.0.0.1") -> bool:
        """Return whether no process holds a port, so that a server could listen on it.

        Args:
            port: The port, from 1 to 65535.
            host: The address or name. A port of another machine counts as available if it refuses a connection.

        Raises:
            ValueError: The port or the host is invalid.
        """
        from zcli_core.net.ports import check_port

        return check_port(port, host, log=self._log)

    def wait_for_port(self, port: int, timeout: float = 10.0, host: str = "127.0.0.1") -> bool:
        """Wait until a server accepts connections on a port; return False if none does in time.

        Args:
            port: The port, from 1 to 65535.
            timeout: Seconds to wait.
            host: The address or name of the server.

        Raises:
            ValueError: An argument is invalid.
        """
        from zcli_core.net.ports import wait_for_port

        return wait_for_port(port, timeout, host, log=self._log)

    def find_free_port(self, host: str = "127.0.0.1") -> int:
        """Return a port that is available on an address of this machine.

        Raises:
            ValueError: ``host`` is not an address of this machine.
        """
        from zcli_core.net.ports import find_free_port

        return find_free_port(host)

    # --- WebSocket ---

    @_Part
    def websocket(self) -> WebSocketServer:
        """The WebSocket server."""
        from zcli_core.websocket.facade import WebSocketServer

        return WebSocketServer(self._config, self._host, self._log.getChild("websocket"), self._http_metrics)

    def _http_metrics(self) -> HttpMetrics:
        """Return what the HTTP client counts, without making one."""
        client: HttpClient | None = self.__dict__.get("http")
        if client is not None:
            return client.metrics()
        from zcli_core.http.counters import HttpCounters

        return HttpCounters().read()

    # --- services ---

    @_Part
    def services(self) -> Services:
        """The services that plugins provide. ``services.last_failure`` holds why a call returned False or None."""
        from zcli_core.services.services import Services

        log = self._log.getChild("services")
        context = Context(self._config, log)
        notify = self._host.notifier("zcli_service_changed", log)
        return Services(self._config, self._host, log, notify and (lambda name, status: notify(name, status, context)))

    @overload
    def service_status(self) -> dict[str, ServiceStatus]: ...

    @overload
    def service_status(self, name: str) -> ServiceStatus: ...

    def service_status(self, name: str = _EVERY) -> ServiceStatus | dict[str, ServiceStatus]:
        """Return the status of a service; without a name, the status of every service by name.

        All services are probed concurrently, each for at most ``services.probe_timeout`` seconds. zCLI never logs in.

        Raises:
            ValueError: No plugin provides a service of that name.
            ConfigError: The settings of the named service cannot be used, or several plugins provide it.
        """
        return self.services.statuses() if name is _EVERY else self.services.status(name)

    def get_service_connection_info(self, name: str) -> ConnectionInfo | Any:
        """Return what a driver needs to connect to a service, without a password; None if the service is not running.

        ``services.last_failure`` then holds the reason. For type checkers the result is ``ConnectionInfo | Any``, so
        that a script may use it without a check after it has started the service.

        Raises:
            ValueError: No plugin provides a service of that name.
        """
        return self.services.connection_info(name)

    def start_service(
        self,
        name: str,
        *,
        port: int | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        launcher: str | None = None,
        timeout: float | None = None,
    ) -> bool:
        """Start a service and wait until it is ready. If it is ready already, return True at once.

        Args:
            name: The service, such as ``"postgresql"``.
            port: The port to probe, and to start the service on. ``services.<name>.port`` if not given.
            data_dir: The data folder of a server that zCLI starts. ``services.<name>.data_dir`` if not given.
            launcher: What starts the service. ``services.<name>.launcher`` if not given.
            timeout: Seconds in which the service must become ready. ``services.start_timeout`` if not given.

        Returns:
            False if the service is not ready in time or cannot be started. The log and ``services.last_failure`` hold
            the reason.

        Raises:
            ValueError: No plugin provides a service of that name, or an option is invalid.
        """
        return self.services.change("start", name, port=port, data_dir=data_dir, launcher=launcher, timeout=timeout)

    def stop_service(
        self,
        name: str,
        *,
        port: int | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
    ) -> bool:
        """Stop a service with the launcher that started it. If it is not running, return True at once.

        Args:
            name: The service, such as ``"postgresql"``.
            port: The port of the service. If not given, the port that this object started it on, or else
                ``services.<name>.port``.
            data_dir: The data folder of the service, if it was started with one.
            timeout: Seconds in which the service must stop. ``services.start_timeout`` if not given.

        Returns:
            False if the service still runs or must not be stopped. The log and ``services.last_failure`` hold the
            reason.

        Raises:
            ValueError: No plugin provides a service of that name, or an option is invalid.
        """
        return self.services.change("stop", name, port=port, data_dir=data_dir, timeout=timeout)

    def restart_service(
        self,
        name: str,
        *,
        port: int | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
    ) -> bool:
        """Stop a service, start it with the same launcher and wait until it is ready.

        A service that is not running is started. The arguments, the result and the errors are those of
        :meth:`stop_service`. ``timeout`` limits both steps together.
        """
        return self.services.change("restart", name, port=port, data_dir=data_dir, timeout=timeout)

    def health_check_all(self) -> dict[str, bool]:
        """Return for each service, by name, whether it is ready."""
        return {name: status["ready"] for name, status in self.services.statuses().items()}

    def close(self) -> None:
        """Close the WebSocket server and the HTTP client. After that, using a part raises RuntimeError."""
        with self._lock:
            self._closed = True
        if "websocket" in self.__dict__:
            self.websocket.close()
        if "http" in self.__dict__:
            self.http.close()

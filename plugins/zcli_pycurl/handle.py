"""One libcurl handle with one connection: sends a request and reads its response."""

from __future__ import annotations

import math
import os
import threading
import time
from typing import Any

import pycurl

from zcli_core.http.contract import HttpRequest, RawResponse, TransportFailure, sooner
from zcli_core.http.parts import failures
from zcli_core.http.parts.bodies import METHODS_WITH_BODY, BodySource
from zcli_core.http.parts.transport import PoolKey, may_repeat
from zcli_core.net.connecting import is_readable
from zcli_pycurl.certificates import names_hosts
from zcli_pycurl.curl_errors import CurlError, failure_of
from zcli_pycurl.driver import Driver
from zcli_pycurl.response_reader import ResponseReader
from zcli_pycurl.tls import TlsOptions
from zcli_pycurl.upload import Upload

# Headers that libcurl would add. The caller left them out on purpose, and "Expect" would delay a large body.
_NOT_TO_BE_ADDED = ("Accept", "User-Agent", "Content-Type", "Expect")

# The longest timeout of libcurl, in milliseconds.
_LONGEST = 2**31 - 1

_BUFFER = 64 * 1024


class Handle:
    """Implements :class:`zcli_core.http.parts.transport.Connection`."""

    def __init__(self, key: PoolKey, tls: TlsOptions, max_headers: int) -> None:
        """Make a handle that is not connected yet.

        Raises:
            TransportFailure: ``tls``: no trusted authorities were found.
        """
        self._key = key
        self._max_headers = max_headers
        self._response = ResponseReader("", 0, 0, 0)
        self._error: BaseException | None = None
        self._has_connected = False
        self._simple_method: str | None = None
        self._fields: list[tuple[str, str]] | None = None
        self._connect_timeout: float | None = None
        self._read_timeout: float | None = None
        self._is_multiplexed = False
        self.may_be_reused = False
        self.was_stale = False
        self._curl = pycurl.Curl()
        for option, value in self._fixed_options(tls):
            self._curl.setopt(option, value)
        self._driver = Driver(self._curl)

    def _fixed_options(self, tls: TlsOptions) -> list[tuple[int, Any]]:
        """Return the options of every request, so that libcurl reads nothing from the environment or its own files."""
        key = self._key
        options: list[tuple[int, Any]] = [
            (pycurl.URL, url_of(key)),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS),
            (pycurl.NOSIGNAL, 1),
            (pycurl.CONNECTTIMEOUT_MS, _LONGEST),
            (pycurl.BUFFERSIZE, _BUFFER),
            (pycurl.PREREQFUNCTION, self._on_request),
            (pycurl.SOCKOPTFUNCTION, self._on_connect),
            (pycurl.PROXY, ""),
            (pycurl.NOPROXY, ""),
        ]
        if key.scheme == "https":
            options += tls.for_server(shows_certificate=key.shows_certificate)
        proxy = key.proxy
        if proxy is not None:
            host = f"[{proxy.host}]" if ":" in proxy.host else proxy.host
            headers = ["Proxy-Connection:", "User-Agent:"]
            if proxy.authorization:
                headers.append(f"Proxy-Authorization: {proxy.authorization}")
            options += [
                (pycurl.PROXY, f"{proxy.scheme}://{host}:{proxy.port}"),
                (pycurl.HEADEROPT, pycurl.HEADER_SEPARATE),
                (pycurl.PROXYHEADER, headers),
            ]
            if proxy.scheme == "https":
                options += tls.for_proxy()
        return options

    def send(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        """Send a request and read its response.

        Raises:
            TransportFailure: There is no response.
            BaseException: The body's iterable or a signal handler raised it.
        """
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            raise failures.timed_out("the request was about to be sent")
        curl, body = self._curl, request.body
        upload = None if body is None or isinstance(body, bytes) else Upload(BodySource(request, body))
        self._error = None
        self._has_connected = self.was_stale = self.may_be_reused = False
        self._response = response = ResponseReader(request.method, deadline, max_bytes, self._max_headers)
        curl.setopt(pycurl.TIMEOUT_MS, _milliseconds(seconds))
        if request.connect_timeout != self._connect_timeout:
            limit = self._connect_timeout = request.connect_timeout
            curl.setopt(pycurl.CONNECTTIMEOUT_MS, _LONGEST if limit is None else _milliseconds(limit))
        self._read_timeout = request.read_timeout
        self._driver.limit = math.inf
        curl.setopt(pycurl.HEADERFUNCTION, response.lines.append)
        curl.setopt(pycurl.WRITEFUNCTION, response.blocks.append)
        self._describe(request, upload)

        def is_done() -> bool:
            if not (response.lines or response.blocks):
                return False
            response.process()
            # libcurl would continue to send, or wait for the body of a response to HEAD or for data after a 101.
            return response.is_complete and (
                response.is_upgrade
                or (body is not None and (request.method == "HEAD" or not self._is_sent(request, upload)))
            )

        try:
            error = self._driver.perform(is_done)
        finally:
            if upload is not None:
                upload.close()
        if error is not None and not response.is_complete:
            cause = self._exception_of(*error, request, response, upload)
            is_reset = isinstance(cause, TransportFailure) and cause.kind == "reset"
            self.was_stale = is_reset and not self._has_connected and not response.has_begun
            raise cause
        if body is not None:
            curl.setopt(pycurl.POSTFIELDS, b"")  # so that an idle handle does not keep the body
            self._simple_method = None
        raw = response.finish(self._key.peer)
        self._is_multiplexed = response.version == "HTTP/2"
        self.may_be_reused = error is None and response.may_be_reused and not self._driver.was_stopped
        return raw

    def is_usable(self, request: HttpRequest) -> bool:
        """Return whether the kept connection seems to be intact.

        Data on an idle connection is its end or an unexpected response. On HTTP/2 it may also be a control frame, which
        libcurl will read; if it is the end of the connection, the request can be sent again.
        """
        if self._is_multiplexed and may_repeat(request):
            return True
        socket = self._curl.getinfo(pycurl.ACTIVESOCKET)
        return socket < 0 or not is_readable(socket)

    def close(self) -> None:
        """Close the connection, without waiting for a host name that libcurl is still resolving."""
        if self._is_looking_up():
            try:
                threading.Thread(target=self._driver.close, name="zcli-curl-close", daemon=True).start()
            except RuntimeError:  # no thread can be started at the end of the program
                pass
            else:
                return
        self._driver.close()

    def abandon(self) -> None:
        """Drop the parent's connection in the child after a fork, without sending anything to the peer.

        Closing a TLS connection would send a close_notify on it.
        """
        socket = self._curl.getinfo(pycurl.ACTIVESOCKET)
        if socket >= 0:
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, socket, inheritable=False)
            os.close(nothing)
        self._driver.close()

    def _on_request(self, peer: str, own: str, peer_port: int, own_port: int) -> int:
        """Called before libcurl sends the request, also if it sends it again because the kept connection was dead."""
        try:
            if (peer, peer_port) == (own, own_port):  # see connecting.is_self_connected()
                self._error = failures.refused(self._key.dialled)
                return pycurl.PREREQFUNC_ABORT
            self._forbid_resending()
            if self._has_connected and self._key.scheme == "https":
                self._check_certificate()
            self._response.start()
            self._driver.limit = sooner(math.inf, self._read_timeout)
        except BaseException as error:  # noqa: BLE001 - send() raises it again; pycurl would print it
            self._error = error
            return pycurl.PREREQFUNC_ABORT
        return pycurl.PREREQFUNC_OK

    def _check_certificate(self) -> None:
        """Refuse a certificate that libcurl may have accepted because of its common name."""
        chain = self._curl.getinfo(pycurl.INFO_CERTINFO)
        if not chain or not names_hosts(dict(chain[0]).get("Cert", "")):
            raise failures.insecure(
                self._key.authority, "its certificate was not accepted: it has no host in subjectAltName"
            )

    def _on_connect(self, socket: int, purpose: int) -> int:
        """Called before libcurl connects a new socket."""
        try:
            self._forbid_resending()
            self._has_connected = True
        except BaseException as error:  # noqa: BLE001 - as above
            self._error = error
            return pycurl.SOCKOPT_ERROR
        return pycurl.SOCKOPT_OK

    def _forbid_resending(self) -> None:
        """Raise if libcurl is about to send the request again, because it would do so for every method."""
        if self._response.is_request_sent:
            raise TransportFailure(
                "reset",
                f"{self._key.peer} closed the kept connection during the request, which may have been carried out and "
                "was not sent again",
            )

    def _describe(self, request: HttpRequest, upload: Upload | None) -> None:
        """Set libcurl's options for a request. Options that are the same as for the last request are kept."""
        curl, method, body = self._curl, request.method, request.body
        url = request.url
        curl.setopt(pycurl.REQUEST_TARGET, url.absolute_form if self._key.is_forwarded else url.target)
        fields = request.headers.items()
        if fields != self._fields:
            self._fields = fields
            curl.setopt(pycurl.HTTPHEADER, _header_lines(fields))
        if body is None and method == self._simple_method:
            return
        self._simple_method = method
        curl.setopt(pycurl.HTTPGET, 1)  # resets the options of the last request
        curl.setopt(pycurl.CUSTOMREQUEST, method)
        if upload is not None:
            curl.setopt(pycurl.UPLOAD, 1)
            curl.setopt(pycurl.READFUNCTION, upload.read)
            curl.setopt(pycurl.INFILESIZE_LARGE, -1 if upload.length is None else upload.length)
        elif isinstance(body, bytes) or method in METHODS_WITH_BODY:
            curl.setopt(pycurl.POSTFIELDS, body or b"")
        elif method == "HEAD":
            curl.setopt(pycurl.NOBODY, 1)

    def _exception_of(
        self, code: int, text: str, request: HttpRequest, response: ResponseReader, upload: Upload | None
    ) -> BaseException:
        """Return the exception to raise after an error of libcurl."""
        if upload is not None and upload.error is not None:
            return upload.error
        if self._error is not None:
            return self._error
        if response.is_head_too_large:
            return failures.head_too_large()
        curl = self._curl
        tunnel = curl.getinfo(pycurl.HTTP_CONNECTCODE)
        error = CurlError(
            code=code,
            text=text,
            errno=curl.getinfo(pycurl.OS_ERRNO),
            doing=self._doing(request, response, upload),
            is_request_sent=response.is_request_sent,
            has_response=response.has_begun,
            has_tunnel=200 <= tunnel < 300,
            refusal=response.status_line.partition(" ")[2] if tunnel >= 300 else "",
        )
        return failure_of(error, self._key)

    def _doing(self, request: HttpRequest, response: ResponseReader, upload: Upload | None) -> str:
        """Return a phrase for the current activity."""
        if response.has_head:
            return "reading the body"
        if response.is_request_sent:
            return "waiting for the response" if self._is_sent(request, upload) else "sending the request"
        if self._is_looking_up():
            return f"looking up the address of {self._key.dialled.rpartition(':')[0]}"
        return f"connecting to {self._key.dialled}"

    def _is_sent(self, request: HttpRequest, upload: Upload | None) -> bool:
        if upload is not None and upload.length is None:
            return upload.is_complete
        size = upload.length if upload is not None else len(request.body or b"")  # type: ignore[arg-type]
        return bool(self._curl.getinfo(pycurl.SIZE_UPLOAD_T) >= size)

    def _is_looking_up(self) -> bool:
        """Return whether the last request ended while the host's name was being resolved."""
        return not self._response.is_request_sent and not self._curl.getinfo(pycurl.NAMELOOKUP_TIME)


def _milliseconds(seconds: float) -> int:
    return max(1, min(int(seconds * 1000), _LONGEST))


def url_of(key: PoolKey) -> str:
    """Return the URL of a server, without a path, in the form that libcurl reads."""
    host = f"[{key.host.replace('%', '%25')}]" if ":" in key.host else key.host
    return f"{key.scheme}://{host}:{key.port}/"


def _header_lines(fields: list[tuple[str, str]]) -> list[bytes]:
    """Return the fields in libcurl's form: "Name;" sends an empty value, and "Name:" sends no such field."""
    lines = [f"{name}: {value}" if value.strip() else f"{name};" for name, value in fields]
    names = {name.lower() for name, _ in fields}
    lines += [f"{name}:" for name in _NOT_TO_BE_ADDED if name.lower() not in names]
    return [line.encode("latin-1") for line in lines]

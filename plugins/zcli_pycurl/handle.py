"""One libcurl handle with one connection: a request goes in, a response comes out."""

from __future__ import annotations

import math
import os
import threading
import time
from typing import Any

import pycurl

from zcli_core.http.contract import HttpRequest, RawResponse, TransportFailure, sooner
from zcli_core.http.parts import failures
from zcli_core.http.parts.bodies import BodySource
from zcli_core.http.parts.heads import MAX_HEAD_BYTES
from zcli_core.http.parts.transport import PoolKey, may_repeat
from zcli_core.net.connecting import is_readable
from zcli_pycurl.certificates import names_hosts
from zcli_pycurl.driver import Driver
from zcli_pycurl.failures import Trouble, classify
from zcli_pycurl.responses import Response
from zcli_pycurl.tls import TlsOptions
from zcli_pycurl.upload import Upload

# What libcurl would add of its own; a request without them was meant to be so. "Expect" would hold a large body back.
_NOT_TO_BE_ADDED = ("Accept", "User-Agent", "Content-Type", "Expect")

# Methods whose body is said to be empty if there is none (RFC 9110, section 8.6).
_EXPECTING_BODY = frozenset({"POST", "PUT", "PATCH"})

# Milliseconds that libcurl can count.
_LONGEST = 2**31 - 1

_BUFFER = 64 * 1024


class Handle:
    """Implements :class:`zcli_core.http.parts.transport.Connection`."""

    def __init__(self, key: PoolKey, tls: TlsOptions, max_headers: int) -> None:
        """Raises TransportFailure of kind ``tls`` if there are no authorities to trust."""
        self._key = key
        self._max_headers = max_headers
        self._response = Response("", 0, 0, 0)
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
        """What holds for every request, for nothing of the environment and of libcurl's files is to count."""
        key = self._key
        options: list[tuple[int, Any]] = [
            (pycurl.URL, url_of(key)),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS),
            (pycurl.NOSIGNAL, 1),
            (pycurl.CONNECTTIMEOUT_MS, _LONGEST),
            (pycurl.BUFFERSIZE, _BUFFER),
            (pycurl.PREREQFUNCTION, self._begin),
            (pycurl.SOCKOPTFUNCTION, self._connect),
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
        """Send a request and read its response. Raises TransportFailure, or what the body's iterable raised."""
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            raise failures.timed_out("the request was about to be sent")
        curl, body = self._curl, request.body
        upload = None if body is None or isinstance(body, bytes) else Upload(BodySource(request, body))
        self._error = None
        self._has_connected = self.was_stale = self.may_be_reused = False
        self._response = response = Response(request.method, deadline, max_bytes, self._max_headers)
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
            response.go_on()
            # libcurl would go on sending, wait for the body of a response to HEAD, and for what follows 101.
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
            cause = self._cause(*error, request, response, upload)
            is_reset = isinstance(cause, TransportFailure) and cause.kind == "reset"
            self.was_stale = is_reset and not self._has_connected and not response.has_begun
            raise cause
        if body is not None:
            curl.setopt(pycurl.POSTFIELDS, b"")  # or an idle handle would hold the body
            self._simple_method = None
        raw = response.finish(self._key.peer)
        self._is_multiplexed = response.version == "HTTP/2"
        self.may_be_reused = error is None and response.may_be_reused and not self._driver.was_left
        return raw

    def is_usable(self, request: HttpRequest) -> bool:
        """Whether the kept connection is as it was left.

        Anything to read on an idle connection is its end, or a response that no request asked for. On HTTP/2 it may be
        the server's housekeeping; libcurl will read it, and where it is the end, the request can be sent again.
        """
        if self._is_multiplexed and may_repeat(request):
            return True
        socket = self._curl.getinfo(pycurl.ACTIVESOCKET)
        return socket < 0 or not is_readable(socket)

    def close(self) -> None:
        """Close the connection. Does not wait for a name that is still being looked up, as libcurl would."""
        if self._is_looking_up():
            try:
                threading.Thread(target=self._driver.close, name="zcli-curl-close", daemon=True).start()
            except RuntimeError:  # no new thread can be had, as at the end of the program
                pass
            else:
                return
        self._driver.close()

    def abandon(self) -> None:
        """In the child after a fork: let go of the parent's connection without a word to the peer.

        Closing it would say goodbye on it, if it has TLS.
        """
        socket = self._curl.getinfo(pycurl.ACTIVESOCKET)
        if socket >= 0:
            nothing = os.open(os.devnull, os.O_RDWR)
            os.dup2(nothing, socket, inheritable=False)
            os.close(nothing)
        self._driver.close()

    def _begin(self, peer: str, own: str, peer_port: int, own_port: int) -> int:
        """libcurl is about to send the request: again, and unasked, where a kept connection turned out to be dead."""
        try:
            if (peer, peer_port) == (own, own_port):  # see net.is_self_connected
                self._error = failures.refused(self._key.dialled)
                return pycurl.PREREQFUNC_ABORT
            self._forbid_repeating()
            if self._has_connected and self._key.scheme == "https":
                self._check_certificate()
            self._response.ask()
            self._driver.limit = sooner(math.inf, self._read_timeout)
        except BaseException as error:  # noqa: BLE001 - raised again by send(); pycurl would print it
            self._error = error
            return pycurl.PREREQFUNC_ABORT
        return pycurl.PREREQFUNC_OK

    def _check_certificate(self) -> None:
        """Refuse a server that libcurl may have recognised by its common name."""
        chain = self._curl.getinfo(pycurl.INFO_CERTINFO)
        if not chain or not names_hosts(dict(chain[0]).get("Cert", "")):
            raise failures.insecure(
                self._key.authority, "its certificate was not accepted: it names no host in subjectAltName"
            )

    def _connect(self, socket: int, purpose: int) -> int:
        """libcurl is about to connect a new socket."""
        try:
            self._forbid_repeating()
            self._has_connected = True
        except BaseException as error:  # noqa: BLE001 - as above
            self._error = error
            return pycurl.SOCKOPT_ERROR
        return pycurl.SOCKOPT_OK

    def _forbid_repeating(self) -> None:
        """Raise if going on would send the request again. That is decided elsewhere: libcurl asks for no method."""
        if self._response.was_asked_for:
            raise TransportFailure(
                "reset",
                f"{self._key.peer} closed the kept connection upon the request, which may have been carried out and "
                "was not sent again",
            )

    def _describe(self, request: HttpRequest, upload: Upload | None) -> None:
        """Tell libcurl what to send; an idle handle still knows what it sent last."""
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
        curl.setopt(pycurl.HTTPGET, 1)  # takes back whatever kind of request came before
        curl.setopt(pycurl.CUSTOMREQUEST, method)
        if upload is not None:
            curl.setopt(pycurl.UPLOAD, 1)
            curl.setopt(pycurl.READFUNCTION, upload.read)
            curl.setopt(pycurl.INFILESIZE_LARGE, -1 if upload.length is None else upload.length)
        elif isinstance(body, bytes) or method in _EXPECTING_BODY:
            curl.setopt(pycurl.POSTFIELDS, body or b"")
        elif method == "HEAD":
            curl.setopt(pycurl.NOBODY, 1)

    def _cause(
        self, code: int, text: str, request: HttpRequest, response: Response, upload: Upload | None
    ) -> BaseException:
        """Why there is no response, after libcurl's error."""
        if upload is not None and upload.error is not None:
            return upload.error
        if self._error is not None:
            return self._error
        if response.is_head_too_large:
            return failures.head_too_large(f"{MAX_HEAD_BYTES // 1024} KiB")
        curl = self._curl
        tunnel = curl.getinfo(pycurl.HTTP_CONNECTCODE)
        trouble = Trouble(
            code=code,
            text=text,
            errno=curl.getinfo(pycurl.OS_ERRNO),
            doing=self._doing(request, response, upload),
            was_asked=response.was_asked_for,
            has_begun=response.has_begun,
            has_tunnel=200 <= tunnel < 300,
            refusal=response.status_line.partition(" ")[2] if tunnel >= 300 else "",
        )
        return classify(trouble, self._key)

    def _doing(self, request: HttpRequest, response: Response, upload: Upload | None) -> str:
        """How far the request had come."""
        if response.has_head:
            return "reading the body"
        if response.was_asked_for:
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
        """Whether the last exchange came no further than the look-up of the host's name."""
        return not self._response.was_asked_for and not self._curl.getinfo(pycurl.NAMELOOKUP_TIME)


def _milliseconds(seconds: float) -> int:
    return max(1, min(int(seconds * 1000), _LONGEST))


def url_of(key: PoolKey) -> str:
    """Where connections lead as a URL without a path, as libcurl reads it."""
    host = f"[{key.host.replace('%', '%25')}]" if ":" in key.host else key.host
    return f"{key.scheme}://{host}:{key.port}/"


def _header_lines(fields: list[tuple[str, str]]) -> list[bytes]:
    """The fields as libcurl takes them: "Name;" is one without value, and "Name:" none at all."""
    lines = [f"{name}: {value}" if value.strip() else f"{name};" for name, value in fields]
    names = {name.lower() for name, _ in fields}
    lines += [f"{name}:" for name in _NOT_TO_BE_ADDED if name.lower() not in names]
    return [line.encode("latin-1") for line in lines]

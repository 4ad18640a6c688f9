"""One libcurl handle with one connection: a request goes in, an answer comes out."""

from __future__ import annotations

import math
import os
import threading
import time
from typing import Any

import pycurl

from zcli_core.contracts.http import HttpRequest, RawResponse, TransportFailure, sooner
from zcli_pycurl.answers import Answer
from zcli_pycurl.driver import Driver, is_readable
from zcli_pycurl.failures import Trouble, classify
from zcli_pycurl.place import Place
from zcli_pycurl.tls import TlsOptions
from zcli_pycurl.upload import Upload

# What libcurl would add of its own; a request without them was meant to be so. "Expect" would hold a large body back.
_NOT_TO_BE_ADDED = ("Accept", "User-Agent", "Content-Type", "Expect")

# A request that may be sent again on its own (RFC 9110, section 9.2.2) when the server closed an idle connection.
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})

# Methods whose body is said to be empty if there is none (RFC 9110, section 8.6).
_EXPECTING_BODY = frozenset({"POST", "PUT", "PATCH"})

# Milliseconds that libcurl can count.
_LONGEST = 2**31 - 1

_BUFFER = 64 * 1024


class Handle:
    """A handle for one place. Not for two threads at once; closed after anything has gone wrong on it."""

    def __init__(self, place: Place, tls: TlsOptions) -> None:
        """Raises TransportFailure of kind ``tls`` if there are no authorities to trust."""
        self._place = place
        self._answer = Answer("", 0, 0)
        self._failure: TransportFailure | None = None
        self._has_connected = False
        self._simple_method: str | None = None
        self._fields: list[tuple[str, str]] | None = None
        self._read_timeout: float | None = None
        self._is_multiplexed = False
        self.may_be_reused = True
        #: Whether the last exchange failed because the server had closed the kept connection, or closed it upon the
        #: request, without a word of an answer.
        self.was_stale = False
        self._curl = pycurl.Curl()
        for option, value in self._fixed_options(tls):
            self._curl.setopt(option, value)
        self._driver = Driver(self._curl)

    def _fixed_options(self, tls: TlsOptions) -> list[tuple[int, Any]]:
        """What holds for every request, for nothing of the environment and of libcurl's files is to count."""
        place = self._place
        options: list[tuple[int, Any]] = [
            (pycurl.URL, place.url),
            (pycurl.PROTOCOLS, pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS),
            (pycurl.HTTP_VERSION, pycurl.CURL_HTTP_VERSION_2TLS),
            (pycurl.NOSIGNAL, 1),
            (pycurl.BUFFERSIZE, _BUFFER),
            (pycurl.PREREQFUNCTION, self._begin),
            (pycurl.SOCKOPTFUNCTION, self._connect),
            (pycurl.PROXY, ""),
            (pycurl.NOPROXY, ""),
        ]
        if place.scheme == "https":
            options += tls.for_server()
        proxy = place.proxy
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

    def exchange(self, request: HttpRequest, deadline: float, max_bytes: int) -> RawResponse:
        """Send a request and read its answer. Raises TransportFailure, or what the body's iterable raised."""
        seconds = deadline - time.monotonic()
        if seconds <= 0:
            raise TransportFailure("timeout", "the deadline passed before the request was sent")
        curl, body = self._curl, request.body
        upload = None if body is None or isinstance(body, bytes) else Upload(body)
        self._failure = None
        self._has_connected = False
        self._answer = answer = Answer(
            request.method, deadline, max_bytes, ends_with_head=request.method == "HEAD" and body is not None
        )
        curl.setopt(pycurl.TIMEOUT_MS, _milliseconds(seconds))
        limit = request.connect_timeout
        curl.setopt(pycurl.CONNECTTIMEOUT_MS, _LONGEST if limit is None else _milliseconds(limit))
        self._read_timeout = request.read_timeout
        self._driver.limit = math.inf
        curl.setopt(pycurl.HEADERFUNCTION, answer.take_line)
        curl.setopt(pycurl.WRITEFUNCTION, answer.take_block)
        self._describe(request, upload)
        error = self._driver.perform()
        if upload is not None:
            upload.close()
        if error is not None:
            self.may_be_reused = False
            if not answer.is_complete:
                cause = self._cause(*error, request, answer, upload)
                is_reset = isinstance(cause, TransportFailure) and cause.kind == "reset"
                self.was_stale = is_reset and not self._has_connected and not answer.has_begun
                raise cause
        if body is not None:
            curl.setopt(pycurl.POSTFIELDS, b"")  # or an idle handle would hold the body
            self._simple_method = None
        raw = answer.finish(self._place.peer)
        self._is_multiplexed = answer.version == "HTTP/2"
        self.may_be_reused = self.may_be_reused and answer.may_be_reused
        return raw

    def is_fresh(self, request: HttpRequest) -> bool:
        """Whether the kept connection is as it was left, as far as can be told without sending the request.

        Anything to read on an idle connection is its end, or an answer that nobody asked for. On HTTP/2 it may be the
        server's housekeeping; libcurl will read it, and where it is the end, the request can be sent again.
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
        if (peer, peer_port) == (own, own_port):
            # Both ends of a connection to a free local port can turn out to be the same socket.
            self._failure = TransportFailure(
                "refused", f"{self._place.dialled} refused the connection: nothing listens there"
            )
            return pycurl.PREREQFUNC_ABORT
        if self._would_repeat():
            return pycurl.PREREQFUNC_ABORT
        self._answer.ask()
        self._driver.limit = sooner(math.inf, self._read_timeout)
        return pycurl.PREREQFUNC_OK

    def _connect(self, socket: int, purpose: int) -> int:
        """libcurl is about to connect a new socket."""
        if self._would_repeat():
            return pycurl.SOCKOPT_ERROR
        self._has_connected = True
        return pycurl.SOCKOPT_OK

    def _would_repeat(self) -> bool:
        """Whether going on would send the request again. That is decided elsewhere: libcurl asks for no method."""
        if not self._answer.was_asked_for:
            return False
        self._failure = TransportFailure(
            "reset",
            f"{self._place.peer} closed the kept connection upon the request, which may have been carried out and "
            "was not sent again",
        )
        return True

    def _describe(self, request: HttpRequest, upload: Upload | None) -> None:
        """Tell libcurl what to send; an idle handle still knows what it sent last."""
        curl, method, body = self._curl, request.method, request.body
        url = request.url
        curl.setopt(pycurl.REQUEST_TARGET, url.absolute_form if self._place.is_forwarded else url.target)
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
            length = request.headers.get("content-length", "")
            curl.setopt(pycurl.UPLOAD, 1)
            curl.setopt(pycurl.READFUNCTION, upload.read)
            curl.setopt(pycurl.INFILESIZE_LARGE, int(length) if length.isdigit() else -1)
        elif isinstance(body, bytes) or method in _EXPECTING_BODY:
            curl.setopt(pycurl.POSTFIELDS, body or b"")
        elif method == "HEAD":
            curl.setopt(pycurl.NOBODY, 1)

    def _cause(
        self, code: int, text: str, request: HttpRequest, answer: Answer, upload: Upload | None
    ) -> BaseException:
        """Why there is no answer, after libcurl's error."""
        if upload is not None and upload.error is not None:
            return upload.error
        own = self._failure or answer.failure
        if own is not None:
            return own
        curl = self._curl
        tunnel = curl.getinfo(pycurl.HTTP_CONNECTCODE)
        trouble = Trouble(
            code=code,
            text=text,
            errno=curl.getinfo(pycurl.OS_ERRNO),
            doing=self._doing(request, answer, upload),
            was_asked=answer.was_asked_for,
            has_begun=answer.has_begun,
            has_tunnel=tunnel == 200,
            refusal=answer.status_line.partition(" ")[2] if tunnel not in (0, 200) else "",
        )
        return classify(trouble, self._place)

    def _doing(self, request: HttpRequest, answer: Answer, upload: Upload | None) -> str:
        """How far the request had come."""
        if answer.has_head:
            return "reading the body"
        if answer.was_asked_for:
            size = len(request.body) if isinstance(request.body, bytes) else 0
            is_sent = upload.is_complete if upload else self._curl.getinfo(pycurl.SIZE_UPLOAD_T) >= size
            return "waiting for the answer" if is_sent else "sending the request"
        if self._is_looking_up():
            return f"looking up the address of {self._place.dialled.rpartition(':')[0]}"
        return f"connecting to {self._place.dialled}"

    def _is_looking_up(self) -> bool:
        """Whether the last exchange came no further than the look-up of the host's name."""
        return not self._answer.was_asked_for and not self._curl.getinfo(pycurl.NAMELOOKUP_TIME)


def _milliseconds(seconds: float) -> int:
    return max(1, min(int(seconds * 1000), _LONGEST))


def may_repeat(request: HttpRequest) -> bool:
    """Whether a request that may have reached the server can be sent again."""
    return request.method in _IDEMPOTENT and (request.body is None or isinstance(request.body, bytes))


def _header_lines(fields: list[tuple[str, str]]) -> list[bytes]:
    """The fields as libcurl takes them: "Name;" is one without value, and "Name:" none at all."""
    lines = [f"{name}: {value}" if value.strip() else f"{name};" for name, value in fields]
    names = {name.lower() for name, _ in fields}
    lines += [f"{name}:" for name in _NOT_TO_BE_ADDED if name.lower() not in names]
    return [line.encode("latin-1") for line in lines]

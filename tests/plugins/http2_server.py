"""A server for HTTP/2 only, over the package h2, which can misbehave."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import Any

import h2.config
import h2.connection
import h2.events
import trustme

from zcli_core.testing.http.peer import ScriptedServer

Headers = list[tuple[str, str]]


class Request:
    """What a client sent on one stream: ``headers`` with the pseudo-headers, and ``body``."""

    def __init__(self, stream: int, headers: Headers) -> None:
        self.stream = stream
        self.headers = headers
        self.body = b""

    def __getitem__(self, name: str) -> str:
        return dict(self.headers)[name]


class Http2Server(ScriptedServer):
    """Calls ``respond(server, request)`` for every request.

    Attributes:
        seen: All requests, oldest first.
        connection: The h2 connection of the last request.
    """

    def __init__(self, respond: Callable[[Http2Server, Request], Any], authority: trustme.CA) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        context.set_alpn_protocols(["h2"])
        self.seen: list[Request] = []
        self._has_left = False
        self._respond = respond
        super().__init__(lambda _, connection: self._serve_http2(connection), context)

    def _serve_http2(self, plain: socket.socket) -> None:
        self._has_left = False
        self.connection = connection = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=False, header_encoding="latin-1")
        )
        connection.initiate_connection()
        plain.sendall(connection.data_to_send())
        requests: dict[int, Request] = {}
        while data := plain.recv(65536):
            if self._has_left:
                continue
            for event in connection.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    requests[event.stream_id] = Request(event.stream_id, event.headers)
                elif isinstance(event, h2.events.DataReceived):
                    requests[event.stream_id].body += event.data
                    connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamEnded):
                    self.seen.append(requests[event.stream_id])
                    self._respond(self, requests[event.stream_id])
                elif isinstance(event, h2.events.ConnectionTerminated):
                    return
            plain.sendall(connection.data_to_send())

    def send(self, request: Request, body: bytes = b"ok", status: int = 200, *fields: tuple[str, str]) -> None:
        """Send a response; its body must fit into the client's window."""
        self.connection.send_headers(request.stream, [(":status", str(status)), *fields], end_stream=not body)
        size = self.connection.max_outbound_frame_size
        for start in range(0, len(body), size):
            self.connection.send_data(request.stream, body[start : start + size], end_stream=start + size >= len(body))

    def leave(self) -> None:
        """Send GOAWAY: the server accepts no more requests on this connection. Leave it open."""
        self.connection.close_connection()
        self._has_left = True

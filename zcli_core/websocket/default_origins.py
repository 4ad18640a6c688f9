"""Decide which pages may connect if ``websocket.allowed_origins`` is not set.

Other machines cannot reach a server on loopback, but the browser on its own machine can, and it runs pages of all
sites. So only pages of this host and of the browser's own machine are admitted. A site can make its own name resolve
to this host (DNS rebinding), and then ``Origin`` and ``Host`` both contain that name. So a name in both counts as ours
only with further proof.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, NamedTuple

from zcli_core.net.origins import FILE, NULL, parse_origin
from zcli_core.websocket.addresses import is_loopback_host
from zcli_core.websocket.parts.addresses import parse_ip

if TYPE_CHECKING:
    from zcli_core.net.origins import Origin
    from zcli_core.websocket.contract import Request

_ALL_ADDRESSES = ("0.0.0.0", "::")  # noqa: S104 - compared, not bound


class DefaultOrigins(NamedTuple):
    """The origins that are admitted without ``allowed_origins``."""

    #: The host that the server listens on, as it was configured.
    host: str | None
    #: Whether the server listens on loopback addresses only.
    on_loopback: bool
    require_auth: bool

    def admits(self, origin: str, request: Request, forwarded: bool) -> bool:
        """Whether the value of one ``Origin`` header is admitted.

        Admitted are, with any port:

        - pages of this host: of the address that the client connected to, of the host that the server listens on, of
          this machine's name, and of the address or name in the ``Host`` header. A name in ``Host`` counts only over
          TLS, because the client has verified the certificate, or if a trusted proxy forwarded the request;
        - loopback pages (``localhost``, ``127.0.0.1``, ``[::1]``). With ``require_auth``, only those of clients on this
          machine are admitted, because the browser on another machine may hold a cookie or a client certificate that
          local pages there must not use;
        - pages without an origin (``null``, and ``file://`` in Chromium) if the server listens on loopback, the client
          is on this machine and ``require_auth`` is off.

        Args:
            origin: The header's value.
            request: The request, with the client's address as a trusted proxy states it.
            forwarded: Whether a trusted proxy forwarded the request.
        """
        client = request.remote_address
        client_is_local = client is not None and is_loopback_host(client[0])
        if origin in (NULL, FILE):
            return self.on_loopback and client_is_local and not self.require_auth
        page = parse_origin(origin)
        if page is None or page.scheme not in ("http", "https"):
            return False
        if is_loopback_host(page.host.strip("[]")):
            return client_is_local or not self.require_auth
        return page.host in self._own_hosts(request) or _is_page_of_host_header(page, request, forwarded)

    def _own_hosts(self, request: Request) -> set[str]:
        own = set()
        if self.host and self.host not in _ALL_ADDRESSES:
            own.add(_in_url(self.host.lower()))
        reached = request.local_address
        # A loopback address has no further names, because every site can make a name resolve to it.
        if reached is not None and not is_loopback_host(reached[0]):
            name = socket.gethostname().lower()
            own |= {_in_url(reached[0]), name, f"{name}.local"}
        return own


def _is_page_of_host_header(page: Origin, request: Request, forwarded: bool) -> bool:
    host = parse_origin(f"http://{request.headers.get('host', '')}")
    if host is None or host.host != page.host:
        return False
    if parse_ip(page.host.strip("[]")) is not None:
        return True  # DNS rebinding needs a name; the page comes from the same address as this server
    if request.tls:
        return page.scheme == "https"
    return forwarded


def _in_url(host: str) -> str:
    """Write a host as an origin does: addresses in their canonical form, IPv6 in brackets."""
    parsed = parse_ip(host)
    if parsed is None:
        return host.rstrip(".")
    return f"[{parsed}]" if parsed.version == 6 else str(parsed)

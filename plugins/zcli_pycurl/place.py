"""Where connections lead."""

from __future__ import annotations

from typing import NamedTuple

from zcli_core.contracts.http_proxies import Proxy


class Place(NamedTuple):
    """Where a connection leads: those of one place are interchangeable."""

    scheme: str
    host: str
    port: int
    proxy: Proxy | None

    @property
    def url(self) -> str:
        """Its URL without a path, as libcurl reads it."""
        host = f"[{self.host.replace('%', '%25')}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}/"

    @property
    def is_forwarded(self) -> bool:
        """Whether a proxy is told whole URLs, and not only where to tunnel to."""
        return self.proxy is not None and self.scheme == "http"

    @property
    def peer(self) -> str:
        """Who answers, for messages."""
        return f"the proxy {self.dialled}" if self.is_forwarded else f"{self.host}:{self.port}"

    @property
    def dialled(self) -> str:
        """Who is connected to, for messages: host and port."""
        return f"{self.proxy.host}:{self.proxy.port}" if self.proxy is not None else f"{self.host}:{self.port}"

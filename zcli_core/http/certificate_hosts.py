"""The hosts that the client certificate is shown to: the setting ``http.client_cert_hosts``."""

from __future__ import annotations

from collections.abc import Iterable

from zcli_core.http.contract import Url
from zcli_core.net.hosts import split_host


class CertificateHosts:
    """A container of URLs: those whose host is listed, on the listed port or on every port if none is listed."""

    def __init__(self, hosts: Iterable[str]) -> None:
        """Raises ValueError if one is not a host."""
        self._listed = frozenset(map(split_host, hosts))

    def __contains__(self, url: Url) -> bool:
        return not self._listed.isdisjoint(((url.host, None), (url.host, url.port)))

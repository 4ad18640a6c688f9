"""Every HTTP transport of ours keeps the contract."""

from __future__ import annotations

from zcli_urllib3 import zcli_http_transports

from zcli_core.testing.http import HttpTransportContract


class TestUrllib3(HttpTransportContract):
    transport = next(iter(zcli_http_transports()))

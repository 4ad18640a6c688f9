"""Every HTTP transport of ours keeps the contract."""

from __future__ import annotations

import zcli_pycurl
import zcli_urllib3

from zcli_core.testing.http import HttpTransportContract


class TestUrllib3(HttpTransportContract):
    transport = next(iter(zcli_urllib3.zcli_http_transports()))


class TestCurl(HttpTransportContract):
    transport = next(iter(zcli_pycurl.zcli_http_transports()))

"""zCLI's contract suite for HTTP transports, faults included."""

from zcli_core.testing import HttpTransportContract

from zcli_skeleton import zcli_http_transports


class TestSkeleton(HttpTransportContract):
    """Tests the provider that the hook returns."""

    transport = zcli_http_transports()[0]

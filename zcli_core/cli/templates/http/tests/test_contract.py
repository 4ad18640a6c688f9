"""What zCLI asks of every HTTP transport, under fault too, held against this one."""

from zcli_core.testing import HttpTransportContract

from zcli_skeleton import zcli_http_transports


class TestSkeleton(HttpTransportContract):
    """The provider is the one that the hook offers."""

    transport = zcli_http_transports()[0]

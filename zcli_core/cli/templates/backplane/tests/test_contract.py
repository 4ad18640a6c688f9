"""zCLI's contract suite for backplanes, faults included."""

from hub_process import Hub
from zcli_core.testing import BackplaneContract

from zcli_skeleton import zcli_backplanes


class TestSkeleton(BackplaneContract):
    """Tests the provider that the hook returns."""

    backplane = zcli_backplanes()[0]
    engine = Hub

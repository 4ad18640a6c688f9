"""zCLI's contract suite for backplanes, faults included."""

from collections.abc import Mapping, Sequence
from typing import Any

from zcli_core.testing import BackplaneContract, EngineProcess
from zcli_skeleton.hub import SLOW_LIMIT

from zcli_skeleton import zcli_backplanes


class Hub(EngineProcess):
    """The server that the tests kill and freeze."""

    program = "zcli-skeleton-hub"
    slow_limit = SLOW_LIMIT

    def command(self) -> Sequence[str]:
        """Return its command line."""
        return [self.executable, "--port", str(self.port)]

    def settings(self, port: int) -> Mapping[str, Any]:
        """Return the settings that select it."""
        return {"backplane": {"skeleton": {"port": port}}}


class TestSkeleton(BackplaneContract):
    """Tests the provider that the hook returns."""

    backplane = zcli_backplanes()[0]
    engine = Hub

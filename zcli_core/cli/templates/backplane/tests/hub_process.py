"""The server that the contract suite starts, kills and freezes."""

from collections.abc import Mapping, Sequence
from typing import Any

from zcli_core.testing import EngineProcess
from zcli_skeleton.hub import SLOW_LIMIT


class Hub(EngineProcess):
    """A hub of Skeleton."""

    program = "zcli-skeleton-hub"
    slow_limit = SLOW_LIMIT

    def command(self) -> Sequence[str]:
        """Return its command line."""
        return [self.executable, "--port", str(self.port)]

    def settings(self, port: int) -> Mapping[str, Any]:
        """Return the settings that select it."""
        return {"backplane": {"skeleton": {"port": port}}}

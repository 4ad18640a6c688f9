"""The suite, put together from its parts."""

from zcli_core.testing.backplane.faults import Faults
from zcli_core.testing.backplane.messages import Messages
from zcli_core.testing.backplane.presence import Presence


class BackplaneContract(Messages, Presence, Faults):
    """The tests that every backplane must pass.

    Attributes:
        backplane: the provider that your plugin's hook returns, or a function that takes a
            :class:`~zcli_core.plugins.contract.Context` and returns the backplane.
        engine: the class, derived from :class:`~zcli_core.testing.EngineProcess`, that starts a server of the engine.
            None if the backplane has no server; then the tests of faults are skipped.
    """

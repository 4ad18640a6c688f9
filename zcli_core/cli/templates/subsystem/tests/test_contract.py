"""zCLI's contract suite for subsystems."""

from zcli_core.testing import SubsystemContract

from zcli_skeleton import zcli_subsystems


class TestSkeleton(SubsystemContract):
    """Tests the provider that the hook returns."""

    subsystem = zcli_subsystems()[0]

"""What zCLI asks of every configuration layer, under fault too, held against this one."""

from zcli_core.testing import ConfigLayerContract

from zcli_skeleton.layer import SkeletonLayer


class TestSkeleton(ConfigLayerContract):
    """The layer is made anew for each test."""

    layer = SkeletonLayer

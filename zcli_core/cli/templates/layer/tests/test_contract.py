"""What zCLI asks of every configuration layer, under fault too, held against this one."""

import json

from zcli_core.testing import ConfigLayerContract
from zcli_core.testing.layers import LayerSource

from zcli_skeleton.layer import FILE_NAME, SkeletonLayer


class TestSkeleton(ConfigLayerContract):
    """The layer is made anew for each test; ``fill`` writes what it is to read."""

    layer = SkeletonLayer

    def fill(self, source: LayerSource) -> None:
        """Have the file say these values and no others."""
        (source.folder / FILE_NAME).write_text(json.dumps(dict(source.values)))

"""zCLI's contract suite for configuration layers, faults included."""

import json

from zcli_core.testing import ConfigLayerContract
from zcli_core.testing.layers import LayerSource

from zcli_skeleton.layer import FILE_NAME, SkeletonLayer


class TestSkeleton(ConfigLayerContract):
    """Each test gets a new layer; ``fill`` writes the file that it reads."""

    layer = SkeletonLayer

    def fill(self, source: LayerSource) -> None:
        """Write these values to the file."""
        (source.folder / FILE_NAME).write_text(json.dumps(dict(source.values)))

"""The configuration: declared settings, and layers that record where each value was set."""

from zcli_core.config.config import Config
from zcli_core.config.resolution import Explanation

__all__ = ["Config", "Explanation"]

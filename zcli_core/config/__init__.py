"""Configuration: declared settings, layers with provenance, explanation."""

from zcli_core.config.config import Config
from zcli_core.config.resolution import Explanation

__all__ = ["Config", "Explanation"]

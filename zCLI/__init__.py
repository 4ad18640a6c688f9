"""zCLI: one configured, logged, connected object for a script.

>>> from zCLI import zCLI
>>> z = zCLI({"title": "my-script"})
"""

from zcli_core.app import zCLI

__all__ = ["zCLI"]

"""zCLI: one configured, logged, connected object for a script.

>>> from zCLI import zCLI
>>> z = zCLI({"title": "my-script"})
"""

from zcli_core.app import zCLI
from zcli_core.printable import print_line

__all__ = ["print_line", "zCLI"]

"""The core of zCLI: contracts, the plugin host, configuration, the log and the facade ``z.comm``.

A plugin needs little of it: ``hookimpl`` to mark its hooks, and the modules of ``zcli_core.contracts``.
"""

from zcli_core.hookspecs import hookimpl

__version__ = "0.1.0"
__all__ = ["__version__", "hookimpl"]

"""The core of zCLI: the plugin host, configuration, the log, and the features behind ``z.comm``.

A plugin needs little of it: ``hookimpl`` to mark its hooks, and the modules ``contract`` and ``parts`` of its kind.
"""

from zcli_core.plugins.hookspecs import hookimpl

__version__ = "0.2.0"
__all__ = ["__version__", "hookimpl"]

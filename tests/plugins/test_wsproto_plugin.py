"""The plugin zcli_wsproto in the plugin host."""

from __future__ import annotations

import logging
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pluggy
import zcli_wsproto
from zcli_wsproto.transport import WsprotoTransport

from zcli_core import hookimpl
from zcli_core.plugins import hookspecs
from zcli_core.plugins.contract import Provider


def test_wsproto_provider_is_the_default() -> None:
    """There is one provider, with the name of the setting's default."""

    class Other:
        @hookimpl
        def zcli_websocket_transports(self) -> list[Provider[Any]]:
            return [Provider("other", "of a test", lambda context: context)]

    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.register(Other())
    manager.register(zcli_wsproto)
    found = {provider.name: provider for given in manager.hook.zcli_websocket_transports() for provider in given}
    assert set(found) == {"wsproto", "other"}
    context = SimpleNamespace(log=logging.getLogger("zcli.test"))
    assert isinstance(found["wsproto"].factory(context), WsprotoTransport)


def test_wsproto_entry_module_imports_nothing_heavy() -> None:
    """The transport is imported when it is selected."""
    heavy = ["asyncio", "h11", "wsproto", "ssl", "websockets", "zcli_wsproto.transport"]
    code = f"import sys, zcli_wsproto; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"

"""A running WebSocket server as a whole, for those who look at it from outside: operators, exporters of metrics.

With workers, that is the supervisor with all its workers; otherwise it is the process that listens.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from zcli_core.errors import ConfigError, ListenError
from zcli_core.log import application_title
from zcli_core.plugins.contract import Context
from zcli_core.system.trusted import script_file
from zcli_core.websocket.control import open_to_commands

if TYPE_CHECKING:
    from zcli_core.config import Config
    from zcli_core.plugins.host import PluginHost
    from zcli_core.types import ServerMetrics, ServerStatus

#: Why a worker is replaced: it crashed, its script ended by itself, its event loop was blocked, or it was reloaded.
RESTART_REASONS = ("crash", "exit", "hang", "reload")


class RunningServer(Protocol):
    """What a running server tells about itself. Every method may be called from any thread."""

    def metrics(self) -> ServerMetrics:
        """Return what the server counts, in all its workers, at this moment. Takes at most a second."""
        ...

    def status(self) -> ServerStatus:
        """Return the state of the server and of each worker. Takes at most a second."""
        ...

    def reload(self) -> None:
        """Replace every worker by a new one, which runs the code and the settings that are on the disk now.

        Returns at once; the log tells how it went.

        Raises:
            RuntimeError: The server has no workers, so there is nothing that could replace it.
        """
        ...


@contextlib.contextmanager
def shown_to_operators(server: RunningServer, config: Config, host: PluginHost, log: logging.Logger) -> Iterator[None]:
    """Call the hook ``zcli_websocket_serving``, and at the end of the block ``zcli_websocket_ended`` in reverse order.

    During the block, ``zcli ws status`` shows the server.

    An error of a plugin is logged, unless it says that the server must not start. Then the plugins that were called
    before it get their ``zcli_websocket_ended``.

    Raises:
        ConfigError, ListenError: A plugin cannot do what its settings ask for, so the server must not start.
    """
    context = Context(config, log)
    begin = host.calls("zcli_websocket_serving", log, fatal=(ConfigError, ListenError))
    end = host.calls("zcli_websocket_ended", log)
    with contextlib.ExitStack() as begun:
        for plugin in dict.fromkeys((*begin, *end)):
            if plugin in begin:
                begin[plugin](server, context)
            if plugin in end:
                begun.callback(end[plugin], server, context)
        begun.enter_context(open_to_commands(server, application_title(config.title, script_file()), log))
        yield

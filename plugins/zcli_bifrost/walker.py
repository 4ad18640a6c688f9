"""``z.walker``: runs the application in the way that ``zMode`` says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zcli_core.printable import print_line

if TYPE_CHECKING:
    from zcli_core.subsystems.contract import Application


class BifrostWalker:
    """Serves browsers in ``zMode`` ``zBifrost``. Implements :class:`zcli_core.subsystems.bifrost.Walker`."""

    def __init__(self, app: Application) -> None:
        self._app = app

    def run(self) -> None:
        """Serve browsers until Ctrl+C if ``zMode`` is ``zBifrost``; in ``Terminal``, print that nothing is to be run.

        Raises:
            ConfigError: The settings cannot be used.
            ListenError: The server cannot listen on the port.
            RuntimeError: The server already runs, or the call was made inside an event loop.
        """
        if self._app.config.zMode == "Terminal":
            mode = self._app.config.explain("zMode")
            where = "the default" if mode.layer == "defaults" else mode.origin
            print_line(f"[zWalker] zMode is Terminal ({where}), so nothing runs; set it to zBifrost to serve browsers")
            return
        self._app.bifrost.start()

    def close(self) -> None:
        """Do nothing: what runs belongs to ``z.bifrost``."""

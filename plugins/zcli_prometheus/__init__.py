"""A page with metrics for Prometheus, on a port of its own. It needs the extra ``prometheus``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from zcli_core import hookimpl
from zcli_core.errors import ConfigError

if TYPE_CHECKING:
    from zcli_core.config.settings import Section
    from zcli_core.plugins.contract import Context
    from zcli_core.websocket.running_server import RunningServer
    from zcli_prometheus.page import MetricsPage

ZCLI_CONTRACT = 1

#: The page of each running server that has one.
_pages: dict[RunningServer, MetricsPage] = {}


@hookimpl
def zcli_settings() -> Iterable[type[Section]]:
    """Declare the section ``prometheus``."""
    from zcli_prometheus.settings import Prometheus

    return [Prometheus]


@hookimpl
def zcli_websocket_serving(server: RunningServer, context: Context) -> None:
    """Serve the page of a server, if ``prometheus.port`` is set.

    Raises:
        ConfigError: prometheus_client is not installed.
        ListenError: The port cannot be used.
    """
    from zcli_prometheus.settings import Prometheus

    settings = context.config.section(Prometheus)
    if settings.port is None:
        return
    from importlib.util import find_spec

    if find_spec("prometheus_client") is None:
        raise ConfigError(
            f"prometheus.port ({context.config.explain('prometheus.port').origin}) needs the module prometheus_client, "
            f"which is not installed: pip install 'prometheus_client>=0.22'"
        )
    from zcli_prometheus.page import open_page

    _pages[server] = open_page(server, settings, context)


@hookimpl
def zcli_websocket_ended(server: RunningServer) -> None:
    """End the page of a server."""
    page = _pages.pop(server, None)
    if page is not None:
        page.close()

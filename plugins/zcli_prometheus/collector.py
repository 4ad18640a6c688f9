"""What the page shows: the metrics of the server, and those of the script itself."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import REGISTRY, CollectorRegistry, ProcessCollector
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from zcli_core import __version__
from zcli_core.errors import ConfigError
from zcli_prometheus.families import server_families

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from zcli_core.config import Config
    from zcli_core.websocket.running_server import RunningServer

#: The variable with which several processes share the metrics of a script; see prometheus_client's "Multiprocess Mode".
_SHARED_FOLDER = "PROMETHEUS_MULTIPROC_DIR"


class PageCollector(Collector):
    """Collects the families of one page. Any thread may use it."""

    def __init__(self, server: RunningServer, config: Config) -> None:
        """Make a collector.

        Raises:
            ConfigError: ``PROMETHEUS_MULTIPROC_DIR`` is not a folder.
        """
        self._server = server
        websocket = config.websocket
        self._build = {
            "version": __version__,
            "transport": websocket.transport,
            "loop": websocket.loop,
            "backplane": websocket.backplane,
        }
        self._script = _script_collectors()

    def collect(self) -> Iterator[Metric]:
        """Return the families: first those of the server, then those of the script that have other names."""
        names = set()
        for family in server_families(self._server.metrics(), self._build):
            names.add(family.name)
            yield family
        for collector in self._script:
            yield from (family for family in collector.collect() if family.name not in names)


def _script_collectors() -> Iterable[Collector]:
    """Return what collects the metrics of the script, which it has registered with prometheus_client itself."""
    folder = os.environ.get(_SHARED_FOLDER)
    if folder is None:
        return (REGISTRY,)
    if not os.path.isdir(folder):
        raise ConfigError(f"{_SHARED_FOLDER} must be a folder, got {folder!r}; create it before the server starts")
    nowhere = CollectorRegistry()
    return (MultiProcessCollector(nowhere, folder), ProcessCollector(registry=None))  # type: ignore[no-untyped-call]

"""The section ``prometheus``: where the page of metrics is served."""

from __future__ import annotations

from zcli_core.config.settings import Section, setting


class Prometheus(Section, name="prometheus"):
    """Metrics of the WebSocket server for Prometheus."""

    port: int | None = setting(
        None, "port of the page with metrics for Prometheus; there is no page if it is unset, and 0 picks a free port, "
        "which the log shows", minimum=0, maximum=65535,
    )  # fmt: skip
    host: str = setting(
        "127.0.0.1", "address that the page with metrics for Prometheus listens on; every program that reaches it can "
        "read the metrics",
    )  # fmt: skip

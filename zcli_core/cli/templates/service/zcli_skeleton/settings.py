"""The settings of Skeleton."""

from __future__ import annotations

from zcli_core.config.settings import setting
from zcli_core.services.parts.settings import ServiceSettings

DEFAULT_PORT = 7411


class Skeleton(ServiceSettings, name="services.skeleton"):
    """Skeleton. ``host``, ``data_dir`` and ``launcher`` are settings of every service."""

    port: int = setting(DEFAULT_PORT, "TCP port", minimum=1, maximum=65535)

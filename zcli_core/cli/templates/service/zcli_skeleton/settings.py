"""The settings of Skeleton."""

from __future__ import annotations

from zcli_core.config.settings import setting
from zcli_core.services.parts.settings import ServiceSettings

DEFAULT_PORT = 7411


class Skeleton(ServiceSettings, name="services.skeleton"):
    """Skeleton. The settings ``host``, ``data_dir`` and ``launcher`` of every service are inherited."""

    port: int = setting(DEFAULT_PORT, "TCP port", minimum=1, maximum=65535)

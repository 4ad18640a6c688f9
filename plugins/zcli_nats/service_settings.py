"""The settings of NATS as a service: single settings, or NATS_URL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from zcli_core.config.settings import Composite, setting
from zcli_core.services.parts.settings import ServiceSettings


def parse_url(text: str) -> Mapping[str, Any]:
    """Return the settings in a URL: ``nats://host[:port]``, or ``tls://`` for TLS, as the clients of NATS accept it.

    The first of several URLs is used. A user, a password or a token in it is ignored.

    Raises:
        ValueError: it is not a valid URL.
    """
    from urllib.parse import urlsplit

    first = text.partition(",")[0].strip()
    parts = urlsplit(first if "://" in first else f"nats://{first}")
    # An unescaped "/", "?" or "#" in a password would make a part of it look like a host.
    if "@" in parts.path + parts.query + parts.fragment:
        raise ValueError("the part before @ is not escaped")
    if parts.scheme not in ("nats", "tls"):
        raise ValueError("the scheme must be nats or tls")
    if not parts.hostname:
        raise ValueError("no host")
    return {"host": parts.hostname, "port": parts.port, "tls": parts.scheme == "tls"}


class NatsService(
    ServiceSettings,
    name="services.nats",
    composites=(
        Composite(
            "NATS_URL",
            "a URL such as nats://127.0.0.1:4222, with special characters in a password escaped",
            ("host", "port", "tls"),
            parse_url,
        ),
    ),
):
    """NATS."""

    port: int = setting(4222, "TCP port for clients of NATS", minimum=1, maximum=65535)
    tls: bool = setting(False, "connect to NATS with TLS; if off, TLS is used only if NATS requires it")

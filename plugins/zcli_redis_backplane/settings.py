"""The section ``backplane.redis``: where the Redis of the backplane is, and how to log in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zcli_core.config.settings import Section, setting

if TYPE_CHECKING:
    from pathlib import Path


class RedisBackplaneSettings(Section, name="backplane.redis"):
    """The Redis or Valkey that carries messages between processes."""

    url: str | None = setting(
        None, "URL of the Redis or Valkey of the backplane, with special characters in a password escaped: "
        "redis://user:password@host:port/database, rediss:// for TLS, or unix:///path/of/socket; if unset, the "
        "address in services.redis", secret=True,
    )  # fmt: skip
    password: str | None = setting(
        None, "password for the Redis or Valkey of the backplane, if backplane.redis.url has none", secret=True
    )
    ca_file: Path | None = setting(
        None, "PEM file of certificate authorities that the TLS connection to the backplane's Redis trusts; if unset, "
        "those of services.redis.ca_file or of the system", security=True,
    )  # fmt: skip
    client_cert: Path | None = setting(
        None, "PEM file of the client certificate for a backplane's Redis that requires one", security=True
    )
    client_key: Path | None = setting(
        None, "PEM file of the private key of backplane.redis.client_cert, if that file does not hold the key",
        security=True,
    )  # fmt: skip

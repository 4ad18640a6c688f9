"""The settings that every service has. The section of a service derives from this one and adds its port."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zcli_core.config.settings import Section, setting

if TYPE_CHECKING:
    from pathlib import Path


class ServiceSettings(Section, name="services"):
    """The address of a service, and what starts it.

    >>> class Memcached(ServiceSettings, name="services.memcached"):
    ...     '''The address of memcached.'''
    ...     port: int = setting(11211, "TCP port", minimum=1, maximum=65535)
    """

    host: str = setting("127.0.0.1", "host name or address of the service, or the path of its Unix socket")
    port: int = setting(1, "TCP port of the service", minimum=1, maximum=65535)
    data_dir: Path | None = setting(
        None, "data folder of the service if zCLI starts it; a folder below services.folder if unset", written=True
    )
    launcher: str = setting(
        "auto", "how zCLI starts the service: systemd, debian-cluster, homebrew, windows-service, local or auto"
    )
    ca_file: Path | None = setting(
        None, "PEM file of certificate authorities for the TLS certificate of the service; if unset, probes accept any"
    )
    client_cert: Path | None = setting(None, "PEM file of the client certificate for a service that requires one")
    client_key: Path | None = setting(
        None, "PEM file of the private key of the client certificate, if client_cert does not hold it"
    )

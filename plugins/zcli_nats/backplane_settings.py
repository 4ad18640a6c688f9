"""The section ``backplane.nats``: where the NATS of the backplane is, and how to log in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zcli_core.config.settings import Section, setting

if TYPE_CHECKING:
    from pathlib import Path


class NatsBackplaneSettings(Section, name="backplane.nats"):
    """The NATS server that carries messages between processes."""

    url: str | None = setting(
        None, "URL of the NATS server of the backplane, with special characters in a password escaped: "
        "nats://[user:password@]host[:port], nats://token@host, or tls:// to require TLS; if unset, the address in "
        "services.nats", secret=True,
    )  # fmt: skip
    user: str | None = setting(None, "user for the NATS server of the backplane, if backplane.nats.url has none")
    password: str | None = setting(None, "password of backplane.nats.user", secret=True)
    token: str | None = setting(
        None, "token for a NATS server of the backplane that authenticates its clients by token", secret=True
    )
    credentials_file: Path | None = setting(
        None, "file with the JSON Web Token and the key of a NATS user, as the command nsc writes it; needs the "
        "package cryptography", security=True,
    )  # fmt: skip
    ca_file: Path | None = setting(
        None, "PEM file of certificate authorities that the TLS connection to the backplane's NATS trusts; those of "
        "the system if unset", security=True,
    )  # fmt: skip
    client_cert: Path | None = setting(
        None, "PEM file of the client certificate for a backplane's NATS that requires one", security=True
    )
    client_key: Path | None = setting(
        None, "PEM file of the private key of backplane.nats.client_cert, if that file does not hold the key",
        security=True,
    )  # fmt: skip

"""A configuration layer of secret files, one value per file, as Docker and Kubernetes mount them."""

from __future__ import annotations

from zcli_core import hookimpl

ZCLI_CONTRACT = 1


@hookimpl
def zcli_settings():  # type: ignore[no-untyped-def]
    """Return the section ``secrets_dir``."""
    from zcli_secrets_dir.settings import SecretsDir

    return [SecretsDir]


@hookimpl
def zcli_config_layers():  # type: ignore[no-untyped-def]
    """Return the layer."""
    from zcli_secrets_dir.layer import SecretsDirLayer

    return [SecretsDirLayer()]

"""The setting that names the folder of secret files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zcli_core.config.settings import Section, setting

if TYPE_CHECKING:
    from pathlib import Path


class SecretsDir(Section, name="secrets_dir"):
    """A folder of secret files, one value per file, as Docker and Kubernetes mount them."""

    folder: Path | None = setting(
        None,
        "folder of secret files, one value per file, such as /run/secrets; if unset, no secret files are read",
        security=True,
    )

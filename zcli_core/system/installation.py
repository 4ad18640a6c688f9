"""The pip command that installs a distribution again, for errors.

The command must not name a package that does not exist on the package index. An attacker could register the name, and
run code on the machine of each user who types the command. So the command names the folder, file or repository that the
distribution was installed from.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

OURS = "zcli-core"


def install_again(distribution: str, option: str = "--force-reinstall") -> str:
    """Return the pip command that installs a distribution again, or what to do if its source is unknown.

    Args:
        distribution: Its name.
        option: ``--force-reinstall``, or ``--upgrade`` to get a newer version from the same source.
    """
    source = _recorded_source(distribution)
    if source is None and distribution == OURS:  # not on the package index
        folder = Path(__file__).resolve().parents[2]
        source = str(folder) if (folder / "pyproject.toml").is_file() else None
    elif source is None:
        source = distribution
    if source is None:
        return f"install {distribution} again from its original source"
    source = shlex.quote(source)
    return f"pip install {option} {source}"


def _recorded_source(distribution: str) -> str | None:
    """Return the source in ``direct_url.json``; None if there is none, as after an installation from an index.

    Format: https://packaging.python.org/en/latest/specifications/direct-url/
    """
    from importlib import metadata

    try:
        found = json.loads(metadata.distribution(distribution).read_text("direct_url.json") or "{}")
        url, repository = str(found.get("url", "")), found.get("vcs_info")
    except (metadata.PackageNotFoundError, AttributeError, OSError, ValueError):
        return None
    if url.startswith("file:"):
        path = url2pathname(urlsplit(url).path)
        return path if Path(path).exists() else None
    return f"{repository['vcs']}+{url}" if repository else url or None

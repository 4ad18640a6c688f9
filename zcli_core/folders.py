"""The user's and the system's folders for zCLI, as each platform has them.

On Linux and the BSDs these are four lines of the XDG base directory specification, written out here because
importing platformdirs costs a twentieth of a start-up's whole budget; a test holds them against platformdirs, which
answers everywhere else. https://specifications.freedesktop.org/basedir-spec/latest/
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

_NAME = "zcli"
_XDG = os.name == "posix" and sys.platform not in ("darwin", "android", "ios")


def user_config_folder() -> Path:
    """Where this user's settings are: ``~/.config/zcli`` on Linux."""
    return _xdg("XDG_CONFIG_HOME", ".config") if _XDG else _platform("user_config_path")


def site_config_folder() -> Path:
    """Where settings for all users are: ``/etc/xdg/zcli`` on Linux."""
    if not _XDG:
        return _platform("site_config_path")
    first = os.environ.get("XDG_CONFIG_DIRS", "").strip().split(os.pathsep)[0]
    return Path(first or "/etc/xdg") / _NAME


def user_log_folder() -> Path:
    """Where this user's logs are: ``~/.local/state/zcli/log`` on Linux."""
    return _xdg("XDG_STATE_HOME", ".local/state") / "log" if _XDG else _platform("user_log_path")


def user_data_folder() -> Path:
    """Where this user's data is: ``~/.local/share/zcli`` on Linux."""
    return _xdg("XDG_DATA_HOME", ".local/share") if _XDG else _platform("user_data_path")


def _xdg(variable: str, below_home: str) -> Path:
    folder = os.environ.get(variable, "").strip()
    return Path(folder or os.path.join(os.path.expanduser("~"), below_home)) / _NAME


def _platform(name: str) -> Path:
    import platformdirs

    folder: Path = getattr(platformdirs, name)(_NAME, appauthor=False)
    return folder

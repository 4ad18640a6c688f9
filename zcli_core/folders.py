"""The user's and the system's folders for zCLI, as each platform has them.

On Linux and the BSDs these are four lines of the XDG base directory specification, written out here because
importing platformdirs costs a twentieth of a start-up's whole budget; a test holds them against platformdirs, which
answers everywhere else. Folders are text here and in the layers: pathlib costs a start-up 6 ms before Python 3.13.
https://specifications.freedesktop.org/basedir-spec/latest/
"""

from __future__ import annotations

import os
import sys

_NAME = "zcli"
_XDG = os.name == "posix" and sys.platform not in ("darwin", "android", "ios")


def user_config_folder() -> str | None:
    """Where this user's settings are: ``~/.config/zcli`` on Linux. None if this user has no home."""
    return _xdg("XDG_CONFIG_HOME", ".config") if _XDG else _platform("user_config_path")


def site_config_folder() -> str | None:
    """Where settings for all users are: ``/etc/xdg/zcli`` on Linux."""
    if not _XDG:
        return _platform("site_config_path")
    named = os.environ.get("XDG_CONFIG_DIRS", "").split(os.pathsep)
    return os.path.join(next(filter(os.path.isabs, named), "/etc/xdg"), _NAME)


def user_log_folder() -> str | None:
    """Where this user's logs are: ``~/.local/state/zcli/log`` on Linux. None if this user has no home."""
    if not _XDG:
        return _platform("user_log_path")
    folder = _xdg("XDG_STATE_HOME", ".local/state")
    return folder and os.path.join(folder, "log")


def user_data_folder() -> str | None:
    """Where this user's data is: ``~/.local/share/zcli`` on Linux. None if this user has no home."""
    return _xdg("XDG_DATA_HOME", ".local/share") if _XDG else _platform("user_data_path")


def _xdg(variable: str, below_home: str) -> str | None:
    """The specification has relative paths ignored; so is a relative HOME."""
    folder = os.environ.get(variable, "")
    if not os.path.isabs(folder):
        home = _home()
        if home is None:
            return None
        folder = os.path.join(home, below_home)
    return os.path.join(folder, _NAME)


def _home() -> str | None:
    home = os.environ.get("HOME", "")
    if os.path.isabs(home):
        return home
    import pwd  # the answer of the password database, as os.path.expanduser gives it without HOME

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return None


def _platform(name: str) -> str | None:
    import platformdirs

    try:
        return str(getattr(platformdirs, name)(_NAME, appauthor=False))
    except RuntimeError:  # no home
        return None

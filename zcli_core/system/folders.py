"""The user's and the system's folders for zCLI, as each platform has them.

On Linux and the BSDs these are four lines of the XDG base directory specification, written out here because
importing platformdirs costs a twentieth of a start-up's whole budget; a test holds them against platformdirs, which
answers everywhere else. Folders are text here and in the layers: pathlib costs a start-up 6 ms before Python 3.13.
https://specifications.freedesktop.org/basedir-spec/latest/
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping

_NAME = "zcli"
_XDG = os.name == "posix" and sys.platform not in ("darwin", "android", "ios")


def user_config_folder() -> str | None:
    """Where this user's settings are: ``~/.config/zcli`` on Linux. None if this user has no home."""
    return _xdg("XDG_CONFIG_HOME", ".config") if _XDG else _platform("user_config_path")


def site_config_folders() -> list[str]:
    """Return the folders with settings for all users, the most important first: ``/etc/xdg/zcli`` on Linux."""
    if not _XDG:
        folder = _platform("site_config_path")
        return [] if folder is None else [folder]
    named = filter(os.path.isabs, os.environ.get("XDG_CONFIG_DIRS", "").split(os.pathsep))
    return [os.path.join(folder, _NAME) for folder in dict.fromkeys(named)] or [os.path.join("/etc/xdg", _NAME)]


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


class PathError(ValueError):
    """A path with a ``~`` or a variable that stands for nothing."""


def expand_path(path: str, environ: Mapping[str, str]) -> str:
    """Expand ``~``, ``~user``, ``$NAME`` and ``${NAME}`` in a path, as a shell does.

    Raises:
        PathError: there is no such user or home folder, or no such variable.
    """
    text = os.path.expanduser(path)
    if text.startswith("~"):
        raise PathError(f"there is no home folder for {text.partition(os.sep)[0]}")

    def value(found: re.Match[str]) -> str:
        name = found[1] or found[2]
        if not environ.get(name):
            raise PathError(f"the variable {name} is not set")
        return environ[name]

    return re.sub(r"\$(?:\{(\w+)\}|([A-Za-z_]\w*))", value, text)

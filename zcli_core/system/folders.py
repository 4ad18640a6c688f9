"""The folders of zCLI for the user and for the system, on each platform.

On Linux and the BSDs this module follows the XDG base directory specification itself, because importing platformdirs
takes a twentieth of the time budget of a start. A test compares the results with platformdirs, which is used on other
systems. Folders are str here and in the layers, because importing pathlib takes 6 ms before Python 3.13.
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
    """Return the folder of the user's settings, ``~/.config/zcli`` on Linux. None if the user has no home folder."""
    return _xdg("XDG_CONFIG_HOME", ".config") if _XDG else _platform("user_config_path")


def site_config_folders() -> list[str]:
    """Return the folders with settings for all users, the most important first, ``/etc/xdg/zcli`` on Linux."""
    if not _XDG:
        folder = _platform("site_config_path")
        return [] if folder is None else [folder]
    named = filter(os.path.isabs, os.environ.get("XDG_CONFIG_DIRS", "").split(os.pathsep))
    return [os.path.join(folder, _NAME) for folder in dict.fromkeys(named)] or [os.path.join("/etc/xdg", _NAME)]


def user_log_folder() -> str | None:
    """Return the folder of the user's logs, ``~/.local/state/zcli/log`` on Linux. None if there is no home folder."""
    if not _XDG:
        return _platform("user_log_path")
    folder = _xdg("XDG_STATE_HOME", ".local/state")
    return folder and os.path.join(folder, "log")


def user_run_folder() -> str | None:
    """Return the folder of the control sockets, ``~/.local/state/zcli/run`` on Linux. None if there is no home."""
    folder = _xdg("XDG_STATE_HOME", ".local/state") if _XDG else _platform("user_state_path")
    return folder and os.path.join(folder, "run")


def user_data_folder() -> str | None:
    """Return the folder of the user's data, ``~/.local/share/zcli`` on Linux. None if the user has no home folder."""
    return _xdg("XDG_DATA_HOME", ".local/share") if _XDG else _platform("user_data_path")


def _xdg(variable: str, below_home: str) -> str | None:
    """Return a folder by the specification. It says to ignore relative paths, so a relative HOME is ignored too."""
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
    import pwd  # as in os.path.expanduser() without HOME

    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return None


def _platform(name: str) -> str | None:
    import platformdirs

    try:
        return str(getattr(platformdirs, name)(_NAME, appauthor=False))
    except RuntimeError:  # the user has no home folder
        return None


class PathError(ValueError):
    """Raised for a path with a ``~`` or a variable that cannot be expanded."""


def expand_path(path: str, environ: Mapping[str, str]) -> str:
    """Expand ``~``, ``~user``, ``$NAME`` and ``${NAME}`` in a path, as a shell does.

    Raises:
        PathError: The user, the home folder or the variable does not exist.
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

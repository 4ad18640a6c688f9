"""Making zCLI's own folder for a local server."""

from __future__ import annotations

import itertools
import os
import shlex
import stat
from pathlib import Path

from zcli_core.services.contract import LaunchError
from zcli_core.services.launchers.commands import as_root, is_root
from zcli_core.system.safe_files import ForeignPathError, open_folder, require_no_others
from zcli_core.system.users import own_name

#: The folder of root's servers, unless ``services.folder`` names another.
_ROOTS_FOLDER = "/var/lib/zcli/services"
#: A folder in which every user may make a folder, and which is kept when the system restarts.
_KEPT = "/var/tmp"  # noqa: S108


def make_instance_folder(folder: Path, setting: Path | None) -> None:
    """Make a folder that other users cannot read. The accounts of root's servers may pass through it.

    Args:
        folder: the folder to make.
        setting: the value of ``services.folder``.

    Raises:
        LaunchError: it cannot be made. The command of the error makes the next start succeed. If ``services.folder`` is
            not set, the command needs no rights: it sets it to a folder that our user can make.
    """
    mode = 0o711 if is_root() else 0o700
    missing = [part for part in folder.parents if not part.exists()]
    try:
        if not is_root():
            require_no_others(folder)
        os.close(open_folder(folder, mode, only_ours=is_root()))
        if not is_root():  # another user may have made it in the meantime
            require_no_others(folder)
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(mode)
        if is_root():  # the umask may exclude the accounts of the servers
            for part in missing:
                part.chmod(mode)
    except ForeignPathError as error:
        raise LaunchError(
            f"servers are not kept in a folder that another user controls: {error.strerror} (services.folder is "
            f"{setting})",
            f"export ZCLI_SERVICES_FOLDER={_ROOTS_FOLDER}" if is_root() else _other_folder(),
        ) from error
    except OSError as error:
        message = f"cannot make the folder {folder}: {error.strerror}"
        if setting is not None:
            quoted = shlex.quote(str(folder))
            command = as_root("sh", "-c", f"mkdir -p {quoted} && chown {os.geteuid()} {quoted}")
            message = f"{message} (services.folder is {setting})"
            raise LaunchError(message, None if is_root() else command) from error
        raise LaunchError(
            f"{message}; set services.folder to a folder that {own_name()} may write", _other_folder()
        ) from error


def _other_folder() -> str:
    """Return the command that sets ``services.folder`` to a folder that every user can make."""
    usual = f"{_KEPT}/zcli-{os.geteuid()}"
    # Another user may have made the first names. mkdir fails if another user makes this one before the command runs.
    names = itertools.chain([usual], (f"{usual}-{number}" for number in itertools.count(2)))
    other = next(name for name in names if _is_own_folder(name) or not os.path.lexists(name))
    make = "" if _is_own_folder(other) else f"mkdir -m 755 {other} && "
    return f"{make}export ZCLI_SERVICES_FOLDER={other}"


def _is_own_folder(path: str) -> bool:
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()

"""Names of the users of this machine."""

from __future__ import annotations

import os


def user_name(uid: int) -> str:
    """Return the name of a user, or the number if no account has it, as in many containers."""
    try:
        import pwd

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return str(uid)


def user_label(uid: int) -> str:
    """Name a user for an error: ``"the user bob (uid 1001)"``, or ``"uid 1001"`` if no account has the number."""
    name = user_name(uid)
    return f"uid {uid}" if name == str(uid) else f"the user {name} (uid {uid})"


def own_name() -> str:
    """Return the name of the user that this process runs as, for an error.

    The variables LOGNAME and USER are not asked on POSIX, because after setpriv or in a container they may name
    another user.
    """
    if hasattr(os, "geteuid"):
        return user_name(os.geteuid())
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "this user"

"""Names of the users of this machine, for messages."""

from __future__ import annotations

import os


def user_name(uid: int) -> str:
    """Return the name of a user, or the number as text if there is no such account, as in many containers."""
    try:
        import pwd

        return pwd.getpwuid(uid).pw_name
    except (ImportError, KeyError):
        return str(uid)


def user_label(uid: int) -> str:
    """Return a user for a message: ``"the user bob (uid 1001)"``, or ``"uid 1001"`` if there is no such account."""
    name = user_name(uid)
    return f"uid {uid}" if name == str(uid) else f"the user {name} (uid {uid})"


def own_name() -> str:
    """Return the name of the user that this process runs as, for a message.

    On POSIX systems the variables LOGNAME and USER are not used, because after setpriv or in a container they may have
    the name of another user.
    """
    if hasattr(os, "geteuid"):
        return user_name(os.geteuid())
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "this user"

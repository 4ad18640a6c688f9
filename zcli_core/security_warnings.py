"""Security warnings: the console shows them in every deployment, because the log file is read too late or never."""

from __future__ import annotations

import logging
from typing import Any

#: ``extra`` of a record that the console shows even where it shows errors only.
SECURITY = {"zcli_security": True}


class SecurityWarning(str):
    """The text of a warning about the configuration that is logged with :func:`warn_security`."""

    __slots__ = ()


def warn_security(log: logging.Logger, message: str, *arguments: Any) -> None:
    """Log a warning about something that admits, trusts or reveals more than the user may expect.

    It gets past the level of ``log``, so that the file has it too if ``logger`` is ERROR. With ``logger: PROD`` the
    console shows nothing.
    """
    extra = SECURITY
    record = log.makeRecord(log.name, logging.WARNING, "", 0, message, arguments, None, extra=extra)
    log.handle(record)

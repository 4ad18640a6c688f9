"""Security warnings. The console shows them in every deployment, because users rarely read the log file in time."""

from __future__ import annotations

import logging
from typing import Any

#: ``extra`` of a record that the console shows even if it shows only errors.
SECURITY = {"zcli_security": True}


class SecurityWarning(str):
    """Text of a warning about the configuration that must be logged with :func:`warn_security`."""

    __slots__ = ()


def warn_security(log: logging.Logger, message: str, *arguments: Any) -> None:
    """Log a warning about a setting that admits, trusts or reveals more than the user may expect.

    The level of the log does not matter: the log file gets the warning even if ``logger`` is ERROR. The console shows
    nothing with ``logger: PROD``.

    Args:
        log: Log of the application, or a child of it.
        message: Message with ``%s`` for each of the arguments.
        arguments: Arguments of the message.
    """
    record = log.makeRecord(log.name, logging.WARNING, "", 0, message, arguments, None, extra=SECURITY)
    log.handle(record)

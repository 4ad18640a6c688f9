"""Everything that hides secrets: in settings, in URLs, in errors and in the application's log.

Only values are hidden here. Classes that hold a credential leave it out of their ``repr`` themselves.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

#: What is shown in place of a secret.
SECRET = "<secret>"  # noqa: S105 - a placeholder
#: Shorter secrets are not replaced in the log: they would match parts of ordinary words and numbers.
MIN_LENGTH = 4


def redact_value(value: Any, secret: bool) -> Any:
    """Return the value of a setting as it may be shown. The keys of a secret mapping are shown, its values are not.

    Args:
        value: The value. None is shown as it is.
        secret: Whether the value is a secret.
    """
    if not secret or value is None:
        return value
    if isinstance(value, Mapping):
        return dict.fromkeys(value, SECRET)
    return SECRET


def redact_query(target: str) -> str:
    """Return the path and query of a URL with ``***`` in place of each query value, which may be a key or token."""
    path, mark, query = target.partition("?")
    shown = "&".join(f"{item.partition('=')[0]}=***" if "=" in item else "***" for item in query.split("&"))
    return f"{path}{mark}{shown if query else ''}"


def redact_invalid_url(text: str) -> str:
    """Return a text that is not a valid URL without what may be a credential: at most 200 characters, escaped.

    Such a text may have a password anywhere before its last ``@``, and a token in the query and the fragment.
    """
    before, end, after = (*re.split("([?#])", text, maxsplit=1), "", "")[:3]
    scheme, mark, rest = before.partition("://")
    scheme, rest = (f"{scheme}{mark}", rest) if mark else ("", before)
    rest = "***" if "@" in after else rest.rpartition("@")[2]
    # Text in place of a port may be a password whose @ was forgotten.
    hidden = re.sub(r"^([^/?#]*//[^/?#:]*):(?![0-9]*(?:[/?#]|$))[^/?#]*", r"\1:***", scheme + rest)
    return repr((hidden + end)[:200])[1:-1]


def describe_place(error: BaseException) -> str:
    """Return the type of an error and where it was raised, without its message, which may quote a secret.

    Returns:
        Text such as ``"ValueError in layer.py, line 12"``.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" in {os.path.basename(trace.tb_frame.f_code.co_filename)}, line {trace.tb_lineno}" if trace else ""
    return type(error).__name__ + place


class SecretFilter(logging.Filter):
    """Replaces secrets in log records: in the message, the traceback and the stack.

    A secret is found as it is, percent-encoded, and escaped as in JSON or in the ``repr`` of text and bytes. Records
    that hold no secret keep their arguments. The filter accepts every record and never raises.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        """Prepare the filter.

        Args:
            secrets: The texts to replace. Those with less than :data:`MIN_LENGTH` characters are ignored.
        """
        super().__init__()
        found = {form for secret in secrets if len(secret) >= MIN_LENGTH for form in _forms(secret)}
        #: A longer text comes first, because a shorter one may be a part of it.
        self._texts = sorted(found, key=len, reverse=True)
        self._formatter = logging.Formatter()

    def filter(self, record: logging.LogRecord) -> bool:
        """Replace the secrets in a record, for this handler and all that get the record later."""
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - invalid arguments; the handler reports them, with their values
            record.msg = self.redact(text_of(record.msg, str))
            record.args = self._redact_arguments(record.args)
        else:
            redacted = self.redact(message)
            if redacted is not message:
                record.msg, record.args = redacted, None
        if record.exc_info and not record.exc_text:
            record.exc_text = text_of(record.exc_info, self._formatter.formatException)
        if record.exc_text:
            record.exc_text = self.redact(text_of(record.exc_text, str))
        if record.stack_info:
            record.stack_info = self.redact(text_of(record.stack_info, str))
        return True

    def redact(self, text: str) -> str:
        """Return a text without its secrets; the same object if it holds none."""
        for secret in self._texts:
            if secret in text:
                text = text.replace(secret, SECRET)
        return text

    def _redact_arguments(self, arguments: Any) -> Any:
        try:
            if isinstance(arguments, Mapping):
                return {name: self.redact(text_of(value, str)) for name, value in arguments.items()}
            return tuple(self.redact(text_of(value, str)) for value in arguments or ())
        except Exception:  # noqa: BLE001 - not the arguments of a log call, as in a record that logging did not make
            return None


def text_of(value: Any, to_text: Callable[[Any], str]) -> str:
    """Return the text of any value for the log. The error of a class that has no text is not raised."""
    try:
        return to_text(value)
    except Exception:  # noqa: BLE001 - a class of the application or of a library
        return f"<{type(value).__name__} without a text>"


def _forms(secret: str) -> set[str]:
    """Return the texts that a secret may be written as."""
    if re.fullmatch(r"[A-Za-z0-9_.~-]*", secret):  # nearly all tokens; the imports below take time
        return {secret}
    from json import dumps
    from urllib.parse import quote, quote_plus

    found = {secret, dumps(secret)[1:-1], dumps(secret, ensure_ascii=False)[1:-1]}
    for show in (repr, ascii, lambda text: repr(text.encode(errors="backslashreplace"))[1:]):
        # The repr of a text with a " escapes every '.
        found |= {show(secret)[1:-1], show(f'{secret}"')[1:-2]}
    for encoded in (
        quote(secret, errors="replace"),
        quote(secret, "", errors="replace"),
        quote_plus(secret, errors="replace"),
    ):
        found |= {encoded, re.sub("%..", lambda escape: escape[0].lower(), encoded)}
    return found

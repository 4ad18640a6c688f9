"""Checks of ``zcli doctor`` for the files that the configuration is read from."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Literal

from zcli_core.config.conversion import is_path
from zcli_core.errors import ConfigError
from zcli_core.net.pem_files import all_users_can_read
from zcli_core.printable import printable
from zcli_core.system.trusted import why_untrusted

if TYPE_CHECKING:
    from zcli_core.cli.session import Session
    from zcli_core.config.contract import Entry
    from zcli_core.config.settings import Setting

#: Parts of the names of other programs' variables that hold secrets.
_SECRET = re.compile("SECRET|TOKEN|PASSW|PRIVATE|CREDENTIAL|API_?KEY|ACCESS_?KEY", re.IGNORECASE)


def readable_secrets(session: Session) -> Iterator[tuple[Literal["warning"], str]]:
    """Yield each file with secrets that every user of this machine can read, and the command that protects it."""
    secrets = {name: setting for name, setting in session.config.settings.items() if setting.secret}
    found: dict[str, list[str]] = {}
    for entry in session.entries:
        file = _file_of(entry)
        if file is not None and entry.value not in (None, "") and _is_secret(entry, secrets):
            names = found.setdefault(file, [])
            if entry.name not in names:
                names.append(entry.name)
    for file, names in found.items():
        if all_users_can_read(Path(file)):
            what = f"every user of this machine can read the secrets in {file} ({', '.join(names)})"
            yield "warning", printable(f"{what}: chmod 600 {quote(file)}")


def foreign_files(session: Session) -> Iterator[tuple[Literal["warning"], str]]:
    """Yield each file that another user owns or may write, and that is read only because a setting names it."""
    files = dict.fromkeys(map(_file_of, session.entries))
    for key, setting in session.config.settings.items():
        if is_path(setting) and not setting.declaration.written:
            with contextlib.suppress(ConfigError):  # the check of the configuration reports it
                value = session.config.get(key)
                files[None if value is None or isinstance(value, Mapping) else str(value)] = None
    for file in files:
        for place in () if file is None else (file, os.path.dirname(file)):
            with contextlib.suppress(OSError):
                reason = why_untrusted(os.stat(place))
                if reason is not None:
                    yield "warning", printable(f"{file} is read because a setting names it, although {place} {reason}")
                    break


def _file_of(entry: Entry) -> str | None:
    """Return the file that an entry is from. Its origin is the name or path of the file, usually with a line number."""
    file = os.path.join(entry.folder or "", re.sub(r":\d+$", "", entry.origin))
    return file if os.path.isabs(file) and os.path.isfile(file) else None


def _is_secret(entry: Entry, secrets: dict[str, Setting]) -> bool:
    if entry.secret:
        return True
    if entry.is_variable:
        known = {name for setting in secrets.values() for name in setting.variables}
        return entry.name in known or _SECRET.search(entry.name) is not None
    name = re.sub(r"^deployments\.[^.]+\.", "", entry.name)
    return any(f"{name}.".startswith(f"{key}.") for key in secrets)

"""Keys from a file, which is read again when it changes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from zcli_jwt.keys import MAX_JWKS_BYTES, InvalidKey, KeySet


class KeySource(Protocol):
    """Provides the keys without waiting: a :class:`.keys.KeySet`, a :class:`KeyFile` or fetched keys."""

    def current(self) -> KeySet:
        """Return the keys that are known now. Blocks at most for reading a small file."""


class KeyFile:
    """The keys in a file. A changed file is read again for the next client.

    If the new content cannot be used, that is logged once, and the previous keys stay in use.
    """

    def __init__(self, path: Path, read: Callable[[bytes], KeySet], log: logging.Logger) -> None:
        """Read the file for the first time. Raises InvalidKey."""
        self._path = path
        self._read = read
        self._log = log
        self._version = _version(path)
        self._keys = self._load()

    def current(self) -> KeySet:
        """Return the keys of the file, or the previous ones if its content cannot be used."""
        version = _version(self._path)
        if version != self._version:
            # Noted before the file is read: a change during the read leads to another version next time.
            self._version = version
            try:
                self._keys = self._load()
            except InvalidKey as problem:
                self._log.error("jwt: %s: %s; the previous keys stay in use", self._path, problem)
            else:
                self._log.info("jwt: %s has changed: %r", self._path, self._keys)
        return self._keys

    def _load(self) -> KeySet:
        try:
            with self._path.open("rb") as file:
                data = file.read(MAX_JWKS_BYTES + 1)
        except OSError as error:
            raise InvalidKey(f"cannot read the file: {error.strerror}") from None
        keys = self._read(data)
        for reason in keys.ignored:
            self._log.warning("jwt: %s: %s", self._path, reason)
        return keys


def _version(path: Path) -> tuple[int, int, int] | None:
    """Return a value that changes with the file; None if the file is missing."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino

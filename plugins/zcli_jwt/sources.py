"""Where keys come from: the configuration, or a file that is read again when it changes."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from zcli_jwt.keys import MAX_JWKS_BYTES, InvalidKey, KeySet


class KeySource(Protocol):
    """Whoever knows the keys without having to wait."""

    def current(self) -> KeySet:
        """The keys that are known now; never blocks for longer than a small file takes."""


class ConfiguredKeys:
    """Keys that stay as they are."""

    def __init__(self, keys: KeySet) -> None:
        self._keys = keys

    def current(self) -> KeySet:
        """The keys."""
        return self._keys


class KeyFile:
    """The keys in a file, whichever they are: a file that is replaced is read again with the next client.

    What it cannot be used for any more is logged once, and the keys of before are kept.
    """

    def __init__(self, path: Path, read: Callable[[bytes], KeySet], log: logging.Logger) -> None:
        """Read it for the first time. Raises InvalidKey."""
        self._path = path
        self._read = read
        self._log = log
        self._version = _version(path)
        self._keys = self._load()

    def current(self) -> KeySet:
        """The keys, of the file as it is now if that can be used."""
        version = _version(self._path)
        if version != self._version:
            # Before it is read: if somebody writes meanwhile, the next look finds another version again.
            self._version = version
            try:
                self._keys = self._load()
            except InvalidKey as problem:
                self._log.error("jwt: %s: %s; the keys of before are kept", self._path, problem)
            else:
                self._log.info("jwt: %s has changed: %r", self._path, self._keys)
        return self._keys

    def _load(self) -> KeySet:
        try:
            with self._path.open("rb") as file:
                data = file.read(MAX_JWKS_BYTES + 1)
        except OSError as error:
            raise InvalidKey(f"it cannot be read: {error.strerror}") from None
        keys = self._read(data)
        for reason in keys.ignored:
            self._log.warning("jwt: %s: %s; it is ignored", self._path, reason)
        return keys


def _version(path: Path) -> tuple[int, int, int] | None:
    """What changes when a file does; None for one that is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino

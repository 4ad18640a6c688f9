"""The certificate and private key of this program in PEM files, for servers and clients."""

from __future__ import annotations

import os
import shlex
import ssl
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True)
class CertificateFiles:
    """The PEM files of a certificate chain and its private key. Both may be the same file."""

    certificate: Path
    key: Path

    def stamp(self) -> tuple[tuple[int, int, int], ...] | None:
        """Return a value that changes when a file changes, or None while a file is missing."""
        try:
            found = [os.stat(file) for file in (self.certificate, self.key)]
        except OSError:
            return None
        return tuple((item.st_ino, item.st_mtime_ns, item.st_size) for item in found)


class CertificateProblem(Exception):  # noqa: N818 - it becomes a ConfigError or a line in the log
    """A certificate or key that cannot be used. ``part`` says which of them: ``"cert"`` or ``"key"``."""

    def __init__(self, part: Literal["cert", "key"], message: str) -> None:
        super().__init__(message)
        self.part = part


def load(context: ssl.SSLContext, files: CertificateFiles) -> None:
    """Load certificate and key into a context, for new connections.

    Raises:
        CertificateProblem: One of them cannot be used.
    """
    encrypted = False

    def no_password() -> str:
        nonlocal encrypted
        encrypted = True
        return ""

    try:
        context.load_cert_chain(files.certificate, files.key, password=no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        if encrypted:
            raise CertificateProblem("key", f"{files.key} is encrypted, but zCLI cannot read encrypted keys") from error
        reason = getattr(error, "reason", None) or ""
        if reason == "KEY_VALUES_MISMATCH":
            message = f"{files.key} is not the key of the certificate {files.certificate}"
            raise CertificateProblem("key", message) from error
        if not holds(files.certificate, "CERTIFICATE"):
            raise CertificateProblem("cert", f"{files.certificate} holds no certificate in PEM format") from error
        if not holds(files.key, "PRIVATE KEY"):
            raise CertificateProblem("key", f"{files.key} holds no private key in PEM format") from error
        detail = reason.replace("_", " ").lower() or getattr(error, "strerror", None) or str(error)
        raise CertificateProblem("cert", f"{files.certificate} cannot be used: {detail}") from error


def check_readable(part: Literal["cert", "key"], file: Path) -> None:
    """Check that a file can be read.

    Raises:
        CertificateProblem: It cannot be read.
    """
    try:
        with file.open("rb") as opened:
            opened.read(1)
    except OSError as error:
        raise CertificateProblem(part, f"{file} cannot be read: {error.strerror}") from error


def holds(file: Path, what: str) -> bool:
    """Return whether a file has a ``"CERTIFICATE"`` or ``"PRIVATE KEY"`` in PEM format."""
    try:
        text = file.read_text("latin-1")
    except OSError:
        return False
    return f"{what}-----" in text


def all_users_can_read(file: Path) -> bool:
    """Return whether the modes of a file and of all folders above it let every user of this machine read it.

    False for a missing file, and on Windows, which does not use the mode.
    """
    if os.name == "nt":
        return False
    try:
        file = file.resolve(strict=True)
        opened = all(folder.stat().st_mode & stat.S_IXOTH for folder in file.parents)
        return opened and bool(file.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def key_warning(setting: str, file: Path) -> str | None:
    """Return a warning if every user of this machine can read a private key, otherwise None.

    Args:
        setting: The name of the setting that names the file, such as ``websocket.ssl_key``.
        file: A PEM file. One without a private key gives no warning.
    """
    if not all_users_can_read(file) or b"PRIVATE KEY-----" not in file.read_bytes():
        return None
    return f"every user of this machine can read the private key {file} ({setting}): chmod 600 {shlex.quote(str(file))}"

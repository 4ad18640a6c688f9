"""Certificates and keys in PEM files: our own, for whichever side of a connection we are."""

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
    """Where the certificate chain and its private key are, in PEM; the key may be in the chain's file."""

    certificate: Path
    key: Path

    def stamp(self) -> tuple[tuple[int, int, int], ...] | None:
        """Something that changes when a file does; None while one of them is not there."""
        try:
            found = [os.stat(file) for file in (self.certificate, self.key)]
        except OSError:
            return None
        return tuple((item.st_ino, item.st_mtime_ns, item.st_size) for item in found)


class CertificateProblem(Exception):  # noqa: N818 - it becomes a ConfigError or a line in the log
    """A certificate or key that cannot be used. ``part`` is the one to look at: ``"cert"`` or ``"key"``."""

    def __init__(self, part: Literal["cert", "key"], message: str) -> None:
        super().__init__(message)
        self.part = part


def load(context: ssl.SSLContext, files: CertificateFiles) -> None:
    """Load certificate and key into a context; new connections get them. Raises CertificateProblem."""
    encrypted = False

    def no_password() -> str:
        nonlocal encrypted
        encrypted = True
        return ""

    try:
        context.load_cert_chain(files.certificate, files.key, password=no_password)
    except (ssl.SSLError, OSError, ValueError) as error:
        if encrypted:
            raise CertificateProblem("key", f"{files.key} is encrypted; zCLI asks for no password") from error
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
    """Raise CertificateProblem if the file cannot be read."""
    try:
        with file.open("rb") as opened:
            opened.read(1)
    except OSError as error:
        raise CertificateProblem(part, f"{file} cannot be read: {error.strerror}") from error


def holds(file: Path, what: str) -> bool:
    """Whether a file has something of that kind in PEM format: ``"CERTIFICATE"`` or ``"PRIVATE KEY"``."""
    try:
        text = file.read_text("latin-1")
    except OSError:
        return False
    return f"{what}-----" in text


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


def key_warning(setting: str, file: Path) -> str | None:
    """A warning about a private key that every user of this machine can read; None if not every user can.

    Args:
        setting: The name of the setting that names the file, such as ``websocket.ssl_key``.
        file: A PEM file. One without a private key gives no warning.
    """
    if not all_users_can_read(file) or b"PRIVATE KEY-----" not in file.read_bytes():
        return None
    return f"every user of this machine can read the private key {file} ({setting}): chmod 600 {shlex.quote(str(file))}"

"""Options that read a secret from a file or from standard input.

All users of a machine can read the arguments of a running program, and the shell saves them in its history.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

#: No secret or list of headers is larger.
_MAX_BYTES = 64 * 1024


def secret_from_file(ctx: click.Context, parameter: click.Parameter, path: str | None) -> str | None:
    """Return the only line of the file that an option names, or None if the option was not given.

    The path ``-`` stands for the first line of standard input; the command reads the other lines. On a terminal, zcli
    asks for the line and does not show it.
    """
    if path is None:
        return None
    if path == "-" and sys.stdin is not None and sys.stdin.isatty():
        return str(click.prompt("Token", hide_input=True, err=True))
    try:
        text = (_first_line() if path == "-" else _read(path)).decode("ascii").strip("\r\n")
    except OSError as error:
        raise click.BadParameter(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError:
        text = ""
    if not text or "\n" in text:
        raise click.BadParameter(f"{'standard input' if path == '-' else path} must have one line of ASCII characters")
    return text


def header_lines(path: str) -> list[str]:
    """Return the lines of a file of headers, except empty lines.

    Raises:
        click.BadParameter: The file cannot be read.
    """
    try:
        return [line for line in _read(path).decode("latin-1").splitlines() if line.strip()]
    except OSError as error:
        raise click.BadParameter(f"cannot read {path}: {error.strerror or error}") from error


def _read(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(_MAX_BYTES)


def _first_line() -> bytes:
    """Read up to the first line break only, because the rest may be messages or a body."""
    line = b""
    while len(line) < _MAX_BYTES and (byte := os.read(0, 1)) not in (b"", b"\n"):
        line += byte
    return line

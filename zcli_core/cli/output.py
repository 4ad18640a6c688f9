"""The output of subcommands: text and tables for users, JSON for programs."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from zcli_core.printable import encodable, printable

if TYPE_CHECKING:
    from rich.table import Table

_F = TypeVar("_F", bound=Callable[..., Any])


def json_option(function: _F) -> _F:
    """Add ``--json`` to a subcommand, as the argument ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text, for programs.")(function)


def use_any_console() -> None:
    """Write characters that the console's encoding lacks as escapes such as ``\\u2713``.

    This holds for all output of the command ``zcli``: its own, the help texts of click, the tables of rich and the
    commands of plugins.
    """
    # Without a standard stream (">&-"), print() would write errors to stdout, and a socket could get its number.
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_text(text: str, keep: str = "") -> None:
    """Print a line. Control characters other than those in ``keep`` are printed as escapes."""
    with writing():
        print(printable(text, keep), flush=True)


def write_bytes(data: bytes) -> None:
    """Write bytes to standard output unchanged, and flush it."""
    with writing():
        sys.stdout.flush()
        rest = memoryview(data)
        while rest:  # with PYTHONUNBUFFERED, write() may write only a part
            rest = rest[sys.stdout.buffer.write(rest) :]
        sys.stdout.buffer.flush()


@contextlib.contextmanager
def writing() -> Iterator[None]:
    """End the command with a message if standard output cannot be written. click handles a closed pipe."""
    try:
        yield
    except OSError as error:
        if error.errno == errno.EPIPE:
            raise
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - until the program ends
        raise click.ClickException(f"cannot write to standard output: {error.strerror or error}") from error


def print_error(message: object) -> None:
    """Print ``zcli: `` and a message to stderr. Further lines are indented, to tell them from another message."""
    print("zcli: " + re.sub(r"\n(?! )", "\n  ", printable(str(message), keep="\n")), file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """Print a value as indented JSON.

    Named tuples and dataclasses are printed as objects. Other values that JSON does not have, such as paths, are
    printed as text.
    """
    print_text(encode_json(_plain(value)), keep="\n")


def encode_json(value: Any, indent: int | None = 2) -> str:
    """Return JSON in which control characters and characters that the terminal lacks are written as ``\\uXXXX``."""
    import json

    text = json.dumps(value, indent=indent, ensure_ascii=False)
    if printable(text, keep="\n") == text == encodable(text, sys.stdout):
        return text
    return json.dumps(value, indent=indent).replace("\x7f", "\\u007f")


def _plain(value: Any) -> Any:
    if hasattr(value, "_asdict"):
        value = value._asdict()
    elif is_dataclass(value):
        value = vars(value)
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, (str, int, float, type(None))) else str(value)


def make_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a table in the style of all subcommands."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_styled(cell, Text) for cell in row))
    return table


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table: as wide as the terminal, or not wrapped if the output is a file or a program."""
    from rich.console import Console

    table = make_table(columns, rows)
    with writing():
        Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(table)
        sys.stdout.flush()


_STYLES = {
    "active": "green",
    "ok": "green",
    "warning": "yellow",
    "wrong": "bold red",
    "available": "cyan",
    "disabled": "yellow",
    "installable": "cyan",
    "broken": "bold red",
    "in use": "yellow",
    "unknown": "yellow",
    "ready": "green",
    "not ready": "yellow",
    "stopped": "dim",
    "unreachable": "yellow",
    "silent": "yellow",
    "foreign": "bold red",
    "unusable": "bold red",
}


def _styled(cell: str, text: Any) -> Any:
    # rich would read square brackets in a str as markup.
    return text(printable(cell), style=_STYLES.get(cell, ""))


def show(value: Any) -> str:
    """Return the value of a setting in the form in which a user writes it."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "-"
    if isinstance(value, tuple):
        return ", ".join(value) or "(empty)"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={item}" for name, item in value.items()) or "(empty)"
    return str(value) if isinstance(value, (str, int, float, Path)) else repr(value)

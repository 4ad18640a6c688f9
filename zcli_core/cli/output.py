"""Tables for people, JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.table import Table

_F = TypeVar("_F", bound=Callable[..., Any])


def json_option(function: _F) -> _F:
    """Add ``--json`` to a subcommand, as the argument ``as_json``."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")(function)


def print_json(value: Any) -> None:
    """Print a value as indented JSON; paths and other values without a JSON form as text."""
    import json

    click.echo(json.dumps(value, indent=2, ensure_ascii=False, default=_plain))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    return str(value)


def make_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table as all subcommands show them."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_styled(cell, Text) for cell in row))
    return table


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table: as wide as the terminal, or unwrapped where the output goes to a file or a program."""
    from rich.console import Console

    table = make_table(columns, rows)
    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(table)


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
}


def _styled(cell: str, text: Any) -> Any:
    # Text takes a cell literally; a str would be searched for markup in square brackets.
    return text(cell, style=_STYLES.get(cell, ""))


def show(value: Any) -> str:
    """A setting's value as it would be written."""
    if isinstance(value, bool):
        return str(value).lower()
    if value is None:
        return "-"
    if isinstance(value, tuple):
        return ", ".join(value) or "(empty)"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={item}" for name, item in value.items()) or "(empty)"
    return str(value) if isinstance(value, (str, int, float, Path)) else repr(value)

"""What the steps of the tour share: a temporary folder, output on the terminal, and the loop over all steps.

A step is a function that takes the :class:`Tour`, shows what it does, raises if a check fails (``expect``), and returns
a sentence about the result.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from rich.box import SIMPLE_HEAD
from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from zCLI import zCLI
from zcli_core.errors import ZCLIError

T = TypeVar("T")

_MARGIN = 3
_WIDEST = 100


class StepFailed(Exception):
    """A check of a step failed. The message names it."""


def expect(holds: object, message: str) -> None:
    """Raise :class:`StepFailed` with this message if the condition is false."""
    if not holds:
        raise StepFailed(message)


class Tour:
    """The state of the tour: a temporary folder, the terminal, and everything that is closed at the end."""

    def __init__(self, *, local: bool = False) -> None:
        """Make the temporary folder.

        Args:
            local: Send nothing to other machines.
        """
        self.local = local
        self.console = Console(highlight=False)
        self.console.width = min(self.console.width, _WIDEST)
        self.resources = contextlib.ExitStack()
        self.folder = Path(self.resources.enter_context(tempfile.TemporaryDirectory(prefix="zcli-tour-")))
        os.environ["XDG_STATE_HOME"] = str(self.folder / "state")  # the control sockets of all servers are there
        self.apps: list[zCLI] = []
        self.sockets_before = open_sockets()
        self._made: dict[Callable[[Tour], Any], Any] = {}

    def app(self, title: str, **settings: Any) -> zCLI:
        """Make a zCLI object that prints nothing, logs into the folder of the tour, and is closed at the end."""
        quiet = {"deployment": "Production", "logger": "PROD", "logger_path": str(self.folder / "logs")}
        z = self.resources.enter_context(zCLI({"title": title, **quiet, **settings}))
        self.apps.append(z)
        return z

    def once(self, make: Callable[[Tour], T]) -> T:
        """Return the result of ``make(tour)``, which is called at most once."""
        if make not in self._made:
            self._made[make] = make(self)
        return self.made(make)  # type: ignore[return-value]

    def made(self, make: Callable[[Tour], T]) -> T | None:
        """Return the result of ``make(tour)`` if a step has called it, else None."""
        return self._made.get(make)

    # --- the terminal ---

    def print(self, text: str, style: str = "", *, deeper: int = 0) -> None:
        """Print one or more lines of a step. A long line continues under its own indentation."""
        for line in text.split("\n"):
            words = line.lstrip()
            if words:
                self.render(Text(words, style), deeper=deeper + len(line) - len(words))
            else:
                self.console.print()

    def render(self, what: RenderableType, *, deeper: int = 0) -> None:
        """Print anything that rich can print, below the title of a step."""
        self.console.print(Padding(what, (0, 0, 0, _MARGIN + deeper), expand=False))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """Print a table. Cells are plain text."""
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="dim")
        for column in columns:
            table.add_column(column, overflow="fold")
        for row in rows:
            table.add_row(*map(Text, row))
        self.render(table)


class Step(NamedTuple):
    """The title of a step and its function, which returns a sentence about the result."""

    title: str
    run: Callable[[Tour], str]


def walk(tour: Tour, steps: Sequence[Step]) -> list[Step]:
    """Run all steps, also after one has failed. Return the steps that failed."""
    failed = []
    for number, step in enumerate(steps, 1):
        tour.console.print(Text(f"\n{number}  {step.title}", "bold"))
        began = time.monotonic()
        try:
            mark, style, result = "✓", "green", step.run(tour)
        except Exception as error:  # noqa: BLE001 - the other steps run
            failed.append(step)
            mark, style, result = "✗", "bold red", _cause(error)
        line = Table.grid(expand=True, padding=(0, 2, 0, 0))
        line.add_column()
        line.add_column(ratio=1, overflow="fold")
        line.add_column(justify="right", no_wrap=True)
        line.add_row(Text(mark, style), Text(result, style), Text(f"{time.monotonic() - began:.1f} s", "dim"))
        tour.console.print(line)
    return failed


def _cause(error: Exception) -> str:
    """Return the message of a failure and, for an unexpected exception, its place."""
    if isinstance(error, (StepFailed, ZCLIError)):
        return str(error)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"


def open_sockets() -> set[str]:
    """Return the open sockets of this process, or an empty set if the system does not list them."""
    names = set()
    with contextlib.suppress(OSError):  # a system without /proc
        for descriptor in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):  # the listing's own descriptor, closed by now
                names.add(os.readlink(f"/proc/self/fd/{descriptor}"))
    return {name for name in names if name.startswith("socket:")}


@contextlib.contextmanager
def project(folder: Path, variables: Mapping[str, str]) -> Iterator[None]:
    """Work in a folder with these environment variables, and without other variables of zCLI."""
    before, environment = Path.cwd(), dict(os.environ)
    for name in environment:
        if name.startswith(("ZCLI_", "WEBSOCKET_")):
            del os.environ[name]
    os.environ.update(variables)
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(environment)

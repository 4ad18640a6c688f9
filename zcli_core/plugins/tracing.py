"""``ZCLI_TRACE_HOOKS=1``: a line for each call of a plugin: hook, arguments, result, duration.

Imported only where somebody asks for it. Nothing that may be a secret or a message gets into a line: of an argument it
shows what is listed in :func:`shown`, of a result only its kind, of an error only its type.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Sized
from typing import Any

from zcli_core.log import FILE_ONLY
from zcli_core.printable import print_line

_ON = frozenset({"1", "true", "yes", "on"})
_OFF = frozenset({"", "0", "false", "no", "off"})
#: Arguments whose text is a plugin's own word, such as the name of a service.
_PLAIN_TEXTS = frozenset({"name"})
_LONGEST = 120
#: Lines that are kept for a log that is not there yet; a command never has one.
_KEPT = 1000


def is_on(said: str) -> bool:
    """What ``ZCLI_TRACE_HOOKS`` says. Raises ValueError for what is neither on nor off."""
    word = said.strip().casefold()
    if word not in _ON | _OFF:
        raise ValueError(f"expected 1 or 0, not {said[:40]!r}")
    return word in _ON


class Trace:
    """The observer that traces: to stderr until there is a log, which is then told what came before."""

    def __init__(self) -> None:
        self._log: logging.Logger | None = None
        self._early: deque[str] = deque(maxlen=_KEPT)

    def log_to(self, log: logging.Logger) -> None:
        """Trace to the child ``hooks`` of this log, at INFO, whatever the log's own level."""
        self._log = log.getChild("hooks")
        self._log.setLevel(logging.INFO)
        for line in self._early:
            self._log.info("%s", line, extra=FILE_ONLY)  # the console has seen it
        self._early.clear()

    def _say(self, line: str) -> None:
        if self._log is not None:
            self._log.info("%s", line)
            return
        self._early.append(line)
        if sys.stderr is not None:
            print_line(f"zcli: {line}", sys.stderr)

    def __call__(
        self, plugin: str, what: str, names: tuple[str, ...], function: Callable[..., Any]
    ) -> Callable[..., Any]:
        """A function that does the same and says so."""
        importing = what == "import"

        def traced(*values: Any) -> Any:
            arguments = ", ".join(f"{name}={shown(name, value)}" for name, value in zip(names, values, strict=False))
            call = f"plugin {plugin}: {what}{'' if importing else f'({arguments})'}"
            began = time.perf_counter()
            try:
                result = function(*values)
            except BaseException as error:
                self._say(f"{call} raised {type(error).__name__} after {_milliseconds(began)}")
                raise
            self._say(f"{call} {'done' if importing else f'gave {_kind(result)}'} in {_milliseconds(began)}")
            return result

        return traced


def _milliseconds(began: float) -> str:
    return f"{(time.perf_counter() - began) * 1000:.3f} ms"


def shown(name: str, value: Any) -> str:
    """An argument as a trace may show it.

    Numbers and None as they are; zCLI's own objects as their ``repr`` shows them, which never holds a secret; of
    everything else the type and, where it has one, the length.
    """
    kind = type(value)
    plain = kind in (bool, int, float, type(None)) or (name in _PLAIN_TEXTS and kind is str)
    # A tuple of zCLI's own, such as a Context, shows what it holds.
    ours = str(kind.__module__).partition(".")[0] == "zcli_core" and not issubclass(kind, tuple)
    if plain or ours:
        with contextlib.suppress(Exception):  # a number may be too long for Python to show
            return _short(repr(value))
    return f"<{_sized(value)}>"


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _sized(value: Any) -> str:
    kind = type(value)
    # A tuple with names has parts, not a length that says anything.
    if isinstance(value, Sized) and not hasattr(kind, "_fields"):
        with contextlib.suppress(Exception):
            return f"{kind.__name__} of {len(value)}"
    return kind.__name__


def _kind(result: Any) -> str:
    """What a call gave: the number and the kinds of a list's items, else the kind."""
    if result is None:
        return "nothing"
    if not isinstance(result, list):
        return type(result).__name__
    kinds = ", ".join(dict.fromkeys(_name(item) for item in result))
    return f"{len(result)} ({kinds})" if result else "0 items"


def _name(item: Any) -> str:
    return item.__name__ if isinstance(item, type) else type(item).__name__

"""Makes the subsystems of one ``zCLI`` object when they are first used, and closes them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from zcli_core.errors import ConfigError, is_ctrl_c
from zcli_core.plugins.host import PluginHost
from zcli_core.plugins.records import SUBSYSTEM
from zcli_core.subsystems.contract import SubsystemContext
from zcli_core.system.forks import call_after_fork

if TYPE_CHECKING:
    from zcli_core.subsystems.contract import Application

T = TypeVar("T")


class Subsystems:
    """The subsystems of one ``zCLI`` object, by name."""

    def __init__(self, host: PluginHost) -> None:
        self._host = host
        self._names: dict[str, str] | None = None
        self._made: dict[str, Any] = {}
        self._being_made: list[str] = []
        self._closed = False
        self._lock = threading.RLock()
        call_after_fork(self)

    def _after_fork(self) -> None:
        """Replace the lock, because a thread that does not exist in the child may hold it."""
        self._lock = threading.RLock()

    @property
    def names(self) -> dict[str, str]:
        """The name of each subsystem by each of its names; a provider may have aliases."""
        if self._names is None:
            found = self._host.providers(SUBSYSTEM)
            # A name of several plugins is an error when it is used.
            self._names = {n: each[0].provider.name if len(each) == 1 else n for n, each in found.items()}
        return self._names

    def get(self, name: str, app: Application) -> Any:
        """Return the subsystem of that name, which is made at its first use.

        Raises:
            ConfigError: No plugin provides it, several do, a module that it needs is not installed, or it cannot be
                made.
            RuntimeError: The object is closed, and the subsystem was never used.
        """
        name = self.names.get(name, name)
        made = self._made.get(name)
        if made is not None:
            return made
        with self._lock:
            if name not in self._made:
                self._made[name] = self._make(name, app)
            return self._made[name]

    def _make(self, name: str, app: Application) -> Any:
        if self._closed:
            raise RuntimeError("this zCLI object is closed")
        if name in self._being_made:
            circle = " -> ".join((*self._being_made[self._being_made.index(name) :], name))
            raise ConfigError(f"the factories of these subsystems use each other: {circle}; one of them must not")
        self._being_made.append(name)
        try:
            context = SubsystemContext(app.config, app.log.getChild(name), app)
            made = self._host.make(SUBSYSTEM, context, name)
        finally:
            self._being_made.pop()
        if not callable(getattr(made, "close", None)):
            raise ConfigError(f"the subsystem {name!r} cannot be used: its factory returned {made!r}, without close()")
        return made

    def close(self, log: logging.Logger) -> None:
        """Close every subsystem that was made, the newest first. An error is logged, and the others are closed."""
        with self._lock:
            self._closed = True
            made = list(self._made.items())
        for name, subsystem in reversed(made):
            _close(name, subsystem.close, log)


def _close(name: str, close: Callable[[], None], log: logging.Logger) -> None:
    try:
        close()
    except BaseException as error:
        if is_ctrl_c(error):
            raise
        log.exception("closing the subsystem %s failed", name)

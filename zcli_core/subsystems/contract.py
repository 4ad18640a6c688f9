"""The contract between the core and a subsystem, which a plugin adds to the ``zCLI`` object as an attribute.

The hook ``zcli_subsystems`` returns providers. ``Provider("greeter", "says hello", make_greeter)`` becomes
``z.greeter``: the first use of the attribute, in any thread, calls ``make_greeter(context)``, and every use gives the
same object. The context has the application itself, because a subsystem may need every part of it, while the factories
of the other kinds get only the configuration and a log.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from zcli_core.plugins.contract import Context

if TYPE_CHECKING:
    import logging

    from zcli_core.comm import Comm
    from zcli_core.config import Config
    from zcli_core.subsystems.bifrost import Bifrost

T = TypeVar("T")


class Application(Protocol):
    """The ``zCLI`` object, as a subsystem sees it."""

    @property
    def config(self) -> Config:
        """The configuration in force."""
        ...

    @property
    def log(self) -> logging.Logger:
        """The application's log."""
        ...

    @property
    def log_file(self) -> str | None:
        """Path of the log file, or None if there is none."""
        ...

    @property
    def comm(self) -> Comm:
        """HTTP, ports, WebSockets and services."""
        ...

    @property
    def bifrost(self) -> Bifrost:
        """Named events between browsers and the application."""
        ...

    def subsystem(self, name: str, kind: type[T]) -> T:
        """Return another subsystem, which is made if this is its first use; see :meth:`zCLI.zCLI.subsystem`."""
        ...


class SubsystemContext(Context):
    """What the factory of a subsystem gets: the configuration in force, a logger, and the application.

    The factory may keep ``app`` and use it later. It may use other subsystems, but not wait for a thread that does.

    Attributes:
        app: The ``zCLI`` object. It is complete.
    """

    app: Application

    def __new__(cls, config: Config, log: logging.Logger, app: Application) -> SubsystemContext:
        """Make a context; ``app`` is not one of the values of the tuple."""
        made = super().__new__(cls, config, log)
        made.app = app
        return made


class Subsystem(Protocol):
    """What the factory of a subsystem returns. Scripts use the other methods that it has."""

    def close(self) -> None:
        """End what the subsystem started and release what it holds. Called at most once.

        It is called when the ``zCLI`` object is closed, before ``comm``. Subsystems are closed in the reverse order in
        which they were made, so those that the factory used still work. An error is logged.
        """
        ...

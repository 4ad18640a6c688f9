"""What every plugin hands in: a named offer that costs nothing until it is chosen."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    import logging

    from zcli_core.config import Config

T = TypeVar("T")

#: The version of the contracts in this package. A plugin's module states the one it was written for:
#: ``ZCLI_CONTRACT = 1``. It goes up only when a plugin that was right before would now be wrong.
CONTRACT_VERSION = 1


class Context(NamedTuple):
    """What a factory is given: the configuration in force and a logger of its own."""

    config: Config
    log: logging.Logger


class Provider(Generic[T]):
    """Something a plugin can make, under a name that configuration selects.

    ``factory`` takes a :class:`Context` and returns the thing itself. It is called at most once per ``zCLI``
    object and only when the name is selected, so the heavy imports belong inside it.

    ``needs`` names the modules that the factory imports and that may not be installed; ``install`` is what pip then
    has to be given. The offer is shown as installable where one of them is missing, and choosing it is an error that
    has the command.
    """

    def __init__(
        self,
        name: str,
        summary: str,
        factory: Callable[[Context], T],
        aliases: tuple[str, ...] = (),
        *,
        needs: tuple[str, ...] = (),
        install: str | None = None,
    ) -> None:
        self.name = name
        self.summary = summary
        self.factory = factory
        self.aliases = aliases
        self.needs = needs
        self.install = install

    def missing(self) -> list[str]:
        """Those of ``needs`` that are not installed; of a top-level module nothing is imported."""
        return [module for module in self.needs if not _is_installed(module)]

    def __repr__(self) -> str:
        return f"<Provider {self.name!r}: {self.summary}>"


def _is_installed(module: str) -> bool:
    from importlib.util import find_spec

    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # its parent is missing; a test has put None in its place
        return False
    except (Exception, SystemExit):  # noqa: BLE001 - its parent is there and broken, which whoever imports it will say
        return True

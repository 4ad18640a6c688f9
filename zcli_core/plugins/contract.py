"""What every plugin uses: the provider, the context of a factory, and the version of the contracts."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    import logging

    from zcli_core.config import Config

T = TypeVar("T")

#: Version of the contracts. The module of a plugin states the version it was written for: ``ZCLI_CONTRACT = 1``. The
#: version is raised only when existing plugins would no longer work.
CONTRACT_VERSION = 1


class Context(NamedTuple):
    """What a factory gets: the configuration in force and a logger."""

    config: Config
    log: logging.Logger


class Provider(Generic[T]):
    """A named factory of a plugin. The configuration selects it by its name."""

    def __init__(
        self,
        name: str,
        summary: str,
        factory: Callable[[Any], T],
        aliases: tuple[str, ...] = (),
        *,
        needs: tuple[str, ...] = (),
        install: str | None = None,
    ) -> None:
        """Describe what the plugin provides.

        Args:
            name: Name that selects it.
            summary: What it is, in a few words.
            factory: Takes a :class:`Context` and returns the object; that of a subsystem takes a
                :class:`~zcli_core.subsystems.contract.SubsystemContext`. It is called at most once for each ``zCLI``
                object, and only if the name is selected, so slow imports belong into it.
            aliases: Further names that select it.
            needs: Modules that the factory imports and that may not be installed. If one is missing, ``zcli plugins``
                shows the provider as installable, and selecting it is an error with the command to run.
            install: Argument for ``pip install`` that installs ``needs``, such as ``"zcli-mine[extra]"``.
        """
        self.name = name
        self.summary = summary
        self.factory = factory
        self.aliases = aliases
        self.needs = needs
        self.install = install

    def missing(self) -> list[str]:
        """Return the modules in ``needs`` that are not installed. Top-level modules are not imported."""
        return [module for module in self.needs if not _is_installed(module)]

    def __repr__(self) -> str:
        return f"<Provider {self.name!r}: {self.summary}>"


def _is_installed(module: str) -> bool:
    from importlib.util import find_spec

    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # its parent package is missing, or is None in sys.modules
        return False
    except (Exception, SystemExit):  # noqa: BLE001 - its parent package is broken; importing it reports that
        return True

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
    """

    def __init__(self, name: str, summary: str, factory: Callable[[Context], T], aliases: tuple[str, ...] = ()) -> None:
        self.name = name
        self.summary = summary
        self.factory = factory
        self.aliases = aliases

    def __repr__(self) -> str:
        return f"<Provider {self.name!r}: {self.summary}>"

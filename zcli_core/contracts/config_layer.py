"""The contract of a configuration layer: a source of values, each with its origin."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    import os

    from zcli_core.config.settings import Setting


class Entry(NamedTuple):
    """One value as a layer found it, not yet converted.

    ``name`` is a setting's key (``"websocket.port"``) or, with ``is_variable``, an environment-style name
    (``"WEBSOCKET_PORT"``). ``value`` may be a mapping: it then stands for everything below its key. None means
    "not set here". ``origin`` tells a person where to look: ``".zEnv:3"``, ``"zConfig.machine.yaml:12"``.
    ``text`` is the value as it was written, for sources that read ``1.10`` as a number.
    """

    name: str
    value: Any
    origin: str
    is_variable: bool = False
    text: str | None = None


class LayerProblem(Exception):  # noqa: N818 - it becomes a ConfigError together with all others
    """Raised by :meth:`ConfigLayer.read` for a source that cannot be used: the message names file, line and cause."""


class LayerContext:
    """What a layer may look at while it reads.

    ``zspark`` is the mapping given to ``zCLI``; ``environ`` the process's environment, as a copy;
    ``script_directory`` the running script's folder, or None in an interactive session;
    ``settings`` every setting that is declared so far, by key.
    ``base_directories`` is where relative paths are looked up, in this order; a layer may append to it.
    """

    def __init__(
        self,
        zspark: Mapping[str, Any],
        environ: Mapping[str, str],
        working_directory: str,
        script_directory: str | None,
        settings: Mapping[str, Setting],
    ) -> None:
        self.zspark = zspark
        self.environ = environ
        self.working_directory = working_directory
        self.script_directory = script_directory
        self.settings = settings
        self.base_directories: list[str | os.PathLike[str]] = []


class ConfigLayer(Protocol):
    """A source of configuration values.

    ``name`` is shown to people (``zcli config``); ``order`` ranks the layer, higher wins over lower.
    """

    @property
    def name(self) -> str:
        """What people call the layer."""

    @property
    def order(self) -> int:
        """Its rank."""

    def read(self, context: LayerContext) -> Iterable[Entry]:
        """Yield what this layer sets; nothing to read is no error.

        Called once for every ``zCLI`` object, or twice if the plugin is in the group ``zcli.first``: before and after
        the other plugins have declared their settings.

        :raises LayerProblem: the source is there but cannot be read or parsed.
        """

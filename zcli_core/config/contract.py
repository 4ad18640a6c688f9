"""The contract of a configuration layer: a source of values, each with its origin."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from zcli_core.config.explanation import Value
    from zcli_core.config.settings import Setting


class Entry(NamedTuple):
    """One value as a layer found it, not yet converted.

    ``name`` is a setting's key (``"websocket.port"``) or, with ``is_variable``, an environment-style name
    (``"WEBSOCKET_PORT"``). ``value`` may be a mapping: it then stands for everything below its key. None means
    "not set here". ``origin`` tells a person where to look: ``".zEnv:3"``, ``"zConfig.machine.yaml:12"``.
    ``text`` is the value as it was written, for sources that read ``1.10`` as a number.
    ``secret``: the value is shown nowhere, even if its setting is not declared a secret.
    ``export``: a variable that is another library's is put into the process's environment, in place of the value there.
    Names that steer a loader, an interpreter, TLS or a proxy are not.
    ``folder`` is where a relative path is looked up first: the folder of the file that says it.
    """

    name: str
    value: Any
    origin: str
    is_variable: bool = False
    text: str | None = None
    secret: bool = False
    export: bool = False
    folder: str | None = None


class LayerProblem(Exception):  # noqa: N818 - it becomes a ConfigError together with all others
    """Raised by :meth:`ConfigLayer.read` for a source that cannot be used: the message names file, line and cause."""


class UntrustedSource(LayerProblem):
    """A source is not read, because another user owns it or may write it (:mod:`zcli_core.system.trusted`)."""


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
        files: dict[str, bytes] | None = None,
    ) -> None:
        self._zspark = zspark
        #: Whether a layer has looked at ``zspark``. If none does, what the script says would not be in force.
        self.zspark_was_read = False
        self.environ = environ
        self.working_directory = working_directory
        self.script_directory = script_directory
        self.settings = settings
        self.base_directories: list[str | os.PathLike[str]] = []
        #: What :meth:`read_file` has read since the start began.
        self._files = {} if files is None else files
        #: The ``.zEnv`` that was read, for errors about what is missing in it. Its layer sets it.
        self.env_file_in_use: str | None = None
        #: What zCLI tells the layers that need settings; :meth:`value` and :meth:`origin` read it.
        self.found: Mapping[str, Value] | None = None
        #: What :meth:`warn` was told.
        self.warnings: list[str] = []

    @property
    def zspark(self) -> Mapping[str, Any]:
        """The mapping given to ``zCLI``."""
        self.zspark_was_read = True
        return self._zspark

    def warn(self, warning: str) -> None:
        """Have a warning logged once the log is open, once however often the layer is read."""
        if warning not in self.warnings:
            self.warnings.append(warning)

    def read_file(self, file: str, max_bytes: int, *, named: bool = False, remedy: str = "") -> bytes | None:
        """Return what a file holds, at most ``max_bytes`` and one more; None if it is not there, or is a folder.

        A file that was found where files of its name are looked for is read only if it and its folder are trusted
        (:mod:`zcli_core.system.trusted`). One that a user has named is read whoever owns it: ``named``.

        A file that is not regular, such as a named pipe or ``/dev/fd/3``, can be read only once, so every file is read
        once a start, however often layers are read. It waits until the writer of a pipe has closed it.

        :param remedy: how a user who trusts the file has it read, for the error: ``"name it: ZCLI_ENV_FILE={file}"``.
            ``{file}`` and ``{folder}`` stand for the paths, quoted for a shell.
        :raises OSError: it cannot be read.
        :raises UntrustedSource: another user owns the file or its folder, or may write it.
        """
        if file not in self._files:
            import stat

            try:
                mode = os.stat(file).st_mode
            except (OSError, ValueError):  # or it is in a folder that this user may not look into
                return None
            if stat.S_ISDIR(mode):
                return None
            with open(file, "rb") if named else os.fdopen(_open_found(file, remedy), "rb") as stream:
                self._files[file] = stream.read(max_bytes + 1)
        return self._files[file]

    def value(self, key: str) -> Any:
        """The value of a setting that the layer names in ``needs``, from all other layers.

        Converted, with a path made absolute. The default, if no layer sets it; None, if no plugin declares it, as is
        so when a layer of the group ``zcli.first`` is read for the first time.

        :raises LookupError: to a layer that needs nothing.
        :raises LayerProblem: the value cannot be used.
        """
        if self.found is None:
            raise LookupError(f"a layer is told the value of {key} only if it names it in its attribute needs")
        found = self.found.get(key)
        if found is not None:
            from zcli_core.config.settings import UnusableValue  # the configuration imports this module

            if isinstance(found.value, UnusableValue):
                raise LayerProblem(found.value.problem)
            return found.value
        setting = self.settings.get(key)
        return None if setting is None else setting.default

    def origin(self, key: str) -> str:
        """Who set that value, for error messages: ``"zConfig.machine.yaml:12"``."""
        found = (self.found or {}).get(key)
        return "nobody" if found is None else found.origin


def _open_found(file: str, remedy: str) -> int:
    from zcli_core.system.trusted import UntrustedError, open_trusted

    try:
        return open_trusted(file)
    except UntrustedError as error:
        raise UntrustedSource(error.describe(file, remedy)) from None


class ConfigLayer(Protocol):
    """A source of configuration values.

    ``name`` is shown to people (``zcli config``); ``order`` ranks the layer, higher wins over lower.

    A layer that has to be told where to read may have an attribute ``needs``, the keys of settings:
    ``needs = ("vault.url",)``. It is read after the layers that need nothing, and again if another layer that needs
    settings sets one of its own. It finds what the other layers say with :meth:`LayerContext.value`. It cannot set what
    it needs itself.
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
        the other plugins have declared their settings; more often if it ``needs`` settings. Read files with
        :meth:`LayerContext.read_file`.

        :raises LayerProblem: the source is there but cannot be read or parsed.
        """

"""The contract of a configuration layer: a source of values, each with its origin."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from zcli_core.config.settings import Setting, UnusableValue

if TYPE_CHECKING:
    from zcli_core.config.resolution import Value


class Entry(NamedTuple):
    """One value as a layer found it, not converted.

    Attributes:
        name: Key of a setting (``"websocket.port"``) or, with ``is_variable``, an environment-style name
            (``"WEBSOCKET_PORT"``).
        value: The value. A mapping stands for everything below its key. None means "not set here".
        origin: Where a user finds the value: ``".zEnv:3"``, ``"zConfig.machine.yaml:12"``.
        is_variable: Whether ``name`` is an environment-style name. ``value`` is then a text or None.
        text: The value as it is written, for sources that read ``1.10`` as a number.
        secret: Whether the value must never be shown, even if its setting is not declared a secret.
        export: Whether a variable that other libraries read goes into the process's environment, in place of the value
            there. Names that steer a loader, an interpreter, TLS or a proxy never do.
        folder: Folder in which a relative path is looked up first: that of the file that sets it.
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

    Attributes:
        environ: A copy of the process's environment.
        working_directory: Path of the working directory.
        script_directory: Folder of the running script, or None in an interactive session.
        base_directories: Folders in which relative paths are looked up, in this order. A layer may append to it.
        env_file_in_use: Path of the ``.zEnv`` that the layer has read, for errors about missing values, or None.
        warnings: The warnings that :meth:`warn` has collected for the layer.
        needed: Values of the settings that the layer needs, for :meth:`value` and :meth:`origin`.
        zspark_was_read: Whether the layer has looked at :attr:`zspark`.
        settings_were_read: Whether the layer has looked at :attr:`settings`.
    """

    def __init__(
        self,
        zspark: Mapping[str, Any],
        environ: Mapping[str, str],
        working_directory: str,
        script_directory: str | None,
        settings: Mapping[str, Setting],
    ) -> None:
        self._zspark = zspark
        self._settings = settings
        self._files: dict[str, bytes] = {}
        self.environ = environ
        self.working_directory = working_directory
        self.script_directory = script_directory
        self.needed: Mapping[str, Value | None] = {}
        self.begin_reading()

    def begin_reading(self) -> None:
        """Forget what the last layer did."""
        self.base_directories: list[str | os.PathLike[str]] = []
        self.env_file_in_use: str | None = None
        self.warnings: list[str] = []
        self.zspark_was_read = False
        self.settings_were_read = False

    @property
    def zspark(self) -> Mapping[str, Any]:
        """The mapping given to ``zCLI``."""
        self.zspark_was_read = True
        return self._zspark

    @property
    def settings(self) -> Mapping[str, Setting]:
        """Every setting that is declared so far, by key. A layer that looks at it is read again when it has grown."""
        self.settings_were_read = True
        return self._settings

    def warn(self, warning: str) -> None:
        """Have a warning logged once the log is open. The same text is logged once."""
        if warning not in self.warnings:
            self.warnings.append(warning)

    def read_file(self, file: str, max_bytes: int, *, named: bool = False, remedy: str = "") -> bytes | None:
        """Read a file, once per start, because a named pipe or ``/dev/fd/3`` can be read only once.

        Reading a pipe waits until its writer has closed it.

        Args:
            file: Path of the file.
            max_bytes: Largest size that the layer accepts, in bytes. One byte more is read, to detect a larger file.
            named: Whether a user has named this file. Any other file is read only if it and its folder are trusted
                (:mod:`zcli_core.system.trusted`).
            remedy: What a user who trusts the file can do, for the error: ``"name it: ZCLI_ENV_FILE={file}"``.
                ``{file}`` and ``{folder}`` stand for the paths, quoted for a shell.

        Returns:
            The content, or None if the file does not exist or is a folder.

        Raises:
            OSError: The file cannot be read.
            UntrustedSource: Another user owns the file or its folder, or may write it.
        """
        if file not in self._files:
            import stat

            try:
                mode = os.stat(file).st_mode
            except (OSError, ValueError):  # it is not there, or in a folder that this user may not look into
                return None
            if stat.S_ISDIR(mode):
                return None
            with open(file, "rb") if named else os.fdopen(_open_found(file, remedy), "rb") as stream:
                self._files[file] = stream.read(max_bytes + 1)
        return self._files[file]

    def value(self, key: str) -> Any:
        """Return the value of a setting that the layer names in ``needs``, as all other layers set it.

        Returns:
            The value, converted, with a path made absolute. The default if no layer sets it. None if no plugin declares
            the setting, which may be so when a layer of the group ``zcli.first`` is read for the first time.

        Raises:
            LookupError: The layer does not name the setting in ``needs``.
            LayerProblem: The value cannot be used.
        """
        if key not in self.needed:
            raise LookupError(f"a layer must name {key} in its attribute needs to get its value")
        found = self.needed[key]
        if found is None:
            return None
        if isinstance(found.value, UnusableValue):
            raise LayerProblem(found.value.problem)
        return found.value

    def origin(self, key: str) -> str:
        """Return where the value of :meth:`value` is set, for error messages: ``"zConfig.machine.yaml:12"``."""
        found = self.needed.get(key)
        return "no layer" if found is None else found.origin


def _open_found(file: str, remedy: str) -> int:
    from zcli_core.system.trusted import UntrustedError, open_trusted

    try:
        return open_trusted(file)
    except UntrustedError as error:
        raise UntrustedSource(error.describe(file, remedy)) from None


class ConfigLayer(Protocol):
    """A source of configuration values.

    A layer that needs settings to know where to read names their keys in an attribute ``needs``, such as
    ``needs = ("vault.url",)``. It gets their values from :meth:`LayerContext.value`, and it cannot set them itself. It
    is read after the layers that need nothing, and again if another layer that needs settings changes their values.
    A layer that sets nothing, and only refuses settings that contradict each other, has ``only_checks = True``. A
    misspelt name of a setting that it needs is then an error only when the setting is used.
    """

    @property
    def name(self) -> str:
        """Name of the layer, as ``zcli config`` shows it."""

    @property
    def order(self) -> int:
        """Rank of the layer. A value of a layer with a higher order wins."""

    def read(self, context: LayerContext) -> Iterable[Entry]:
        """Yield what this layer sets; a source that does not exist sets nothing.

        Called once for every ``zCLI`` object. A layer of a plugin in the group ``zcli.first`` that looks at
        ``context.settings`` is read again when the other plugins have declared their settings. Read files with
        :meth:`LayerContext.read_file`.

        Raises:
            LayerProblem: The source is there but cannot be read or parsed.
        """

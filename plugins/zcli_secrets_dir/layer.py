"""The layer of secret files: the name of a file is the name of a setting or variable, its content is the value.

Docker and Podman mount such folders at ``/run/secrets``, Kubernetes where the pod says. In Kubernetes the files are
links into a hidden folder, which is replaced when a secret changes, so hidden files and folders are ignored.
https://docs.docker.com/engine/swarm/secrets/, https://kubernetes.io/docs/concepts/configuration/secret/
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from zcli_core.config.contract import Entry, LayerContext, LayerProblem

FOLDER = "secrets_dir.folder"
#: The largest secret of Kubernetes, in bytes, and more files than a folder of secrets has. Larger folders are refused.
MAX_BYTES = 1_048_576
MAX_FILES = 1000
_PREFIX = "ZCLI_"


class SecretsDirLayer:
    """The files of the folder that ``secrets_dir.folder`` names.

    A file has the name of a variable (``WEBSOCKET_TOKEN``, ``ZCLI_WEBSOCKET_TOKEN``), also in lower case, or of a
    setting (``websocket.token``). The script can read any other text file with ``config.env("name")``; all other files
    are ignored.
    No value is shown or put into the process's environment, whatever setting it is for.
    """

    name = "secrets"
    order = 250
    needs = (FOLDER,)

    def read(self, context: LayerContext) -> Iterator[Entry]:
        """Yield the values, sorted by name. One newline at the end of a file is not part of its value."""
        folder = context.value(FOLDER)
        if folder is None:
            return
        names = _Names(context)
        taken: dict[str, str] = {}
        for file in _files(str(folder), context.origin(FOLDER)):
            name, ours = names.meant_by(os.path.basename(file))
            other = taken.setdefault(name, file)
            if other is not file:
                raise LayerProblem(f"{file} and {other} both set {name}; remove one of them")
            text = _text(file, ours)
            # An empty file means "not set", as an empty variable does.
            if text == "" and ours:
                setting = context.settings.get(name)
                yield Entry(name if setting is None else setting.variables[0], "", file, is_variable=True)
            elif text is not None:
                yield Entry(name, text, file, is_variable=not names.is_key(name), secret=True)


class _Names:
    """Finds the setting or variable that a file name means."""

    def __init__(self, context: LayerContext) -> None:
        settings = context.settings.values()
        self._variables = {name for each in settings for name in (*each.variables, *each.composites)}
        self._sections = {key.partition(".")[0] for key in context.settings if "." in key} | {"deployments"}

    def meant_by(self, file_name: str) -> tuple[str, bool]:
        """Return the name of the entry, and whether it is for zCLI."""
        variable = file_name.upper()
        if variable in self._variables or variable.startswith(_PREFIX):
            return variable, True
        return file_name, self.is_key(file_name)

    def is_key(self, name: str) -> bool:
        """Return whether a name is a setting's key: it begins with a section and a dot (``tls.crt`` does not)."""
        section, dot, _ = name.partition(".")
        return bool(dot) and section in self._sections


def _files(folder: str, origin: str) -> list[str]:
    """Return the files of the folder, sorted by name, without folders and hidden files."""
    try:
        with os.scandir(folder) as found:
            files = sorted(item.path for item in found if not item.name.startswith(".") and not item.is_dir())
    except OSError as error:
        raise LayerProblem(f"{FOLDER}: cannot read {folder} (set in {origin}): {_cause(error)}") from error
    if len(files) > MAX_FILES:
        raise LayerProblem(
            f"{FOLDER}: {folder} (set in {origin}) has {len(files)} files; at most {MAX_FILES} are allowed"
        )
    return files


def _text(file: str, ours: bool) -> str | None:
    """Return the text of a file; None if it is not a text and not for zCLI.

    Raises:
        LayerProblem: The file cannot be read, or it is for zCLI and not a text. The message never shows the content.
    """
    try:
        # Only regular files: reading a pipe would wait for its writer, and a device might never end.
        data = _read(file) if os.path.isfile(file) or not os.path.exists(file) else None
    except OSError as error:
        raise LayerProblem(f"cannot read {file}: {_cause(error)}") from error
    problem = text = None
    if data is None:
        problem = "not a regular file"
    elif len(data) > MAX_BYTES:
        problem = f"too large; a secret may have at most {MAX_BYTES} bytes"
    elif b"\0" in data:
        problem = "not a text: it has a NUL byte"
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            problem = "the text is not UTF-8"
    if text is None:
        if ours:
            raise LayerProblem(f"{file}: {problem}")
        return None
    return text.removesuffix("\n").removesuffix("\r") if text.endswith("\n") else text


def _read(file: str) -> bytes:
    with open(file, "rb") as stream:
        return stream.read(MAX_BYTES + 1)


def _cause(error: OSError) -> str:
    if isinstance(error, PermissionError):
        return f"permission denied; let the user of this process ({_user()}) read it"
    return str(error.strerror).lower()


def _user() -> str:
    return f"uid {os.geteuid()}" if hasattr(os, "geteuid") else "this account"

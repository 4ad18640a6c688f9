"""The layer of secret files: each file's name is the name of a setting or a variable, what it holds is the value.

Docker and Podman mount such folders at ``/run/secrets``, Kubernetes wherever a pod says. In Kubernetes' the files are
links into a hidden folder that is replaced as a whole when a secret changes; whatever is hidden is passed over.
https://docs.docker.com/engine/swarm/secrets/, https://kubernetes.io/docs/concepts/configuration/secret/
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from zcli_core.config.contract import Entry, LayerContext, LayerProblem

FOLDER = "secrets_dir.folder"
#: As much as Kubernetes and etcd hold in one secret, and more files than any has: what is larger is another folder.
MAX_BYTES = 1_048_576
MAX_FILES = 1000
_PREFIX = "ZCLI_"


class SecretsDirLayer:
    """The files of the folder that ``secrets_dir.folder`` names, which any layer may set. Without it, nothing.

    A file is named like a variable (``WEBSOCKET_TOKEN``, ``ZCLI_WEBSOCKET_TOKEN``; ours in lower case too, as Docker's
    secrets often are) or like a setting (``websocket.token``). All other files are somebody else's: a text is left to
    the script, which finds it with ``config.env("name")``, anything else is passed over. Nothing of the folder is ever
    put into the process's environment, and no value of it is shown, whatever setting it is for.
    """

    name = "secrets"
    order = 250
    needs = (FOLDER,)

    def read(self, context: LayerContext) -> Iterator[Entry]:
        """Yield the folder's values, sorted by name. One newline at the end is not part of a value."""
        folder = context.value(FOLDER)
        if folder is None:
            return
        names = _Names(context)
        taken: dict[str, str] = {}
        for file in _files(str(folder), context.origin(FOLDER)):
            name, ours = names.meant_by(os.path.basename(file))
            other = taken.setdefault(name, file)
            if other is not file:
                raise LayerProblem(f"{file}: {other} already sets {name}; remove one of them")
            text = _text(file, ours)
            # An empty file says "not set", as an empty variable does.
            if text == "" and ours:
                setting = context.settings.get(name)
                yield Entry(name if setting is None else setting.variables[0], "", file, is_variable=True)
            elif text is not None:
                yield Entry(name, text, file, is_variable=not names.is_key(name), secret=True)


class _Names:
    """What file names mean."""

    def __init__(self, context: LayerContext) -> None:
        settings = context.settings.values()
        self._variables = {name for each in settings for name in (*each.variables, *each.composites)}
        self._sections = {key.partition(".")[0] for key in context.settings if "." in key} | {"deployments"}

    def meant_by(self, file_name: str) -> tuple[str, bool]:
        """The name of the entry, and whether it is ours."""
        variable = file_name.upper()
        if variable in self._variables or variable.startswith(_PREFIX):
            return variable, True
        return file_name, self.is_key(file_name)

    def is_key(self, name: str) -> bool:
        """Whether it is a setting's key: it has a dot, and begins with a section's name (``tls.crt`` does not)."""
        section, dot, _ = name.partition(".")
        return bool(dot) and section in self._sections


def _files(folder: str, said_by: str) -> list[str]:
    """Every file of the folder, sorted by name; folders and hidden files are none."""
    try:
        with os.scandir(folder) as found:
            files = sorted(item.path for item in found if not item.name.startswith(".") and not item.is_dir())
    except OSError as error:
        raise LayerProblem(f"{FOLDER}: {folder}, which {said_by} names, cannot be read: {_cause(error)}") from error
    if len(files) > MAX_FILES:
        raise LayerProblem(
            f"{FOLDER}: {folder}, which {said_by} names, holds {len(files)} files, more than a folder of secrets does"
        )
    return files


def _text(file: str, ours: bool) -> str | None:
    """What a file says; None for one that is somebody else's and no text.

    :raises LayerProblem: it cannot be read, or is ours and no text. It never shows what the file holds.
    """
    try:
        # A pipe would keep us waiting for whoever fills it, a device might never end.
        data = _read(file) if os.path.isfile(file) or not os.path.exists(file) else None
    except OSError as error:
        raise LayerProblem(f"{file}: it cannot be read: {_cause(error)}") from error
    problem = text = None
    if data is None:
        problem = "it is no file"
    elif len(data) > MAX_BYTES:
        problem = f"it is too large; a secret has at most {MAX_BYTES} bytes"
    elif b"\0" in data:
        problem = "it is not text: it has a NUL byte"
    else:
        try:
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError:
            problem = "it is not UTF-8 text"
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
        return f"permission denied; let the user this runs as ({_user()}) read it"
    return str(error.strerror).lower()


def _user() -> str:
    return f"uid {os.geteuid()}" if hasattr(os, "geteuid") else "this account"

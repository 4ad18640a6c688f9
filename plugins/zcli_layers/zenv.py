"""The project's layer: a ``.zEnv`` file of ``NAME=value`` lines."""

from __future__ import annotations

import os
from collections.abc import Iterator

from zcli_core.contracts.config_layer import Entry, LayerContext, LayerProblem

FILE_NAME = ".zEnv"
MAX_BYTES = 1_000_000


class ZEnvLayer:
    """The ``.zEnv`` that zSpark's ``env_file`` names, else the working directory's, else the script's folder's."""

    name = ".zEnv"
    order = 300

    def read(self, context: LayerContext) -> Iterator[Entry]:
        """Yield the file's variables with their lines; no file is no error, unless it was named."""
        file = _named_file(context) or _found_file(context, FILE_NAME)
        if file is None:
            return
        context.base_directories.append(os.path.dirname(file))
        context.env_file_in_use = os.path.abspath(file)
        yield from _entries(file)


def _named_file(context: LayerContext) -> str | None:
    name = context.zspark.get("env_file") or context.environ.get("ZCLI_ENV_FILE")
    if not isinstance(name, (str, os.PathLike)):
        return None  # the declared type of env_file complains of it
    path = os.path.expanduser(name)
    found = _found_file(context, path)
    if found is None:
        raise LayerProblem(f"env_file: there is no file {path!r} in {context.working_directory} or beside the script")
    return found


def _found_file(context: LayerContext, name: str) -> str | None:
    for folder in filter(None, (context.working_directory, context.script_directory)):
        file = os.path.join(folder, name)
        if os.path.isfile(file):  # False, too, in a folder that this user may not look into
            return file
    return None


def _entries(file: str) -> Iterator[Entry]:
    from io import StringIO

    from dotenv import dotenv_values
    from dotenv.parser import parse_stream

    text = _read(file)
    lines: dict[str, int] = {}
    for binding in parse_stream(StringIO(text)):
        written = binding.original.string
        line = binding.original.line + written[: len(written) - len(written.lstrip())].count("\n")
        if binding.error or "\0" in written or "=" in (binding.key or ""):
            raise LayerProblem(f"{file}:{line}: expected NAME=value")
        if binding.key is not None:
            lines[binding.key] = line
    for name, value in dotenv_values(stream=StringIO(text)).items():
        yield Entry(name, value, f"{os.path.basename(file)}:{lines[name]}", is_variable=True, export=True)


def _read(file: str) -> str:
    try:
        with open(file, "rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise LayerProblem(f"{file}: it cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise LayerProblem(f"{file}: it is too large; a .zEnv has at most {MAX_BYTES} bytes")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise LayerProblem(f"{file}:{line}: it is not UTF-8 text") from error

"""The project's layer: a ``.zEnv`` file of ``NAME=value`` lines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from zcli_core.contracts.config_layer import Entry, LayerContext, LayerProblem

FILE_NAME = ".zEnv"


class ZEnvLayer:
    """The ``.zEnv`` that zSpark's ``env_file`` names, else the working directory's, else the script's folder's."""

    name = ".zEnv"
    order = 300

    def read(self, context: LayerContext) -> Iterator[Entry]:
        """Yield the file's variables with their lines; no file is no error, unless it was named."""
        file = _named_file(context) or _found_file(context)
        if file is None:
            return
        context.base_directories.append(file.parent)
        yield from _entries(file)


def _named_file(context: LayerContext) -> Path | None:
    name = context.zspark.get("env_file") or context.environ.get("ZCLI_ENV_FILE")
    if not isinstance(name, (str, Path)):
        return None  # the declared type of env_file complains of it
    path = Path(name).expanduser()
    for folder in filter(None, (context.working_directory, context.script_directory)):
        if (folder / path).is_file():
            return folder / path
    raise LayerProblem(f"env_file: there is no file {str(path)!r} in {context.working_directory} or beside the script")


def _found_file(context: LayerContext) -> Path | None:
    for folder in filter(None, (context.working_directory, context.script_directory)):
        if (folder / FILE_NAME).is_file():
            return folder / FILE_NAME
    return None


def _entries(file: Path) -> Iterator[Entry]:
    from io import StringIO

    from dotenv import dotenv_values
    from dotenv.parser import parse_stream

    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise LayerProblem(f"{file}: it is not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise LayerProblem(f"{file}: it cannot be read: {error.strerror}") from error
    lines: dict[str, int] = {}
    for binding in parse_stream(StringIO(text)):
        written = binding.original.string
        line = binding.original.line + written[: len(written) - len(written.lstrip())].count("\n")
        if binding.error:
            raise LayerProblem(f"{file}:{line}: expected NAME=value")
        if binding.key is not None:
            lines[binding.key] = line
    for name, value in dotenv_values(stream=StringIO(text)).items():
        yield Entry(name, value, f"{file.name}:{lines[name]}", is_variable=True)

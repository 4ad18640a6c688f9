"""The layer of the project: a ``.zEnv`` file of ``NAME=value`` lines."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from zcli_core.config.contract import Entry, LayerContext, LayerProblem

FILE_NAME = ".zEnv"
MAX_BYTES = 1_000_000
_SETTING = "env_file"
# A value in single quotes is literal. python-dotenv would expand variables in it.
_SINGLE_QUOTED = r"""\s*(?:export[^\S\r\n]+)?(?:'[^']+'|[^=\#\s]+)[^\S\r\n]*=[^\S\r\n]*'"""


class ZEnvLayer:
    """The ``.zEnv`` that ``env_file`` names, else that in the working directory, else that beside the script."""

    name = ".zEnv"
    order = 300
    needs = (_SETTING,)

    def read(self, context: LayerContext) -> Iterator[Entry]:
        """Yield the variables of the file with their lines. A missing file is an error if ``env_file`` names it."""
        named = context.value(_SETTING)
        folders = filter(None, (context.working_directory, context.script_directory))
        for file in [str(named)] if named else [os.path.join(folder, FILE_NAME) for folder in folders]:
            text = _read(context, file, bool(named))
            if text is not None:
                context.base_directories.append(os.path.dirname(file))
                context.env_file_in_use = os.path.abspath(file)
                yield from _entries(context, file, text)
                return
        if named:
            where = context.origin(_SETTING)
            raise LayerProblem(
                f"{_SETTING}: no file {file} found (set in {where}); a relative path is looked up in the "
                "working directory, then beside the script"
            )


def _entries(context: LayerContext, file: str, text: str) -> Iterator[Entry]:
    from io import StringIO

    from dotenv.parser import parse_stream
    from dotenv.variables import Variable, parse_variables

    found: dict[str, tuple[str | None, int]] = {}
    # ${NAME} stands for a name of an earlier line only, because the environment holds secrets of other programs.
    known: dict[str, str | None] = {}
    for binding in parse_stream(StringIO(text)):
        written = binding.original.string
        line = binding.original.line + written[: len(written) - len(written.lstrip())].count("\n")
        if binding.error or "\0" in written or "=" in (binding.key or ""):
            raise LayerProblem(f"{file}:{line}: the line must be NAME=value")
        if binding.key is not None:
            value = binding.value
            if value is not None and "${" in value and not re.match(_SINGLE_QUOTED, written):
                atoms = list(parse_variables(value))
                for name in (atom.name for atom in atoms if isinstance(atom, Variable) and atom.default is None):
                    if name not in known:
                        context.warn(
                            f"{file}:{line}: ${{{name}}} is empty, because no earlier line of this file sets {name}; "
                            "variables of the environment are not expanded"
                        )
                value = "".join(atom.resolve(known) for atom in atoms)
            found[binding.key] = value, line
            known[binding.key] = value
    for name, (value, line) in found.items():
        origin = f"{os.path.basename(file)}:{line}"
        yield Entry(name, value, origin, is_variable=True, export=True, folder=os.path.dirname(file))


def _read(context: LayerContext, file: str, named: bool) -> str | None:
    """Return the text of the file; None if it does not exist."""
    try:
        remedy = "name it: ZCLI_ENV_FILE={file}, or env_file in zSpark"
        data = context.read_file(file, MAX_BYTES, named=named, remedy=remedy)
    except OSError as error:
        raise LayerProblem(f"cannot read {file}: {error.strerror}") from error
    if data is None:
        return None
    if len(data) > MAX_BYTES:
        raise LayerProblem(f"{file} is too large; a .zEnv may have at most {MAX_BYTES} bytes")
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise LayerProblem(f"{file}:{line}: the text is not UTF-8") from error

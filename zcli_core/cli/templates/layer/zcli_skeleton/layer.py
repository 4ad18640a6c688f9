"""The layer: every setting that ``skeleton.json`` holds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from zcli_core.config.contract import Entry, LayerContext, LayerProblem

FILE_NAME = "skeleton.json"
#: A settings file is small; the bound keeps another one from using up the machine.
MAX_BYTES = 1_000_000


class SkeletonLayer:
    """Settings from ``skeleton.json``, in the working directory or else beside the script.

    ``read_file`` reads it only if the user, root or the script's owner owns it, and no other user may write it.
    """

    name = "skeleton"
    order = 250  # above the environment (200), below .zEnv (300)

    def read(self, context: LayerContext) -> Iterator[Entry]:
        """Yield what stands at the top of the file; a mapping stands for everything below its key.

        :raises LayerProblem: the file is there, but cannot be read, is not trusted, or is no JSON object.
        """
        for folder in filter(None, (context.working_directory, context.script_directory)):
            file = os.path.join(folder, FILE_NAME)
            try:
                data = context.read_file(file, MAX_BYTES)
            except OSError as error:
                raise LayerProblem(f"{file}: it cannot be read: {error.strerror}") from error
            if data is not None:
                for name, value in _parse(file, data).items():
                    yield Entry(name, value, origin=file, folder=folder)
                return


def _parse(file: str, data: bytes) -> dict[str, Any]:
    import json  # only those who have such a file pay for it

    if len(data) > MAX_BYTES:
        raise LayerProblem(f"{file}: it is too large; a settings file has at most {MAX_BYTES} bytes")
    try:
        found = json.loads(data.decode("utf-8-sig"))
    except json.JSONDecodeError as error:  # its message names the place and never a value, which may be a secret
        raise LayerProblem(f"{file}:{error.lineno}:{error.colno}: no JSON: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise LayerProblem(f"{file}: it is not written in UTF-8 (byte {error.start})") from error
    except (
        ValueError,
        RecursionError,
    ) as error:  # a number of thousands of digits; brackets without end
        raise LayerProblem(f"{file}: it holds what no settings file has: {type(error).__name__}") from error
    if not isinstance(found, dict):
        raise LayerProblem(f"{file}: it has to hold one JSON object, {{...}}")
    return found

"""The layer: the settings in ``skeleton.json``."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from zcli_core.config.contract import Entry, LayerContext, LayerProblem

FILE_NAME = "skeleton.json"
#: The largest file that is read, in bytes.
MAX_BYTES = 1_000_000


class SkeletonLayer:
    """Settings from ``skeleton.json``, in the working directory or, if there is none, in the folder of the script.

    ``read_file`` reads it only if the user, root or the script's owner owns it, and no other user may write it.
    """

    name = "skeleton"
    order = 250  # above the environment (200), below .zEnv (300)

    def read(self, context: LayerContext) -> Iterator[Entry]:
        """Yield each top-level value of the file. A mapping holds the settings below its key.

        Raises:
            LayerProblem: The file exists, but cannot be read, is not trusted, or is not a JSON object.
        """
        for folder in filter(None, (context.working_directory, context.script_directory)):
            file = os.path.join(folder, FILE_NAME)
            try:
                data = context.read_file(file, MAX_BYTES)
            except OSError as error:
                raise LayerProblem(f"{file}: cannot be read: {error.strerror}") from error
            if data is not None:
                for name, value in _parse(file, data).items():
                    yield Entry(name, value, origin=file, folder=folder)
                return


def _parse(file: str, data: bytes) -> dict[str, Any]:
    import json  # only if there is such a file

    if len(data) > MAX_BYTES:
        raise LayerProblem(f"{file}: must have at most {MAX_BYTES} bytes, got more")
    try:
        found = json.loads(data.decode("utf-8-sig"))
    except json.JSONDecodeError as error:  # its message contains no value, which may be a secret
        raise LayerProblem(f"{file}:{error.lineno}:{error.colno}: invalid JSON: {error.msg}") from error
    except UnicodeDecodeError as error:
        raise LayerProblem(f"{file}: invalid UTF-8 (byte {error.start})") from error
    except (
        ValueError,
        RecursionError,
    ) as error:  # a number of thousands of digits; deep nesting
        raise LayerProblem(f"{file}: invalid JSON: {type(error).__name__}") from error
    if not isinstance(found, dict):
        raise LayerProblem(f"{file}: must be a JSON object, such as {{...}}")
    return found

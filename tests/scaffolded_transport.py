"""A second WebSocket transport for the tests: the one that ``zcli new plugin --kind websocket`` makes.

It is written into a temporary folder together with the metadata that pip would add, so no test has to install it.
Its name in the configuration is ``scaffolded``; its own setting is ``scaffolded.messages_per_second``.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from zcli_core.cli.scaffold import Names, make_files
from zcli_core.plugins.contract import Context, Provider
from zcli_core.testing.contract import make_context
from zcli_core.websocket.contract import Transport

NAME = "scaffolded"
_PACKAGE = f"zcli_{NAME}"


@functools.cache
def folder() -> Path:
    """Make the folder with the package and its metadata. It is removed when this process ends."""
    temporary = tempfile.TemporaryDirectory(prefix="zcli-tests-")
    atexit.register(temporary.cleanup)
    made = Path(temporary.name)
    metadata = f"{_PACKAGE}-0.1.0.dist-info"
    files = {path: text for path, text in make_files("websocket", Names(NAME)).items() if path.startswith(_PACKAGE)}
    files[f"{metadata}/METADATA"] = f"Metadata-Version: 2.1\nName: zcli-{NAME}\nVersion: 0.1.0\n"
    files[f"{metadata}/entry_points.txt"] = f"[zcli]\n{_PACKAGE} = {_PACKAGE}\n"
    for path, text in files.items():
        file = made / path
        file.parent.mkdir(exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return made


def variables() -> dict[str, str]:
    """Return the environment variables with which another process finds the transport."""
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder()), os.environ.get("PYTHONPATH")]))}


@contextlib.contextmanager
def installed() -> Iterator[None]:
    """Let this process find the transport as an installed plugin while the block runs."""
    before = list(sys.path)
    sys.path.insert(0, str(folder()))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before


def make(context: Context) -> Transport:
    """Make the transport, with a limit so high that no test reaches it."""
    with installed():
        provider = importlib.import_module(_PACKAGE).zcli_websocket_transports()[0]
        transport: Transport = provider.factory(make_context(**{NAME: {"messages_per_second": 1e9}}))
    return transport


PROVIDER: Provider[Transport] = Provider(NAME, "made from the template", make)

"""Plugins for the benchmark of hooks, installed in folders; as a program, a WebSocket server with them."""

from __future__ import annotations

import sys
import threading
from pathlib import Path

#: The code of a hook that does some work: about ten microseconds of plain Python.
WORK = "sum(range(1000))"

_HEAD = "from zcli_core import hookimpl\nZCLI_CONTRACT = 1\n"
_IDLE = f"{_HEAD}@hookimpl\ndef zcli_settings():\n    return ()\n"
_HTTP = f"{_HEAD}@hookimpl\ndef zcli_http_response(request, outcome, context):\n    {{}}\n"
_WEBSOCKET = (
    f"{_HEAD}@hookimpl\ndef zcli_websocket_opened(connection, context):\n    {{0}}\n"
    "@hookimpl\ndef zcli_websocket_closed(connection, code, reason, context):\n    {0}\n"
)
#: The modules of each set of plugins, by name.
SETS = {
    "none": {},
    "again": {},  # the same again: the difference of two measurements
    "idle": {f"zcli_idle_{number}": _IDLE for number in range(20)},
    "http-trivial": {"zcli_http_trivial": _HTTP.format("pass")},
    "http-work": {"zcli_http_work": _HTTP.format(WORK)},
    "websocket-trivial": {"zcli_websocket_trivial": _WEBSOCKET.format("pass")},
    "websocket-work": {"zcli_websocket_work": _WEBSOCKET.format(WORK)},
}


def install(folder: Path, name: str) -> Path:
    """Install a set of plugins in a folder below ``folder``, to be put on the path."""
    site = folder / name
    site.mkdir()
    for module, code in SETS[name].items():
        (site / f"{module}.py").write_text(code)
        info = site / f"{module}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[zcli]\n{module} = {module}\n")
    return site


def main() -> None:
    """Serve on a free port, print it, and run until the process is ended. The argument is the log's folder."""
    from zCLI import zCLI

    z = zCLI({"deployment": "Production", "logger": "CRITICAL", "title": "bench", "logger_path": sys.argv[1]})
    handle = z.comm.websocket.start_background(port=0)
    print(handle.port, flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()

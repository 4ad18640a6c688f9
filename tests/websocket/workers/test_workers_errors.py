"""Where workers cannot be started, the error says why and what to do."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from script_runs import plain_environment
from supervised import SETTINGS

from zcli_core.app import zCLI
from zcli_core.errors import ConfigError
from zcli_core.websocket.workers import command

MakeZ = Callable[..., zCLI]


def _error(call: Callable[[], Any]) -> str:
    with pytest.raises(ConfigError) as found:
        call()
    return str(found.value)


def test_workers_without_backplane_are_an_error(make_z: MakeZ) -> None:
    """The default would reach only the clients of one worker; ``local`` by name is a decision."""
    text = _error(make_z(workers=4, port=0).comm.websocket.start)
    assert text.startswith("websocket.workers is 4 (zSpark), but websocket.backplane is local (the default)")
    assert "set websocket.backplane to redis or nats, or to local by name" in text


def test_workers_auto_counts_usable_cpus(make_z: MakeZ, monkeypatch: pytest.MonkeyPatch) -> None:
    """One CPU needs no backplane."""
    monkeypatch.setattr(command, "_usable_cpus", lambda: 3)
    z = make_z(workers="auto", port=0)
    assert "websocket.workers is auto, which is 3 (zSpark)" in _error(z.comm.websocket.start)
    monkeypatch.setattr(command, "_usable_cpus", lambda: 1)
    with z.comm.websocket.start_background():
        pass


@pytest.mark.parametrize(("value", "shown"), [(0, "0"), ("many", "'many'"), (1.5, "1.5"), (True, "True")])
def test_workers_invalid_number_is_an_error(make_z: MakeZ, value: Any, shown: str) -> None:
    """The error says what is allowed."""
    text = _error(lambda: make_z(workers=value))
    assert text == (
        f"websocket.workers must be an integer of at least 1 or auto, got {shown} from zSpark; without it, 1 from "
        "defaults (zcli-core) applies"
    )


@pytest.mark.parametrize("name", ["start_background", "serve"])
def test_workers_need_start(make_z: MakeZ, name: str) -> None:
    """Other ways to serve stay in this process."""
    websocket = make_z(workers=2, backplane="local", port=0).comm.websocket
    call = websocket.start_background
    if name == "serve":
        call = lambda: websocket.serve().send(None)  # noqa: E731
    text = _error(call)
    assert f"but {name}() serves in this process only; call z.comm.websocket.start() in a script" in text


def test_workers_in_asgi_are_ignored(make_z: MakeZ) -> None:
    """The ASGI server has workers of its own; the log says so."""
    z = make_z(workers=2)
    z.comm.websocket.asgi()
    file = z._application_log.file
    assert file is not None
    assert "websocket.workers (zSpark) has no effect inside an ASGI server" in Path(file).read_text()


@pytest.mark.parametrize("kind", ["prompt", "notebook", "windows", "thread"])
def test_workers_need_a_program_that_starts_again(make_z: MakeZ, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """The error says what to do instead."""
    websocket = make_z(workers=2, backplane="local", port=0).comm.websocket
    start: Callable[[], Any] = websocket.start
    expected = "put the code into a file and run that with python, or set websocket.workers to 1"
    if kind == "prompt":
        monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    elif kind == "notebook":
        monkeypatch.setattr(builtins, "__IPYTHON__", True, raising=False)
    elif kind == "windows":
        monkeypatch.setattr(command.os, "name", "nt")
        expected = "start the program several times, each with a port of its own"
    else:
        expected = "start() was not called in the main thread"
        start = lambda: _in_thread(websocket.start)  # noqa: E731
    assert expected in _error(start)


def _in_thread(function: Callable[[], Any]) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except ConfigError as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    raise errors[0]


@pytest.mark.skipif(os.name != "posix", reason="another error comes first")
def test_workers_of_a_program_from_stdin_are_an_error(tmp_path: Path) -> None:
    """``python -`` cannot be started again."""
    code = "from zCLI import zCLI\nzCLI({'logger_path': '.'}).comm.websocket.start(port=0)\n"
    done = subprocess.run(
        [sys.executable, "-"], input=code, text=True, capture_output=True, cwd=tmp_path, check=False,
        env=plain_environment(tmp_path, SETTINGS),
    )  # fmt: skip
    assert done.returncode == 1
    assert "it was read from the standard input; put the code into a file" in done.stderr

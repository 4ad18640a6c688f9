"""One script with rooms in one process, in three on Redis and in three on NATS, by settings alone."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from broken_engines import engine, program
from needs import missing
from script_runs import run_script, started_script
from websockets.sync.client import ClientConnection, connect

DEADLINE = 30.0

#: What a user writes.
SERVER = """
from zCLI import zCLI

z = zCLI({"title": "rooms", "logger_path": "."})

async def handler(websocket, message):
    if message.startswith("join "):
        await websocket.join(message[5:])
        await websocket.send("joined")
    else:
        await z.comm.websocket.broadcast(message, to="kitchen", exclude=websocket)

z.comm.websocket.start(handler=handler)
"""

#: A script that does not serve, as one that cron runs.
PUBLISHER = """
from zCLI import zCLI

with zCLI({"title": "cron", "logger_path": "."}) as z:
    sent = z.comm.websocket.publish("from a script", to="kitchen").result()
    print(int(sent), sent.failure)
"""


@contextlib.contextmanager
def _served(script: Path, variables: dict[str, str]) -> Iterator[str]:
    """Run the server and give its URL."""
    with started_script(script, folder=script.parent, variables={"WEBSOCKET_PORT": "0", **variables}) as process:
        assert process.stdout is not None
        printed = ""
        for line in process.stdout:
            printed += line
            if line.startswith("[WebSocket] listening on "):
                yield line.split()[3]
                return
        raise AssertionError(printed)


@contextlib.contextmanager
def _settings(kind: str) -> Iterator[dict[str, str]]:
    """Give the environment variables that choose a backplane, and run its engine."""
    if kind == "local":
        yield {}
        return
    if program(f"{kind}-server") is None:
        missing(f"the program {kind}-server is not installed")
    with engine(kind) as running:
        yield {"ZCLI_WEBSOCKET_BACKPLANE": kind, f"ZCLI_BACKPLANE_{kind.upper()}_URL": running.url}


@contextlib.contextmanager
def _member(url: str) -> Iterator[ClientConnection]:
    with connect(url, proxy=None, open_timeout=DEADLINE) as client:
        client.send("join kitchen")
        assert client.recv(timeout=DEADLINE) == "joined"
        yield client


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "processes"), [("local", 1), ("redis", 3), ("nats", 3)])
def test_script_runs_by_settings_alone(kind: str, processes: int, tmp_path: Path) -> None:
    """The unchanged script reaches the members of a room on all processes; a second script reaches them too."""
    script, publisher = tmp_path / "server.py", tmp_path / "publisher.py"
    script.write_text(SERVER, encoding="utf-8")
    publisher.write_text(PUBLISHER, encoding="utf-8")
    with contextlib.ExitStack() as stack:
        variables = stack.enter_context(_settings(kind))
        urls = [stack.enter_context(_served(script, variables)) for _ in range(processes)]
        members = [stack.enter_context(_member(urls[number % processes])) for number in range(6)]
        outsider = stack.enter_context(connect(urls[0], proxy=None))
        for number, member in enumerate(members):
            member.send(f"from {number}")
            for other in members:
                if other is not member:
                    assert other.recv(timeout=DEADLINE) == f"from {number}"
        if kind != "local":
            done = run_script(publisher, folder=tmp_path, variables=variables)
            assert done.stdout.splitlines()[-1] == "0 None", done.stdout + done.stderr
            for member in members:
                assert member.recv(timeout=DEADLINE) == "from a script"
        for silent in (*members, outsider):
            with pytest.raises(TimeoutError):
                silent.recv(timeout=0.1)

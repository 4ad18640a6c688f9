"""``z.walker.run()``, the ways to serve zBifrost, and the files that it serves."""

from __future__ import annotations

import asyncio
import http.client
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from asgi_serving import InMemoryServer
from bifrost_serving import DEADLINE, Browser, Served
from script_runs import run_script, started_script
from websockets.sync.client import connect
from zcli_bifrost import client_file
from zcli_bifrost.walker import BifrostWalker

from zcli_core.app import zCLI
from zcli_core.errors import ConfigError

MakeZ = Callable[..., zCLI]
Serve = Callable[..., Served]

SCRIPT = """
from zCLI import zCLI

z = zCLI({"zMode": MODE, "deployment": "Production", "logger_path": ".", "websocket": {"port": 0}})

@z.bifrost.on("greet")
async def greet(client, data):
    return {"hello": data["name"]}

z.walker.run()
print("the end")
"""


def test_walker_serves_until_ctrl_c(tmp_path: Path) -> None:
    """Then the script goes on."""
    script = tmp_path / "app.py"
    script.write_text(SCRIPT.replace("MODE", "'zBifrost'"))
    with started_script(script, folder=tmp_path) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[3]
        with connect(url, proxy=None, open_timeout=DEADLINE) as connection:
            assert Browser(connection).ask("greet", name="Ada") == {"result": {"hello": "Ada"}}
        process.send_signal(signal.SIGINT)
        printed, _ = process.communicate(timeout=DEADLINE)
    assert process.returncode == 0
    assert "stopped: " in printed
    assert printed.endswith("the end\n")


def test_walker_in_terminal_says_that_nothing_runs(tmp_path: Path) -> None:
    """In one line; the script goes on."""
    script = tmp_path / "app.py"
    script.write_text(SCRIPT.replace("MODE", "'Terminal'"))
    done = run_script(script, folder=tmp_path)
    expected = "[zWalker] zMode is Terminal (zSpark), so nothing runs; set it to zBifrost to serve browsers\nthe end\n"
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


def test_walker_is_typed_and_can_be_asked_for(make_z: MakeZ) -> None:
    """``z.walker`` is the object that the plugin made."""
    z = make_z()
    assert z.walker is z.subsystem("walker", BifrostWalker)


def test_models_that_cannot_be_used_stop_the_start(make_z: MakeZ, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the port is opened, as every configuration that cannot be used."""
    z = make_z(bifrost={"models": {"notes": {}}})

    def refuse(*_: Any) -> Any:
        raise ConfigError("bifrost.models (zSpark) needs SQLAlchemy")

    monkeypatch.setattr(type(z.bifrost), "_open_data", refuse)
    for serve in (z.bifrost.start, z.bifrost.start_background, z.bifrost.asgi):
        with pytest.raises(ConfigError, match="needs SQLAlchemy"):
            serve()


def test_asgi_app_greets_and_answers(make_z: MakeZ) -> None:
    """The same events inside another server."""

    async def main() -> tuple[dict[str, Any], dict[str, Any]]:
        z = make_z()
        z.bifrost.on("echo")(_echo)
        server = await InMemoryServer(z.bifrost.asgi()).open()
        greeting = await server.next()
        server.put_text('{"event": "echo", "_requestId": 1, "value": 5}')
        answer = await server.next()
        await server.leave()
        return greeting, answer

    greeting, answer = asyncio.run(main())
    assert greeting["text"].startswith('{"event":"connection_info"')
    assert answer["text"] == '{"_requestId":1,"result":5}'


async def _echo(client: Any, data: dict[str, Any]) -> Any:
    return data["value"]


# bifrost.js ----------------------------------------------------------------------------------------------------


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a large client, which the tests may change."""
    folder = tmp_path / "client"
    folder.mkdir()
    (folder / "bifrost.js").write_bytes(b"// " + b"x" * 100_000)
    (folder / "bifrost.d.ts").write_bytes(b"export {}")
    monkeypatch.setattr(client_file, "_FOLDER", folder)
    client_file._read.cache_clear()
    yield folder
    client_file._read.cache_clear()


def _get(port: int, path: str, method: str = "GET", **headers: str) -> tuple[Any, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


@pytest.mark.usefixtures("files")
def test_client_file_is_served(serve: Serve) -> None:
    """A browser may run it, and asks each time whether it has changed."""
    served = serve(websocket={"allowed_origins": ["https://app.example"]})
    response, body = _get(served.port, "/bifrost.js", Origin="https://app.example")
    assert (response.status, len(body)) == (200, 100_003)
    assert response.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert response.headers["Cache-Control"] == "no-cache"
    assert response.headers["Access-Control-Allow-Origin"] == "https://app.example"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    again, body = _get(served.port, "/bifrost.js", **{"If-None-Match": f'"other", W/{response.headers["ETag"]}'})
    assert (again.status, body, again.headers["ETag"]) == (304, b"", response.headers["ETag"])
    assert _get(served.port, "/bifrost.js", "HEAD")[0].headers["Content-Length"] == "100003"
    assert _get(served.port, "/bifrost.d.ts")[1] == b"export {}"
    assert _get(served.port, "/bifrost.js/../server.py")[0].status == 426


@pytest.mark.usefixtures("files")
def test_client_file_needs_zbifrost(make_z: MakeZ) -> None:
    """A plain WebSocket server does not offer it, also beside one of zBifrost."""
    plain, bifrost = make_z(), make_z()
    with plain.comm.websocket.start_background(port=0) as one, bifrost.bifrost.start_background(port=0) as two:
        assert one.port is not None
        assert two.port is not None
        assert _get(one.port, "/bifrost.js")[0].status == 426
        assert _get(two.port, "/bifrost.js")[0].status == 200

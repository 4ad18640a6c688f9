"""A server that speaks the messages of zBifrost as a test wants them, and scripts for its JavaScript client."""

from __future__ import annotations

import functools
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from needs import needs

from zcli_core.app import zCLI

CLIENT = Path(__file__).parents[2] / "plugins" / "zcli_bifrost" / "client" / "bifrost.js"
TIMEOUT = 240.0  # seconds

#: What each script begins with. ``backoff`` makes the delays predictable and short.
_PRELUDE = """
const BifrostClient = require(process.env.BIFROST_JS);
const url = process.env.BIFROST_URL;
const backoff = { reconnectDelay: 10, maxReconnectDelay: 40 };
const outcome = (promise) => promise.then((result) => ({ result }), ({ code, fields }) => ({ code, fields }));
const until = async (condition) => { while (!condition()) await new Promise((done) => setTimeout(done, 5)); };
const report = (value) => { console.log(JSON.stringify(value)); process.exit(0); };
(async () => {
"""

Answer = Callable[["Speaker", Any, dict[str, Any]], Any]


class Speaker:
    """A zCLI server on which every client is greeted, and whose answers a function of the test makes."""

    def __init__(self, z: zCLI, answer: Answer | None = None, greeting: dict[str, Any] | None = None) -> None:
        self.z = z
        self.requests: list[dict[str, Any]] = []
        self._answer = answer or echo
        self._greeting = greeting or {"server_version": "0"}
        self.start(0)

    def start(self, port: int | None) -> None:
        """Serve on a port, 0 for a free one."""
        server = self.z.comm.websocket
        self.handle = server.start_background(handler=self._handle, on_connect=self._greet, port=port)

    @property
    def url(self) -> str:
        return self.handle.url

    async def _greet(self, client: Any) -> None:
        await client.send(json.dumps({"event": "connection_info", "data": self._greeting}))

    async def _handle(self, client: Any, message: str) -> None:
        request = json.loads(message)
        self.requests.append(request)
        answer = self._answer(self, client, request)
        if hasattr(answer, "__await__"):
            answer = await answer
        if answer is not None:
            await client.send(json.dumps({"_requestId": request["_requestId"], **answer}))

    def events(self) -> list[str]:
        """Return the events of all requests, in the order of their arrival."""
        return [request["event"] for request in self.requests]


def echo(speaker: Speaker, client: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Answer with the request itself."""
    return {"result": request}


@functools.lru_cache(maxsize=1)
def _node() -> list[str]:
    """Return the command of Node.js, with WebSockets: until version 22 they have to be asked for."""
    node = str(needs("node", "nodejs"))
    flag = "--experimental-websocket"
    script = f"console.log(typeof WebSocket, process.allowedNodeEnvironmentFlags.has('{flag}'))"
    found = subprocess.run([node, "-e", script], capture_output=True, text=True, check=True, timeout=TIMEOUT).stdout
    return [node] if found.startswith("function") else [node, flag]


def run_node(script: str, url: str = "", *, folder: Path | None = None, kind: str = "commonjs") -> Any:
    """Run a script in Node.js, and return what it reports.

    Args:
        script: The body of an async function; with another ``kind``, a whole program.
        url: The server's URL, ``url`` in the script.
        folder: The folder in which it runs and in which its packages are.
        kind: ``"commonjs"``, or ``"module"`` for a program that imports.
    """
    environment = {"BIFROST_JS": str(CLIENT), "BIFROST_URL": url, "PATH": "/usr/bin:/bin"}
    if kind == "commonjs":
        script = f"{_PRELUDE}{script}\n}})();"
    done = subprocess.run(
        [*_node(), "--no-warnings", f"--input-type={kind}", "-e", script],
        env=environment,
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout, "the script ended without a report: " + done.stderr
    return json.loads(done.stdout)

"""Clients of other projects: ``websockets``, aiohttp and Node's ``ws``, with and without TLS and deflate."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import ssl
import subprocess
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import websockets
from needs import missing, needs
from websocket_serving import DEADLINE, TOKEN, Certificates, Served

Serve = Callable[..., Served]
MESSAGES: list[str | bytes] = ["", "hello", "grüße 🎉", "x" * 70_000, b"", b"\x00\xff" * 70_000, "y" * 1_000_000]

# asyncio's clients leave TLS sockets to the garbage collector when their loop ends; see _run().
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
AUTH = {"require_auth": True, "token": TOKEN}


@pytest.fixture(params=[False, True], ids=["plain", "deflate"])
def compression(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture(params=["ws", "wss"])
def server(
    request: pytest.FixtureRequest, serve: Serve, certificates: Certificates, compression: bool
) -> tuple[Served, ssl.SSLContext | None]:
    """An echo server that requires a token, and the TLS context for its clients."""
    if request.param == "ws":
        return serve(**AUTH, compression=compression), None
    certificate, key = certificates.issue("a")
    tls = {"ssl_enabled": True, "ssl_cert": str(certificate), "ssl_key": str(key)}
    return serve(**AUTH, **tls, compression=compression), certificates.trusting()


def _run(talk: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(talk, 2 * DEADLINE))
    gc.collect()  # raise the warning here, not in another test


def test_websockets_client_works(server: tuple[Served, ssl.SSLContext | None], compression: bool) -> None:
    """Its asyncio client: messages of every kind and size, pings, a normal close, a refusal."""
    served, context = server

    async def talk() -> None:
        options: dict[str, Any] = {"ssl": context, "proxy": None, "max_size": None}
        async with websockets.connect(f"{served.url}/?token={TOKEN}", **options) as client:
            assert bool(client.protocol.extensions) is compression
            for message in MESSAGES:
                await client.send(message)
                assert await client.recv() == message
            await client.send(["in ", "frag", "ments"])
            assert await client.recv() == "in fragments"
            assert await (await client.ping()) > 0
        assert (client.close_code, client.close_reason) == (1000, "")
        async with websockets.connect(f"{served.url}/?token=wrong", **options) as client:
            with pytest.raises(websockets.ConnectionClosedError) as closed:
                await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1008

    _run(talk())


def test_aiohttp_client_works(server: tuple[Served, ssl.SSLContext | None], compression: bool) -> None:
    """The same with its client, and the token in a header."""
    served, context = server

    async def talk() -> None:
        options: dict[str, Any] = {"ssl": context or False, "compress": 15, "max_msg_size": 0}
        async with aiohttp.ClientSession() as session:
            headers = {"Authorization": f"Bearer {TOKEN}"}
            async with session.ws_connect(served.url, headers=headers, **options) as client:
                assert bool(client.compress) is compression
                for message in MESSAGES:
                    if isinstance(message, str):
                        await client.send_str(message)
                    else:
                        await client.send_bytes(message)
                    assert (await client.receive()).data == message
                await client.ping(b"are you there?")
                await client.close(code=4000, message=b"bye")
                assert client.close_code == 4000
            async with session.ws_connect(f"{served.url}/?token=wrong", **options) as client:
                received = await client.receive()
                assert (received.type, received.data, received.extra) == (
                    aiohttp.WSMsgType.CLOSE,
                    1008,
                    "authentication failed",
                )

    _run(talk())


NODE = """
const WebSocket = require("ws");
const [url, token, ca] = process.argv.slice(1);
const options = { ca: ca && require("fs").readFileSync(ca), perMessageDeflate: true };
const messages = ["", "hello", "grüße 🎉", "x".repeat(70000), Buffer.alloc(0), Buffer.alloc(140000, 7)];
const client = new WebSocket(url, ["bearer", token], options);
const found = { echoed: 0 };
client.on("open", () => {
    found.protocol = client.protocol;
    found.extensions = client.extensions;
    messages.forEach((message) => client.send(message));
    client.ping("hello");
});
client.on("message", (data, isBinary) => {
    const expected = messages[found.echoed];
    const same = isBinary ? Buffer.isBuffer(expected) && data.equals(expected) : data.toString() === expected;
    if (!same) throw new Error("message " + found.echoed + " came back as something else");
    found.echoed += 1;
    if (found.echoed === messages.length) client.close(4001, "done");
});
client.on("pong", (data) => { found.pong = data.toString(); });
client.on("close", (code, reason) => {
    found.closed = [code, reason.toString()];
    const refused = new WebSocket(url + "/?token=wrong", options);
    refused.on("close", (code, reason) => {
        found.refused = [code, reason.toString()];
        console.log(JSON.stringify(found));
    });
});
"""


def _node(folder: Path, *arguments: str) -> Any:
    """Run the client in Node and return its output; ``ws`` is installed into the folder once."""
    node, npm = needs("node", "nodejs"), needs("npm", "npm")
    if not (folder / "node_modules" / "ws").exists():
        command = [npm, "install", "--no-audit", "--no-fund", "--fetch-retries=0", "--prefix", str(folder), "ws@8"]
        installed = subprocess.run(command, check=False, timeout=180, capture_output=True, text=True)
        if installed.returncode != 0:
            missing(f"npm could not install the package ws: {installed.stderr.strip()[-500:]}")
    environment = {**os.environ, "NODE_PATH": str(folder / "node_modules")}
    done = subprocess.run(
        [node, "-e", NODE, "--", *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.xdist_group("npm")  # one installation for all workers
def test_node_ws_client_works(
    server: tuple[Served, ssl.SSLContext | None],
    compression: bool,
    certificates: Certificates,
    pytestconfig: pytest.Config,
    tmp_path: Path,
) -> None:
    """The same from JavaScript, and the token in a subprotocol."""
    served, context = server
    arguments = [served.url, TOKEN]
    if context is not None:
        authority = tmp_path / "authority.pem"
        certificates.authority.cert_pem.write_to_path(authority)
        arguments = [served.url.replace("127.0.0.1", "localhost"), TOKEN, str(authority)]
    assert pytestconfig.cache is not None
    assert _node(pytestconfig.cache.mkdir("node-ws"), *arguments) == {
        "echoed": 6,
        "protocol": "bearer",
        "extensions": "permessage-deflate" if compression else "",
        "pong": "hello",
        "closed": [4001, "done"],
        "refused": [1008, "authentication failed"],
    }

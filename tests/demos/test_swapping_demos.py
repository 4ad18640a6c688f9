"""Level 5: one script that uses other plugins in each deployment."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import scaffolded_transport
from script_runs import DEMOS, plain_environment, run_script, started_script
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

FOLDER = DEMOS / "Layer_0" / "zComm_Demo" / "lvl5_plugins"
SERVER = FOLDER / "1_swap_by_deployment.py"
CLIENT_URL = FOLDER / "2_client_url.py"

#: Responds with the imported transports. The modules of a transport are imported only if a deployment uses it.
SCRIPT = """
import sys
from zCLI import zCLI

z = zCLI({"title": "one-script", "logger_path": "./logs"})
assert z.comm.http_get(f"{sys.argv[1]}/get").ok


async def report(websocket, message):
    client = z.comm.websocket.auth.get_client_info(websocket)
    used = [name for name in ("urllib3", "pycurl", "zcli_scaffolded.transport") if name in sys.modules]
    await websocket.send(f"{client['identity']} {client['strategy']} {used} {client['claims'].get('role')}")


z.comm.websocket.start(port=0, handler=report)
"""

MACHINE = """
deployments:
  Development:
    http:
      transport: urllib3
    websocket:
      transport: wsproto
      require_auth: true
      auth: [token]
      tokens: {{dev: development-token}}
  Production:
    http:
      transport: curl
    websocket:
      transport: scaffolded
      require_auth: true
      auth: [jwt]
    jwt:
      public_key_file: {key}
      issuer: https://issuer.example
      audience: [chat]
"""


@contextmanager
def serving(script: Path, *arguments: str, folder: Path, **variables: str) -> Iterator[tuple[str, list[str]]]:
    """Run a script; yield the URL on which it listens, and the lines that it printed before."""
    variables = {"WEBSOCKET_PORT": "0", **scaffolded_transport.variables(), **variables}
    with started_script(script, *arguments, folder=folder, variables=variables) as process:
        assert process.stdout is not None
        printed: list[str] = []
        for line in process.stdout:
            printed.append(line)
            found = re.search(r"listening on (ws://\S+)", line)
            if found:
                yield found[1], printed
                return
        raise AssertionError("".join(printed))


def response(url: str) -> str:
    """Return the message with which the server responds to ``hello``."""
    with connect(url) as client:
        client.send("hello")
        return str(client.recv(timeout=30))


def close_code(url: str) -> int | None:
    """Return the code with which the server closes a client."""
    with connect(url) as client, pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=30)
    return closed.value.rcvd.code if closed.value.rcvd else None


@pytest.mark.parametrize(
    ("deployment", "expected"),
    [
        ("Development", "default, by token, HTTP over urllib3: hello"),
        ("Production", "ada, by jwt, HTTP over curl: hello"),
    ],
)
def test_swap_demo_accepts_credential_of_deployment(deployment: str, expected: str, tmp_path: Path) -> None:
    """The URL that the second demo prints is accepted; the URL of the other deployment is refused."""
    urls = {
        each: run_script(CLIENT_URL, "ada", folder=tmp_path, variables={"ZCLI_DEPLOYMENT": each}).stdout.splitlines()[
            -1
        ]
        for each in ("Development", "Production")
    }
    with serving(SERVER, folder=tmp_path, ZCLI_DEPLOYMENT=deployment) as (url, printed):
        for each, printed_url in urls.items():
            client_url = url.rstrip("/") + printed_url[printed_url.index("/?") :]
            if each == deployment:
                assert response(client_url) == expected
            else:
                assert close_code(client_url) == 1008
        assert close_code(url) == 1008
    transport = expected.split()[-2].rstrip(":")
    assert f"{deployment}: {transport} (set by zSpark: zSpark, deployments.{deployment})\n" in printed


@pytest.fixture
def keys(tmp_path: Path) -> tuple[str, Path]:
    """An ES256 key pair: the private key as PEM, and the file of the public key."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = tmp_path / "public.txt"
    public.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private.decode(), public


def test_machine_file_swaps_transports_and_strategy(tmp_path: Path, keys: tuple[str, Path], httpbin: str) -> None:
    """The same script in the same folder uses other plugins if only the deployment differs."""
    import time

    import jwt

    private, public = keys
    (tmp_path / "zConfig.machine.yaml").write_text(MACHINE.format(key=public))
    script = tmp_path / "one_script.py"
    script.write_text(SCRIPT)
    claims = {"sub": "ada", "role": "admin", "aud": "chat", "iss": "https://issuer.example", "exp": time.time() + 600}
    signed = jwt.encode(claims, private, algorithm="ES256")
    other_audience = jwt.encode({**claims, "aud": "mail"}, private, algorithm="ES256")

    with serving(script, httpbin, folder=tmp_path, ZCLI_DEPLOYMENT="Development") as (url, _):
        assert response(f"{url}/?token=development-token") == "dev token ['urllib3'] None"
        assert close_code(f"{url}/?token={signed}") == 1008
    with serving(script, httpbin, folder=tmp_path, ZCLI_DEPLOYMENT="Production") as (url, _):
        assert response(f"{url}/?token={signed}") == "ada jwt ['pycurl', 'zcli_scaffolded.transport'] admin"
        assert close_code(f"{url}/?token={other_audience}") == 1008
        assert close_code(f"{url}/?token=development-token") == 1008


@pytest.mark.parametrize(
    ("deployment", "transport", "distribution", "line"),
    [("Development", "wsproto", "zcli-core", 7), ("Production", "scaffolded", "zcli-scaffolded", 15)],
)
def test_plugins_why_names_transport_and_origin(
    deployment: str, transport: str, distribution: str, line: int, tmp_path: Path
) -> None:
    """``zcli plugins --why`` prints the value, the file and line that set it, and the distribution of the plugin."""
    (tmp_path / "zConfig.machine.yaml").write_text(MACHINE.format(key="none"))
    environment = plain_environment(tmp_path, {"ZCLI_DEPLOYMENT": deployment, **scaffolded_transport.variables()})
    done = subprocess.run(
        [sys.executable, "-m", "zCLI", "plugins", "--why", "websocket.transport"], cwd=tmp_path, encoding="utf-8",
        env=environment, capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    assert f"websocket.transport = {transport}\n" in done.stdout
    assert f"zConfig.machine.yaml:{line}" in done.stdout
    assert f"plugin zcli_{transport} of {distribution}" in done.stdout
    done = subprocess.run(
        [*done.args, "--json"], cwd=tmp_path, encoding="utf-8", check=True, capture_output=True, timeout=60,
        env=environment,
    )  # fmt: skip
    assert transport in json.dumps(json.loads(done.stdout))

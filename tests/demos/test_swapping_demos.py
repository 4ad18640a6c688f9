"""Level 5: one script and other parts in each deployment, by configuration alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from script_runs import DEMOS, plain_environment, run_script, started_script
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

FOLDER = DEMOS / "Layer_0" / "zComm_Demo" / "lvl5_plugins"
SERVER = FOLDER / "1_swap_by_deployment.py"
WHO = FOLDER / "2_who_may_enter.py"

#: Whether a deployment may use the parser in C can be seen from outside: nothing of it is loaded otherwise.
SCRIPT = """
import sys
from zCLI import zCLI

z = zCLI({"title": "one-script", "logger_path": "./logs"})


async def tell(websocket, message):
    who = z.comm.websocket.auth.get_client_info(websocket)
    await websocket.send(f"{who['identity']} {who['strategy']} {'picows' in sys.modules} {who['claims'].get('role')}")


z.comm.websocket.start(port=0, handler=tell)
"""

MACHINE = """
deployments:
  Development:
    websocket:
      transport: wsproto
      require_auth: true
      auth: [token]
      tokens: {{dev: development-token}}
  Production:
    websocket:
      transport: picows
      require_auth: true
      auth: [jwt]
    jwt:
      public_key_file: {key}
      issuer: https://issuer.example
      audience: [chat]
"""


@contextmanager
def serving(script: Path, folder: Path, **variables: str) -> Iterator[tuple[str, list[str]]]:
    """The URL at which a script serves, and what it printed before."""
    with started_script(script, folder=folder, variables={"WEBSOCKET_PORT": "0", **variables}) as process:
        assert process.stdout is not None
        printed: list[str] = []
        for line in process.stdout:
            printed.append(line)
            found = re.search(r"listening on (ws://\S+)", line)
            if found:
                yield found[1], printed
                return
        raise AssertionError("".join(printed))


def answer(url: str) -> str:
    """What the server says to a greeting."""
    with connect(url) as client:
        client.send("hello")
        return str(client.recv(timeout=30))


def refusal(url: str) -> int | None:
    """The code that a client is closed with."""
    with connect(url) as client, pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=30)
    return closed.value.rcvd.code if closed.value.rcvd else None


@pytest.mark.parametrize(
    ("deployment", "greeting"),
    [("Development", "default, by token over wsproto: hello"), ("Production", "ada, by jwt over picows: hello")],
)
def test_the_demo_admits_whom_its_deployment_admits(deployment: str, greeting: str, tmp_path: Path) -> None:
    """With the address that the second demo prints; the other deployment's credential is refused."""
    addresses = {
        each: run_script(WHO, "ada", folder=tmp_path, variables={"ZCLI_DEPLOYMENT": each}).stdout.splitlines()[-1]
        for each in ("Development", "Production")
    }
    with serving(SERVER, tmp_path, ZCLI_DEPLOYMENT=deployment) as (url, printed):
        for each, address in addresses.items():
            there = url.rstrip("/") + address[address.index("/?") :]
            if each == deployment:
                assert answer(there) == greeting
            else:
                assert refusal(there) == 1008
        assert refusal(url) == 1008
    transport = greeting.split()[4].rstrip(":")
    assert f"{deployment}: {transport} (set by zSpark: zSpark, deployments.{deployment})\n" in printed


@pytest.fixture
def keys(tmp_path: Path) -> tuple[str, Path]:
    """An ES256 key: the private one as PEM, and the file of the public one."""
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


def test_a_machine_file_swaps_transport_and_strategy_for_production_alone(
    tmp_path: Path, keys: tuple[str, Path]
) -> None:
    """No line of the script changes, nor does its folder: the deployment's name does it all."""
    import time

    import jwt

    private, public = keys
    (tmp_path / "zConfig.machine.yaml").write_text(MACHINE.format(key=public))
    script = tmp_path / "one_script.py"
    script.write_text(SCRIPT)
    claims = {"sub": "ada", "role": "admin", "aud": "chat", "iss": "https://issuer.example", "exp": time.time() + 600}
    signed = jwt.encode(claims, private, algorithm="ES256")
    for_others = jwt.encode({**claims, "aud": "mail"}, private, algorithm="ES256")

    with serving(script, tmp_path, ZCLI_DEPLOYMENT="Development") as (url, _):
        assert answer(f"{url}/?token=development-token") == "dev token False None"
        assert refusal(f"{url}/?token={signed}") == 1008
    with serving(script, tmp_path, ZCLI_DEPLOYMENT="Production") as (url, _):
        assert answer(f"{url}/?token={signed}") == "ada jwt True admin"
        assert refusal(f"{url}/?token={for_others}") == 1008
        assert refusal(f"{url}/?token=development-token") == 1008


@pytest.mark.parametrize(
    ("deployment", "transport", "line"), [("Development", "wsproto", 5), ("Production", "picows", 11)]
)
def test_the_command_tells_which_it_is_and_who_said_so(
    deployment: str, transport: str, line: int, tmp_path: Path
) -> None:
    """``zcli plugins --why`` has the value, the file with its line, and the distribution of the plugin."""
    (tmp_path / "zConfig.machine.yaml").write_text(MACHINE.format(key="none"))
    done = subprocess.run(
        [sys.executable, "-m", "zCLI", "plugins", "--why", "websocket.transport"], cwd=tmp_path, encoding="utf-8",
        env=plain_environment(tmp_path, {"ZCLI_DEPLOYMENT": deployment}), capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    assert f"websocket.transport = {transport}\n" in done.stdout
    assert f"zConfig.machine.yaml:{line}" in done.stdout
    assert f"plugin zcli_{transport} of zcli-core" in done.stdout
    done = subprocess.run(
        [*done.args, "--json"], cwd=tmp_path, encoding="utf-8", check=True, capture_output=True, timeout=60,
        env=plain_environment(tmp_path, {"ZCLI_DEPLOYMENT": deployment}),
    )  # fmt: skip
    assert transport in json.dumps(json.loads(done.stdout))

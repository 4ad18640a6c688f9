"""One script in two deployments: other plugins carry it and guard it, and no line of it changes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jwt
import pytest
from script_runs import DEMOS, check_transport, plain_environment, started_script
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

DEMO = DEMOS / "Layer_0" / "zComm_Demo" / "lvl5_plugins" / "1_swap_by_deployment.py"
TOKEN = "development-only"
SECRET = "published, so it protects nothing at all"
OTHER_SECRET = "another secret of thirty-two bytes"
LONGEST = 30.0

#: What each deployment runs, and the line of the settings file that says so.
DEPLOYMENTS = {"Development": ("wsproto", "token", 9), "Production": ("picows", "jwt", 15)}


def web_token(secret: str = SECRET, **claims: Any) -> str:
    """A JSON Web Token as Production wants it."""
    return jwt.encode({"sub": "alice", "aud": "swap-demo", "exp": time.time() + 300, **claims}, secret)


@contextmanager
def served(folder: Path, deployment: str, **variables: str) -> Iterator[str]:
    """The demo as its docstring runs it, on a free port; gives its URL."""
    environment = {
        "ZCLI_CONFIG_DIR": str(DEMO.parent),
        "ZCLI_DEPLOYMENT": deployment,
        "WEBSOCKET_PORT": "0",
        **variables,
    }
    transport, _, line = DEPLOYMENTS[deployment]
    with started_script(DEMO, folder=folder, variables=environment) as process:
        assert process.stdout is not None
        printed = ""
        for text in process.stdout:
            printed += text
            if text.startswith("[WebSocket] listening on "):
                break
        else:
            raise AssertionError(printed)
        assert f"{deployment}: {transport}, says zConfig.machine.yaml:{line}, deployments.{deployment}\n" in printed
        check_transport(process, transport)
        yield text.split()[3]


def answer(url: str, token: str | None) -> str:
    """What the server says to whoever shows that token: an echo, or the code that it closes with."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    with connect(url, additional_headers=headers, proxy=None, open_timeout=LONGEST) as client:
        try:
            client.send("hello")
            return str(client.recv(timeout=LONGEST))
        except ConnectionClosed as closed:
            return str(closed.rcvd and closed.rcvd.code)


def test_development_admits_by_token_over_wsproto(tmp_path: Path) -> None:
    """And nobody with a JSON Web Token, or none."""
    with served(tmp_path, "Development") as url:
        assert answer(url, TOKEN).endswith(": hello")
        assert [answer(url, token) for token in (web_token(), "another", None)] == ["1008"] * 3
        assert answer(url, TOKEN).endswith(": hello")


def test_production_admits_by_json_web_token_over_picows(tmp_path: Path) -> None:
    """As whom it names; and nobody with Development's token, a forged one, one for others, an old one, or none."""
    with served(tmp_path, "Production") as url:
        assert answer(url, web_token()) == "alice: hello"
        forged = web_token(secret=OTHER_SECRET)
        refused = (TOKEN, forged, web_token(aud="others"), web_token(exp=time.time() - 60), None)
        assert [answer(url, token) for token in refused] == ["1008"] * len(refused)
        assert answer(url, web_token(sub="bob")) == "bob: hello"


def test_a_secret_file_of_production_wins_over_the_machines_file(tmp_path: Path) -> None:
    """The layer of secret files stands above it; so the published secret admits nobody any more."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "jwt.secret").write_text(f"{OTHER_SECRET}\n")
    overlay = {"Production": {"secrets_dir": {"folder": str(tmp_path / "secrets")}}}
    with served(tmp_path, "Production", ZCLI_DEPLOYMENTS=json.dumps(overlay)) as url:
        assert answer(url, web_token(secret=OTHER_SECRET)) == "alice: hello"
        assert answer(url, web_token()) == "1008"


@pytest.mark.parametrize("deployment", DEPLOYMENTS)
def test_the_command_line_tells_who_decided(tmp_path: Path, deployment: str) -> None:
    """``zcli plugins --why`` and ``zcli config``, which shows no secret of either deployment."""
    variables = {"ZCLI_CONFIG_DIR": str(DEMO.parent), "ZCLI_DEPLOYMENT": deployment}
    transport, strategy, line = DEPLOYMENTS[deployment]

    def zcli(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "zCLI", *arguments],
            cwd=tmp_path,
            env=plain_environment(tmp_path, variables),
            capture_output=True,
            encoding="utf-8",
            timeout=LONGEST,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    said = zcli("plugins", "--why", "websocket.transport")
    assert f"zConfig.machine.yaml:{line}, deployments.{deployment}" in said
    assert f"zcli_{transport}" in said
    assert f"zConfig.machine.yaml:{line + 1}" in zcli("plugins", "--why", "websocket.auth")
    config = json.loads(zcli("config", "websocket.auth", "--json"))
    assert (config["value"], config["layer"]) == ([strategy], "machine")
    everything = zcli("config", "--json")
    assert TOKEN not in everything
    assert SECRET not in everything

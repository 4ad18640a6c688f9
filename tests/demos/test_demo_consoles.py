"""The demos on consoles with other encodings, and in other folders."""

from __future__ import annotations

from pathlib import Path

import pytest
from script_runs import DEMOS, run_script, started_script

FOLDER = DEMOS / "Layer_0" / "zComm_Demo"
PORTS = FOLDER / "lvl1_network" / "1_port_check.py"
SECURE = FOLDER / "lvl2_websocket" / "3_websocket_secure.py"
CLIENT_URL = FOLDER / "lvl5_plugins" / "2_client_url.py"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_demo_console_encoding_escapes_check_marks(encoding: str, tmp_path: Path) -> None:
    """Characters that the console's encoding does not have are escaped."""
    done = run_script(PORTS, folder=tmp_path, variables={"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u2713 available" in done.stdout


def test_demo_prints_control_characters_escaped(tmp_path: Path) -> None:
    """Control characters that a client sends to a demo do not reach the terminal."""
    from websockets.sync.client import connect

    with started_script(SECURE, folder=tmp_path, variables={"WEBSOCKET_PORT": "0"}) as process:
        assert process.stdout is not None
        url = next(line.split()[3] for line in process.stdout if line.startswith("[WebSocket] listening on "))
        with connect(f"{url}/?token=demo_secure_token_123", proxy=None) as client:
            client.send("\x1b[2Jhello\nforged")
            client.recv(timeout=30)
            assert process.stdout.readline().endswith(": \\x1b[2Jhello\\nforged\n")


def test_demo_client_url_without_name_prints_usage(tmp_path: Path) -> None:
    """Without a name, the demo prints its command in each deployment, without a traceback."""
    for deployment in ("Development", "Production"):
        done = run_script(CLIENT_URL, folder=tmp_path, variables={"ZCLI_DEPLOYMENT": deployment})
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "Give the name of a client, as in: python3 2_client_url.py ada\n"


def test_demo_other_zenv_does_not_replace_its_own(tmp_path: Path) -> None:
    """The demo reads the .zEnv beside it, even if the working directory has one, too."""
    (tmp_path / ".zEnv").write_text("WEBSOCKET_PORT=9000\n")
    done = run_script(CLIENT_URL, "ada", folder=tmp_path)
    assert done.stdout.endswith("ws://127.0.0.1:8765/?token=demo_secure_token_123\n"), done.stderr

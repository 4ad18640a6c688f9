"""The demos on consoles and in folders that are not those of whoever wrote them."""

from __future__ import annotations

from pathlib import Path

import pytest
from script_runs import DEMOS, run_script, started_script

FOLDER = DEMOS / "Layer_0" / "zComm_Demo"
PORTS = FOLDER / "lvl1_network" / "1_port_check.py"
SECURE = FOLDER / "lvl2_websocket" / "3_websocket_secure.py"
WHO = FOLDER / "lvl5_plugins" / "2_who_may_enter.py"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_demo_console_without_check_marks_is_served(encoding: str, tmp_path: Path) -> None:
    """Characters that the console's encoding does not have are escaped."""
    done = run_script(PORTS, folder=tmp_path, variables={"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"})
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u2713 available" in done.stdout


def test_demo_prints_control_characters_escaped(tmp_path: Path) -> None:
    """What a client of a server demo sends cannot steer the terminal."""
    from websockets.sync.client import connect

    with started_script(SECURE, folder=tmp_path, variables={"WEBSOCKET_PORT": "0"}) as process:
        assert process.stdout is not None
        url = next(line.split()[3] for line in process.stdout if line.startswith("[WebSocket] listening on "))
        with connect(f"{url}/?token=demo_secure_token_123", proxy=None) as client:
            client.send("\x1b[2Jhello\nforged")
            client.recv(timeout=30)
            assert process.stdout.readline().endswith(": \\x1b[2Jhello\\nforged\n")


def test_demo_who_without_a_name_says_how_to_run(tmp_path: Path) -> None:
    """A sentence with the command instead of a traceback, in each deployment."""
    for deployment in ("Development", "Production"):
        done = run_script(WHO, folder=tmp_path, variables={"ZCLI_DEPLOYMENT": deployment})
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "Give the name of a client, as in: python3 2_who_may_enter.py ada\n"


def test_demo_reads_the_zenv_beside_it(tmp_path: Path) -> None:
    """A .zEnv in the folder where it is started does not hide the demo's own."""
    (tmp_path / ".zEnv").write_text("WEBSOCKET_PORT=9000\n")
    done = run_script(WHO, "ada", folder=tmp_path)
    assert done.stdout.endswith("ws://127.0.0.1:8765/?token=demo_secure_token_123\n"), done.stderr

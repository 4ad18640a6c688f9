"""The demos, run as a newcomer runs them: with httpbin at hand, without any network, and from any folder."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from needs import usual_ports
from script_runs import DEMOS, files_of_the_repository, run_script

FOLDER = DEMOS / "Layer_0" / "zComm_Demo"
HELLO = FOLDER / "lvl0_hello" / "1_hello_comm.py"
PORTS = FOLDER / "lvl1_network" / "1_port_check.py"
GET = FOLDER / "lvl1_network" / "2_http_get.py"
METHODS = FOLDER / "lvl1_network" / "3_http_methods.py"
ERRORS = FOLDER / "lvl3_services" / "3_http_errors.py"
TALKATIVE = [pytest.param(demo, id=demo.name) for demo in (GET, METHODS, ERRORS)]


@pytest.fixture(params=["http", "https"])
def server(request: pytest.FixtureRequest, httpbin: str, httpbin_https: Any) -> dict[str, str]:
    """The variables that lead a demo to a real httpbin on this machine."""
    if request.param == "http":
        return {"HTTPBIN_URL": httpbin}
    return {"HTTPBIN_URL": httpbin_https.url, "ZCLI_HTTP_CA_FILE": str(httpbin_https.ca_file)}


@pytest.fixture
def nobody() -> Iterator[str]:
    """A port of this machine that refuses every connection for as long as the test lasts."""
    with socket.socket() as bound:  # bound without listening: nobody else gets it, and nobody answers
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


def _printed(demo: Path, folder: Path, variables: dict[str, str] | None = None) -> str:
    done = run_script(demo, folder=folder, variables=variables or {})
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


def test_hello_shows_the_banners_in_order_and_then_uses_comm(tmp_path: Path) -> None:
    """Two banners, a line from zComm, and the log beside whoever ran it."""
    first, second, third = _printed(HELLO, tmp_path).splitlines()
    assert first.startswith("[zConfig Ready]")
    assert second.startswith("[zComm Ready]")
    assert re.search(r"port \d+ is free", third)
    assert (tmp_path / "logs" / "hello-comm.log").exists()


@usual_ports
def test_ports_are_shown_as_they_are(tmp_path: Path) -> None:
    """A port that is held, without even listening, is shown as in use."""
    with socket.socket() as held:
        with contextlib.suppress(OSError):  # somebody else holds it, which serves as well
            held.bind(("127.0.0.1", 8080))
        lines = _printed(PORTS, tmp_path).splitlines()
    assert "Port  8080 (Development ): ✗ in use" in lines
    assert len(lines) == 6
    assert all(re.fullmatch(r"Port +\d+ \(\w+ *\): (✓ available|✗ in use)", line) for line in lines)


def test_get_prints_what_the_server_received(tmp_path: Path, server: dict[str, str]) -> None:
    """The parameters come back."""
    assert _printed(GET, tmp_path, server) == "Server received: {'demo': 'zComm', 'level': '1'}\n"


def test_methods_print_a_line_for_each(tmp_path: Path, server: dict[str, str]) -> None:
    """Five methods, their status and what the server received."""
    assert _printed(METHODS, tmp_path, server).splitlines() == [
        "GET     200 OK, the server received {'key': 'value'}",
        "POST    200 OK, the server received {'name': 'Alice'}",
        "PUT     200 OK, the server received {'name': 'Alice', 'role': 'Developer'}",
        "PATCH   200 OK, the server received {'role': 'Tech Lead'}",
        "DELETE  200 OK, the server received no data",
    ]


def test_errors_are_told_apart(tmp_path: Path, server: dict[str, str]) -> None:
    """Two answers and two causes."""
    for _ in range(5):  # on a loaded machine the limit of 2 s in the demo may not be enough for an answer
        printed = _printed(ERRORS, tmp_path, server).splitlines()
        if "A response" in printed[1] and "A response" in printed[3]:
            break
    assert printed[1::2][:2] == ["  ✓ A response: 404 NOT FOUND", "  ✓ A response: 500 INTERNAL SERVER ERROR"]
    assert printed[5].startswith("  ✓ None after")
    assert "invalid-domain-12345.com" in printed[5]
    assert re.match(r"  ✓ None after \d+\.\d s, timeout: ", printed[7])


@pytest.mark.parametrize("demo", TALKATIVE)
def test_a_server_that_is_not_there_is_told_and_nothing_crashes(demo: Path, tmp_path: Path, nobody: str) -> None:
    """Every demo that talks HTTP ends well and says that the connection was refused."""
    printed = _printed(demo, tmp_path, {"HTTPBIN_URL": f"http://{nobody}"})
    assert "refused" in printed
    assert nobody in printed


@pytest.mark.parametrize("demo", TALKATIVE)
def test_a_name_that_does_not_exist_is_told_and_nothing_crashes(demo: Path, tmp_path: Path) -> None:
    """As on a machine without any network."""
    assert "httpbin.invalid" in _printed(demo, tmp_path, {"HTTPBIN_URL": "https://httpbin.invalid"})


@pytest.mark.parametrize("demo", [pytest.param(demo, id=demo.name) for demo in (GET, METHODS)])
def test_an_error_page_is_an_answer(demo: Path, tmp_path: Path, server: dict[str, str]) -> None:
    """A server that answers, but is no httpbin, is shown by its status."""
    printed = _printed(demo, tmp_path, {**server, "HTTPBIN_URL": f"{server['HTTPBIN_URL']}/status/503?"})
    assert "503 SERVICE UNAVAILABLE" in printed


@pytest.mark.parametrize("demo", TALKATIVE)
def test_the_public_httpbin_is_the_default(demo: Path, tmp_path: Path, nobody: str) -> None:
    """Without HTTPBIN_URL the demos go to https://httpbin.org; here they get no farther than to a dead proxy."""
    _printed(demo, tmp_path, {"HTTPS_PROXY": f"http://{nobody}"})
    logs = "".join(file.read_text(encoding="utf-8") for file in (tmp_path / "logs").iterdir())
    assert "https://httpbin.org/" in logs
    assert "proxy" in logs


def test_a_zenv_file_names_the_server_too(tmp_path: Path, server: dict[str, str]) -> None:
    """HTTPBIN_URL in a .zEnv of the working directory does what the variable does."""
    (tmp_path / ".zEnv").write_text("".join(f"{name}={value}\n" for name, value in server.items()), encoding="utf-8")
    assert _printed(GET, tmp_path).startswith("Server received:")


def test_demos_leave_nothing_in_the_repository(tmp_path: Path, server: dict[str, str]) -> None:
    """Run from elsewhere, they write their logs there."""
    before = files_of_the_repository()
    for demo in (HELLO, GET):
        _printed(demo, tmp_path, server)
    assert sorted(file.name for file in (tmp_path / "logs").iterdir()) == ["hello-comm.log", "http-get.log"]
    assert {file for file in files_of_the_repository() - before if "Demos" in file.parts} == set()


def test_every_demo_says_how_to_run_it() -> None:
    """Each docstring has the command with the demo's own path."""
    demos = sorted(FOLDER.glob("**/*.py"))
    assert demos
    for demo in demos:
        assert f"python3 {demo.relative_to(DEMOS.parent).as_posix()}" in demo.read_text(encoding="utf-8")

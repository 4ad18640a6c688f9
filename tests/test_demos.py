"""The demos of the levels 0, 1 and 3 as processes: with an httpbin, without a network, and from another folder."""

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
HTTP_DEMOS = [pytest.param(demo, id=demo.name) for demo in (GET, METHODS, ERRORS)]


@pytest.fixture(params=["http", "https"])
def server(request: pytest.FixtureRequest, httpbin: str, httpbin_https: Any) -> dict[str, str]:
    """The variables with which a demo uses a real httpbin on this machine."""
    if request.param == "http":
        return {"HTTPBIN_URL": httpbin}
    return {"HTTPBIN_URL": httpbin_https.url, "ZCLI_HTTP_CA_FILE": str(httpbin_https.ca_file)}


@pytest.fixture
def closed_address() -> Iterator[str]:
    """An address of this machine that refuses every connection during the test."""
    with socket.socket() as bound:  # bound, so that no other program gets the port, and not listening
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"


def _printed(demo: Path, folder: Path, variables: dict[str, str] | None = None) -> str:
    done = run_script(demo, folder=folder, variables=variables or {})
    assert done.stderr == ""
    assert done.returncode == 0
    return done.stdout


def test_demo_hello_prints_banners_in_order(tmp_path: Path) -> None:
    """The demo prints two banners and a line from zComm, and logs in its working directory."""
    first, second, third = _printed(HELLO, tmp_path).splitlines()
    assert first.startswith("[zConfig Ready]")
    assert second.startswith("[zComm Ready]")
    assert re.search(r"port \d+ is free", third)
    assert (tmp_path / "logs" / "hello-comm.log").exists()


@usual_ports
def test_demo_port_check_bound_port_is_in_use(tmp_path: Path) -> None:
    """The demo shows a bound port as in use, even if no program listens on it."""
    with socket.socket() as held:
        with contextlib.suppress(OSError):  # another program holds it, which has the same effect
            held.bind(("127.0.0.1", 8080))
        lines = _printed(PORTS, tmp_path).splitlines()
    assert "Port  8080 (Development ): ✗ in use" in lines
    assert len(lines) == 6
    assert all(re.fullmatch(r"Port +\d+ \(\w+ *\): (✓ available|✗ in use)", line) for line in lines)


def test_demo_get_prints_what_the_server_received(tmp_path: Path, server: dict[str, str]) -> None:
    """The demo prints the query parameters that the server received."""
    assert _printed(GET, tmp_path, server) == "Server received: {'demo': 'zComm', 'level': '1'}\n"


def test_demo_methods_print_a_line_for_each(tmp_path: Path, server: dict[str, str]) -> None:
    """The demo prints the status of each of five methods, and the data that the server received."""
    assert _printed(METHODS, tmp_path, server).splitlines() == [
        "GET     200 OK, the server received {'key': 'value'}",
        "POST    200 OK, the server received {'name': 'Alice'}",
        "PUT     200 OK, the server received {'name': 'Alice', 'role': 'Developer'}",
        "PATCH   200 OK, the server received {'role': 'Tech Lead'}",
        "DELETE  200 OK, the server received no data",
    ]


def test_demo_errors_show_status_or_cause(tmp_path: Path, server: dict[str, str]) -> None:
    """The demo prints two error statuses, and the causes of two requests without a response."""
    for _ in range(5):  # on a loaded machine the limit of 2 s in the demo may be too short for a response
        printed = _printed(ERRORS, tmp_path, server).splitlines()
        if "A response" in printed[1] and "A response" in printed[3]:
            break
    assert printed[1::2][:2] == ["  ✓ A response: 404 NOT FOUND", "  ✓ A response: 500 INTERNAL SERVER ERROR"]
    assert printed[5].startswith("  ✓ None after")
    assert "invalid-domain-12345.com" in printed[5]
    assert re.match(r"  ✓ None after \d+\.\d s, timeout: ", printed[7])


@pytest.mark.parametrize("demo", HTTP_DEMOS)
def test_demo_server_down_prints_refused(demo: Path, tmp_path: Path, closed_address: str) -> None:
    """Each HTTP demo succeeds and prints that the connection was refused."""
    printed = _printed(demo, tmp_path, {"HTTPBIN_URL": f"http://{closed_address}"})
    assert "refused" in printed
    assert closed_address in printed


@pytest.mark.parametrize("demo", HTTP_DEMOS)
def test_demo_unknown_host_is_named(demo: Path, tmp_path: Path) -> None:
    """Each HTTP demo succeeds and prints the host that it could not resolve, as without a network."""
    assert "httpbin.invalid" in _printed(demo, tmp_path, {"HTTPBIN_URL": "https://httpbin.invalid"})


@pytest.mark.parametrize("demo", [pytest.param(demo, id=demo.name) for demo in (GET, METHODS)])
def test_demo_error_status_is_printed(demo: Path, tmp_path: Path, server: dict[str, str]) -> None:
    """The demo prints the status of a response that is not from httpbin."""
    printed = _printed(demo, tmp_path, {**server, "HTTPBIN_URL": f"{server['HTTPBIN_URL']}/status/503?"})
    assert "503 SERVICE UNAVAILABLE" in printed


@pytest.mark.parametrize("demo", HTTP_DEMOS)
def test_demo_default_is_the_public_httpbin(demo: Path, tmp_path: Path, closed_address: str) -> None:
    """Without HTTPBIN_URL the demos use https://httpbin.org. A proxy that refuses connections keeps this test local."""
    _printed(demo, tmp_path, {"HTTPS_PROXY": f"http://{closed_address}"})
    logs = "".join(file.read_text(encoding="utf-8") for file in (tmp_path / "logs").iterdir())
    assert "https://httpbin.org/" in logs
    assert "proxy" in logs


def test_demo_zenv_names_the_httpbin(tmp_path: Path, server: dict[str, str]) -> None:
    """HTTPBIN_URL in a .zEnv of the working directory has the effect of the environment variable."""
    (tmp_path / ".zEnv").write_text("".join(f"{name}={value}\n" for name, value in server.items()), encoding="utf-8")
    assert _printed(GET, tmp_path).startswith("Server received:")


def test_demo_run_elsewhere_logs_there(tmp_path: Path, server: dict[str, str]) -> None:
    """Demos that run in another folder write their logs there, and nothing in the repository."""
    before = files_of_the_repository()
    for demo in (HELLO, GET):
        _printed(demo, tmp_path, server)
    assert sorted(file.name for file in (tmp_path / "logs").iterdir()) == ["hello-comm.log", "http-get.log"]
    assert {file for file in files_of_the_repository() - before if "Demos" in file.parts} == set()


def test_demo_docstring_has_its_command() -> None:
    """Each demo has a docstring with the command that runs it."""
    demos = sorted(FOLDER.glob("**/*.py"))
    assert demos
    for demo in demos:
        assert f"python3 {demo.relative_to(DEMOS.parent).as_posix()}" in demo.read_text(encoding="utf-8")

"""The guide's snippets of levels 0, 1 and 3.iii run as they stand there; only the host of httpbin is another one.

``guide_snippets`` holds them letter for letter. What they do is judged by what they print and by what reached the
server, which is the real httpbin behind a recorder.
"""

from __future__ import annotations

import io
import json
import os
import re
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest
from httpbin import app as httpbin_app
from needs import usual_ports
from script_runs import ROOT, run_script

SNIPPETS = ROOT / "tests" / "guide_snippets"
#: The guide is not part of the repository; who has it names it here.
GUIDE = Path(os.environ.get("ZCOMM_GUIDE") or "no guide")
SECTIONS = {
    "level_0_hello": "# **zComm - Level 0** (Hello zComm)",
    "level_1_i_port_check": "### **i. Port Checking**",
    "level_1_ii_http_get": "### **ii. HTTP/HTTPS Requests (GET)**",
    "level_1_iii_http_methods": "### **iii. All HTTP Methods**",
    "level_2_i_websocket_server": "### **i. WebSocket Server Basics**",
    "level_2_ii_echo": "### **ii. Bidirectional Communication**",
    "level_2_iii_secure": "### **iii. Secure Connections (Authentication)**",
    "level_2_iv_wss": "### **iv. Encrypted Connections (WSS - WebSocket Secure)**",
    "level_2_v_broadcast": "### **v. Broadcast to Multiple Clients (Secured)**",
    "level_3_i_service_check": "### **i. Service Status Check**",
    "level_3_ii_service_multi": "### **ii. Check Multiple Services**",
    "level_3_iii_http_errors": "### **iii. HTTP Error Handling**",
    "level_4_i_service_start": "### **i. Start Services Programmatically**",
}


class Received(NamedTuple):
    method: str
    path: str
    query: str
    body: bytes


class Server(NamedTuple):
    url: str
    ca_file: Path
    received: list[Received]


@pytest.fixture(scope="module")
def https(local_httpbin: ModuleType) -> Iterator[Server]:
    received: list[Received] = []

    def recorder(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read()
        received.append(Received(environ["REQUEST_METHOD"], environ["PATH_INFO"], environ["QUERY_STRING"], body))
        return httpbin_app({**environ, "wsgi.input": io.BytesIO(body)}, start_response)

    with local_httpbin.LocalHttpbin(https=True, app=recorder) as httpbin:
        yield Server(httpbin.url, httpbin.ca_file, received)


def _run(name: str, tmp_path: Path, server: Server | None = None) -> subprocess.CompletedProcess[str]:
    code = (SNIPPETS / f"{name}.py").read_text(encoding="utf-8")
    variables = {}
    if server is not None:
        server.received.clear()
        code = code.replace("https://httpbin.org", server.url)
        variables["ZCLI_HTTP_CA_FILE"] = str(server.ca_file)
    script = tmp_path / "script" / f"{name}.py"
    script.parent.mkdir()
    script.write_text(code, encoding="utf-8")
    done = run_script(script, folder=tmp_path, variables=variables)
    assert done.stderr == ""
    assert done.returncode == 0
    return done


def test_level_0_shows_the_two_subsystems_in_their_order(tmp_path: Path) -> None:
    """The banners come as [zConfig Ready], [zComm Ready], nothing else is printed, and the log is where it says."""
    printed = _run("level_0_hello", tmp_path).stdout.splitlines()
    assert [line.partition("]")[0] for line in printed] == ["[zConfig Ready", "[zComm Ready"]
    assert (tmp_path / "logs" / "hello-comm.log").read_text(encoding="utf-8").count("ready") == 2


@usual_ports
def test_level_1_i_tells_held_ports_from_free_ones(tmp_path: Path) -> None:
    """Each port's line says what binding that port says; one of them is held meanwhile."""
    with socket.socket() as held:
        if _is_free(6379):
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections of earlier tests may linger
            held.bind(("127.0.0.1", 6379))
            held.listen()
        expected = {port: _is_free(port) for port in (80, 443, 5432, 6379)}
        printed = _run("level_1_i_port_check", tmp_path).stdout
    lines = re.findall(r"^Port +(\d+) \(\w+ *\): (✓ available|✗ in use)$", printed, re.MULTILINE)
    assert {int(port): status == "✓ available" for port, status in lines} == expected
    assert not expected[6379]
    assert len(printed.splitlines()) == 4


def test_level_1_ii_prints_what_the_server_received(tmp_path: Path, https: Server) -> None:
    """The parameters go there and back over HTTPS."""
    printed = _run("level_1_ii_http_get", tmp_path, https).stdout
    assert printed == "Server received: {'demo': 'zComm', 'level': '1'}\n"
    assert https.received == [Received("GET", "/get", "demo=zComm&level=1", b"")]


def test_level_1_iii_sends_every_method(tmp_path: Path, https: Server) -> None:
    """Five methods reach the server, each dict as JSON, and nothing is printed."""
    assert _run("level_1_iii_http_methods", tmp_path, https).stdout == ""
    sent = [(r.method, r.path, r.query, json.loads(r.body) if r.body else None) for r in https.received]
    assert sent == [
        ("GET", "/get", "key=value", None),
        ("POST", "/post", "", {"name": "Alice"}),
        ("PUT", "/put", "", {"name": "Alice", "role": "Developer"}),
        ("PATCH", "/patch", "", {"role": "Tech Lead"}),
        ("DELETE", "/delete", "", None),
    ]


def test_level_3_iii_survives_every_error(tmp_path: Path, https: Server) -> None:
    """404 and 500 are answers; a name that does not exist and a deadline that passes are None."""
    for _ in range(5):  # on a loaded machine the limit of 2 s in the snippet may not be enough for an answer
        https.received.clear()
        printed = _run("level_3_iii_http_errors", tmp_path, https).stdout.splitlines()
        if printed.count("  ✓ Handled gracefully") == 2:
            break
    assert [line.partition("]")[0] for line in printed[:2]] == ["[zConfig Ready", "[zComm Ready"]
    assert printed[2:] == [
        "Testing 404 Not Found...",
        "  Status: 404",
        "Testing 500 Server Error...",
        "  Status: 500",
        "Testing Invalid URL...",
        "  ✓ Handled gracefully",
        "Testing Timeout (2s limit)...",
        "  ✓ Handled gracefully",
    ]
    assert [(r.method, r.path, r.body) for r in https.received[:2]] == [
        ("POST", "/status/404", b"{}"),
        ("POST", "/status/500", b"{}"),
    ]


def test_every_snippet_is_executed_by_a_test() -> None:
    """No file in guide_snippets is without a section, nor the other way round."""
    assert {file.stem for file in SNIPPETS.glob("*.py")} == set(SECTIONS)


@pytest.mark.skipif(not GUIDE.exists(), reason="ZCOMM_GUIDE names no copy of the guide to compare with")
@pytest.mark.parametrize("name", SECTIONS)
def test_a_snippet_is_what_the_guide_shows(name: str) -> None:
    """The first Python block below the section's title in the guide is the file, letter for letter."""
    guide = GUIDE.read_text(encoding="utf-8")
    section = guide[guide.index(f"\n{SECTIONS[name]}\n") :]
    block = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert block is not None
    assert (SNIPPETS / f"{name}.py").read_text(encoding="utf-8") == block[1]


def _is_free(port: int) -> bool:
    """Whether it can be bound; where that takes a right we lack, whether a connection is refused."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError:
            return probe.connect_ex(("127.0.0.1", port)) != 0
        except OSError:
            return False
    return True

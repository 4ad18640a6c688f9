"""The guide's snippets of the levels 0, 1 and 3.iii, unchanged except for the host of httpbin.

``guide_snippets`` holds exact copies. The tests check what a snippet prints and what the server received. The server is
the real httpbin behind a recorder.
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
#: The file of the guide, which is not part of the repository.
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
    "path_1_zbifrost": "### **Path 1: Continue to zBifrost** (WebSocket Server)",
}


class Received(NamedTuple):
    """A request that the server received."""

    method: str
    path: str
    query: str
    body: bytes


class Server(NamedTuple):
    """An httpbin over HTTPS that records its requests."""

    url: str
    ca_file: Path
    received: list[Received]


@pytest.fixture(scope="module")
def https(local_httpbin: ModuleType) -> Iterator[Server]:
    """The recording httpbin."""
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


def test_guide_level_0_prints_banners_in_order(tmp_path: Path) -> None:
    """The snippet prints [zConfig Ready], then [zComm Ready], and nothing else; the log is in the set folder."""
    printed = _run("level_0_hello", tmp_path).stdout.splitlines()
    assert [line.partition("]")[0] for line in printed] == ["[zConfig Ready", "[zComm Ready"]
    assert (tmp_path / "logs" / "hello-comm.log").read_text(encoding="utf-8").count("ready") == 2


@usual_ports
def test_guide_level_1_i_bound_port_is_in_use(tmp_path: Path) -> None:
    """The snippet shows each port as in use if the port cannot be bound. The test holds one of them."""
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


def test_guide_level_1_ii_prints_received_query(tmp_path: Path, https: Server) -> None:
    """The snippet sends its parameters over HTTPS and prints those that the server received."""
    printed = _run("level_1_ii_http_get", tmp_path, https).stdout
    assert printed == "Server received: {'demo': 'zComm', 'level': '1'}\n"
    assert https.received == [Received("GET", "/get", "demo=zComm&level=1", b"")]


def test_guide_level_1_iii_sends_every_method(tmp_path: Path, https: Server) -> None:
    """The snippet sends five methods, each dict as JSON, and prints nothing."""
    assert _run("level_1_iii_http_methods", tmp_path, https).stdout == ""
    sent = [(r.method, r.path, r.query, json.loads(r.body) if r.body else None) for r in https.received]
    assert sent == [
        ("GET", "/get", "key=value", None),
        ("POST", "/post", "", {"name": "Alice"}),
        ("PUT", "/put", "", {"name": "Alice", "role": "Developer"}),
        ("PATCH", "/patch", "", {"role": "Tech Lead"}),
        ("DELETE", "/delete", "", None),
    ]


def test_guide_level_3_iii_handles_every_error(tmp_path: Path, https: Server) -> None:
    """404 and 500 are responses; an unknown host and a timeout give None."""
    for _ in range(5):  # on a loaded machine the limit of 2 s in the snippet may be too short for a response
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


def test_guide_snippets_match_the_sections() -> None:
    """Each file in guide_snippets has a section of the guide, and each section a file."""
    assert {file.stem for file in SNIPPETS.glob("*.py")} == set(SECTIONS)


@pytest.mark.skipif(not GUIDE.exists(), reason="ZCOMM_GUIDE is not set to the file of the guide")
@pytest.mark.parametrize("name", SECTIONS)
def test_guide_snippet_equals_the_guide(name: str) -> None:
    """The file equals the first Python block of its section in the guide."""
    guide = GUIDE.read_text(encoding="utf-8")
    section = guide[guide.index(f"\n{SECTIONS[name]}\n") :]
    block = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert block is not None
    assert (SNIPPETS / f"{name}.py").read_text(encoding="utf-8") == block[1]


def _is_free(port: int) -> bool:
    """Return whether a port can be bound or, if this user may not bind it, whether it refuses connections."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except PermissionError:
            return probe.connect_ex(("127.0.0.1", port)) != 0
        except OSError:
            return False
    return True

"""The demos of level 2, with their pages opened from files in Chromium."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

import pytest
from demo_pages import FOLDER, TIMEOUT, click, expect_received, expect_state, send_message
from playwright.sync_api import Browser, Page, expect
from script_runs import started_script

# All run in one worker, because each worker starts its own browser.
pytestmark = pytest.mark.xdist_group("chromium")


class Demo(NamedTuple):
    """The running server of a demo."""

    process: subprocess.Popen[str]
    url: str

    def stop(self) -> list[str]:
        """Press Ctrl+C and return the lines that the server has printed since it started to listen."""
        self.process.send_signal(signal.SIGINT)
        printed, _ = self.process.communicate(timeout=TIMEOUT / 1000)
        assert self.process.returncode == 0, printed
        return printed.splitlines()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[[str], Demo]]:
    """A function that starts a demo on a free port, from another folder than its own."""
    variables = {"WEBSOCKET_PORT": "0"}
    with contextlib.ExitStack() as stack:

        def start(name: str) -> Demo:
            process = stack.enter_context(started_script(FOLDER / name, folder=tmp_path, variables=variables))
            assert process.stdout is not None
            printed = ""
            for line in process.stdout:
                printed += line
                if line.startswith("[WebSocket] listening on "):
                    return Demo(process, line.split()[3])
            raise AssertionError(printed)

        yield start


def test_demo_1_serves_until_ctrl_c(run: Callable[[str], Demo], tmp_path: Path) -> None:
    """The server echoes, prints a summary at its end, and logs in its working directory."""
    from websockets.sync.client import connect

    demo = run("1_websocket_server.py")
    with connect(demo.url, proxy=None) as client:
        client.send("hello")
        assert client.recv(timeout=20) == "hello"
        client.close()
    (last,) = demo.stop()
    assert re.fullmatch(r"\[WebSocket\] stopped: 0 clients closed, port \d+ released, [\d.]+ s", last)
    assert (tmp_path / "logs" / "websocket-server.log").exists()


def test_demo_2_page_shows_echo_and_close_codes(run: Callable[[str], Demo], open_page: Callable[..., Page]) -> None:
    """The page shows the echo, its own disconnect, the server's shutdown, and a server that is not running."""
    demo = run("2_websocket_echo.py")
    page = open_page("2_client_echo.html", demo.url)
    expect_state(page, "idle", "Not connected")
    expect(page.get_by_role("button", name="Send")).to_be_disabled()
    click(page, "Connect")
    expect_state(page, "open", "Connected")
    send_message(page, "<b>hello</b>")
    expect_received(page, "Echo: <b>hello</b>")
    click(page, "Disconnect")
    expect_state(page, "closed", "code 1000")
    click(page, "Connect")
    expect_state(page, "open", "Connected")
    demo.stop()
    expect_state(page, "closed", "code 1001 · the server is shutting down")
    click(page, "Connect")
    expect_state(page, "closed", "code 1006 · no response, or the connection broke · is the server running?")


def test_demo_3_wrong_token_is_refused(
    run: Callable[[str], Demo], open_page: Callable[..., Page], tmp_path: Path
) -> None:
    """The page shows code 1008 for a wrong token; the handler runs for the right token only; the log has no token."""
    demo = run("3_websocket_secure.py")
    page = open_page("3_client_secure.html", demo.url)
    click(page, "Test Wrong Token")
    expect_state(page, "refused", "code 1008 · authentication failed")
    page.get_by_label("Token", exact=True).fill("")
    click(page, "Connect")
    expect_state(page, "refused", "code 1008 · authentication failed")
    page.get_by_label("Token", exact=True).fill("demo_secure_token_123")
    click(page, "Connect")
    expect_state(page, "open", "the server accepted the token")
    send_message(page, "hello")
    expect_received(page, "[Secure Echo]: hello")
    click(page, "Test Wrong Token")
    expect_state(page, "refused", "code 1008")
    printed, _ = demo.stop()
    assert re.fullmatch(r"default at 127\.0\.0\.1, page (null|file://): hello", printed)
    log = (tmp_path / "logs" / "websocket-secure.log").read_text()
    assert "refused 127.0.0.1:" in log
    assert "token_123" not in log
    assert "a_wrong_token" not in log


def test_demo_3_other_origin_is_refused(run: Callable[[str], Demo], chromium: Browser) -> None:
    """A page from another port of this machine is refused even with the right token."""
    demo = run("3_websocket_secure.py")
    context = chromium.new_context()
    page = context.new_page()
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as elsewhere:
        threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
        page.goto(f"http://127.0.0.1:{elsewhere.server_port}/")
        code = page.evaluate(
            "url => new Promise(done => { new WebSocket(url).onclose = event => done([event.code, event.reason]) })",
            f"{demo.url}?token=demo_secure_token_123",
        )
        elsewhere.shutdown()
    context.close()
    assert code == [1008, "origin not allowed"]


OPEN = "url => new Promise(done => { const s = new WebSocket(url); s.onmessage = () => done('served'); " \
    "s.onopen = () => s.send('hello'); s.onclose = event => done(event.code) })"  # fmt: skip


@pytest.mark.slow
def test_demo_2_page_of_other_site_is_refused(run: Callable[[str], Demo], chromium: Browser) -> None:
    """A server without authentication refuses pages of other sites, also after DNS rebinding."""
    demo = run("2_websocket_echo.py")
    port = demo.url.rpartition(":")[2]
    found = {}
    context = chromium.new_context()
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as elsewhere:
        threading.Thread(target=elsewhere.serve_forever, daemon=True).start()
        for host in ("evil.example", "localhost", "127.0.0.1"):
            page = context.new_page()
            page.goto(f"http://{host}:{elsewhere.server_port}/")
            found[host] = page.evaluate(OPEN, demo.url)
            if host == "evil.example":
                found["rebound"] = page.evaluate(OPEN, f"ws://evil.example:{port}")
        page = context.new_page()
        page.goto((FOLDER / "2_client_echo.html").as_uri())
        found["file"] = page.evaluate(OPEN, demo.url)
        elsewhere.shutdown()
    context.close()
    assert found == {
        "evil.example": 1008, "rebound": 1008, "localhost": "served", "127.0.0.1": "served", "file": "served",
    }  # fmt: skip


def test_demo_4_page_connects_over_tls(run: Callable[[str], Demo], open_page: Callable[..., Page]) -> None:
    """The page names an untrusted certificate as the cause, and connects once the browser accepts it."""
    demo = run("4_websocket_wss.py")
    assert demo.url.startswith("wss://")
    distrusting = open_page("4_client_wss.html", demo.url)
    click(distrusting, "Connect")
    expect_state(distrusting, "closed", "is its certificate trusted?")
    page = open_page("4_client_wss.html", demo.url, ignore_https_errors=True)
    with page.context.expect_page() as opened:
        page.locator("#trust").click()
    expect(opened.value.locator("h1")).to_have_text("A WebSocket server is listening here", timeout=TIMEOUT)
    expect(opened.value.locator("main")).to_contain_text("your browser accepts its certificate now")
    click(page, "Test Wrong Token")
    expect_state(page, "refused", "code 1008")
    click(page, "Connect")
    expect_state(page, "open", "encrypted")
    send_message(page, "hello")
    expect_received(page, "[Encrypted Echo]: hello")
    demo.stop()


def test_demo_5_message_reaches_the_other_windows(run: Callable[[str], Demo], open_page: Callable[..., Page]) -> None:
    """Each window receives the messages of the others; a window with a wrong token receives none."""
    demo = run("5_websocket_broadcast.py")
    windows = [open_page("5_client_broadcast.html", demo.url) for _ in range(3)]
    outsider = open_page("5_client_broadcast.html", demo.url)
    click(outsider, "Test Wrong Token")
    expect_state(outsider, "refused", "code 1008")
    for window in windows:
        click(window, "Connect")
        expect_state(window, "open", "the server accepted the token")
    for number, window in enumerate(windows):
        send_message(window, f"hello from {number}")
        for other in windows:
            if other is not window:
                expect_received(other, f"hello from {number}")
    for window in windows:
        expect(window.locator("#transcript .received")).to_have_count(2)
        expect(window.locator("#transcript .sent")).to_have_count(1)
    expect(outsider.locator("#transcript .received")).to_have_count(0)
    send_message(windows[0], "she says: he says: hello")  # contains the separator that the server adds
    expect_received(windows[1], "she says: he says: hello")
    *broadcasts, last = demo.stop()
    assert broadcasts == ["Broadcasted to 2 client(s)"] * 4
    assert last.startswith("[WebSocket] stopped: 3 clients closed")


@pytest.mark.parametrize(
    ("server", "is_used"),
    [
        ("ws://127.0.0.1:1234", True),
        ("ws://127.0.0.1.evil.example:80", False),
        ("ws://localhost:80@evil.example", False),
    ],
)
def test_demo_page_server_elsewhere_is_ignored(open_page: Callable[..., Page], server: str, is_used: bool) -> None:
    """A link with ``?server=`` cannot send the user's token to another machine."""
    shown = server if is_used else "ws://127.0.0.1:8765"
    expect(open_page("3_client_secure.html", server).locator("#server")).to_have_text(shown)


@pytest.mark.slow
@pytest.mark.parametrize("name", [file.name for file in sorted(FOLDER.glob("*.html"))])
@pytest.mark.parametrize("width", [360, 1200])
def test_demo_page_fits_the_window(open_page: Callable[..., Page], name: str, width: int) -> None:
    """A page does not scroll sideways, on a phone and on a desktop."""
    page = open_page(name, "ws://127.0.0.1:8765", viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("getComputedStyle(document.body).fontFamily").startswith("system-ui")

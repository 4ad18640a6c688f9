"""The demos of level 2 with their pages in Chromium, opened from files as a newcomer opens them."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from needs import needs
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright
from script_runs import DEMOS, started_script

FOLDER = DEMOS / "Layer_0" / "zComm_Demo" / "lvl2_websocket"
LONGEST = 20_000  # milliseconds
CHROMIUM = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP *.example 127.0.0.1",
]


# One worker runs them all, because every worker that runs one starts a browser of its own.
pytestmark = pytest.mark.xdist_group("chromium")


class Demo(NamedTuple):
    """A demo's server as it runs."""

    process: subprocess.Popen[str]
    url: str

    def stop(self) -> list[str]:
        """Press Ctrl+C; what was printed since."""
        self.process.send_signal(signal.SIGINT)
        printed, _ = self.process.communicate(timeout=LONGEST / 1000)
        assert self.process.returncode == 0, printed
        return printed.splitlines()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[[str], Demo]]:
    """Starts a demo on a free port; from any folder, for its .zEnv stands beside it."""
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


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    program = needs("chromium", "chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a page's file in a window of its own; what the page complains of on its console fails the test."""
    complaints: list[str] = []
    contexts = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and "WebSocket connection to" not in message.text:
            complaints.append(message.text)

    def open_(name: str, url: str, **options: Any) -> Page:
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(LONGEST)
        page.on("console", note)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(f"{(FOLDER / name).as_uri()}?server={url}")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert complaints == []


def _expect(page: Page, state: str, detail: str) -> None:
    """The state of the line is shown, to eyes and to screen readers."""
    expect(page.locator("body")).to_have_attribute("data-state", state, timeout=LONGEST)
    expect(page.get_by_role("status")).to_contain_text(detail, timeout=LONGEST)


def _say(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.get_by_role("button", name="Send").click()


def _hears(page: Page, text: str) -> None:
    expect(page.locator("#transcript .received").last).to_contain_text(text, timeout=LONGEST)


def test_demo_1_serves_until_ctrl_c(run: Callable[[str], Demo], tmp_path: Path) -> None:
    """It echoes, says how it ended, and its log is where it was started."""
    from websockets.sync.client import connect

    demo = run("1_websocket_server.py")
    with connect(demo.url, proxy=None) as client:
        client.send("hello")
        assert client.recv(timeout=20) == "hello"
        client.close()
    (last,) = demo.stop()
    assert re.fullmatch(r"\[WebSocket\] stopped: 0 clients closed, port \d+ released, [\d.]+ s", last)
    assert (tmp_path / "logs" / "websocket-server.log").exists()


def test_demo_2_echoes(run: Callable[[str], Demo], open_page: Callable[..., Page]) -> None:
    """Connect, say something, see it come back, hang up; and see the server go."""
    demo = run("2_websocket_echo.py")
    page = open_page("2_client_echo.html", demo.url)
    _expect(page, "idle", "Not connected")
    expect(page.get_by_role("button", name="Send")).to_be_disabled()
    page.get_by_role("button", name="Connect").click()
    _expect(page, "open", "Connected")
    _say(page, "<b>hello</b>")
    _hears(page, "Echo: <b>hello</b>")
    page.get_by_role("button", name="Disconnect").click()
    _expect(page, "closed", "code 1000")
    page.get_by_role("button", name="Connect").click()
    _expect(page, "open", "Connected")
    demo.stop()
    _expect(page, "closed", "code 1001 · the server is shutting down")
    page.get_by_role("button", name="Connect").click()
    _expect(page, "closed", "code 1006 · no response, or the connection broke · is the server running?")


def test_demo_3_wants_the_token(run: Callable[[str], Demo], open_page: Callable[..., Page], tmp_path: Path) -> None:
    """The wrong one is closed with 1008, visibly; the right one gets in; the handler heard only of that."""
    demo = run("3_websocket_secure.py")
    page = open_page("3_client_secure.html", demo.url)
    page.get_by_role("button", name="Test Wrong Token").click()
    _expect(page, "refused", "code 1008 · authentication failed")
    page.get_by_label("Token", exact=True).fill("")
    page.get_by_role("button", name="Connect").click()
    _expect(page, "refused", "code 1008 · authentication failed")
    page.get_by_label("Token", exact=True).fill("demo_secure_token_123")
    page.get_by_role("button", name="Connect").click()
    _expect(page, "open", "the server accepted the token")
    _say(page, "hello")
    _hears(page, "[Secure Echo]: hello")
    page.get_by_role("button", name="Test Wrong Token").click()
    _expect(page, "refused", "code 1008")
    heard, _ = demo.stop()
    assert re.fullmatch(r"default at 127\.0\.0\.1, page (null|file://): hello", heard)
    log = (tmp_path / "logs" / "websocket-secure.log").read_text()
    assert "refused 127.0.0.1:" in log
    assert "token_123" not in log
    assert "a_wrong_token" not in log


def test_demo_3_lets_no_strange_page_in(run: Callable[[str], Demo], chromium: Browser) -> None:
    """A page from another port of this machine, with the right token: a browser does not lie about where it is."""
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
def test_pages_of_other_sites_stay_out_of_an_open_server(run: Callable[[str], Demo], chromium: Browser) -> None:
    """Demo 2 asks for no token, and still no other site drives a visitor's server, also not by DNS rebinding."""
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


def test_demo_4_is_encrypted(run: Callable[[str], Demo], open_page: Callable[..., Page]) -> None:
    """An untrusted certificate keeps the page out and it says what to do; once accepted, it works."""
    demo = run("4_websocket_wss.py")
    assert demo.url.startswith("wss://")
    suspicious = open_page("4_client_wss.html", demo.url)
    suspicious.get_by_role("button", name="Connect").click()
    _expect(suspicious, "closed", "is its certificate trusted?")
    page = open_page("4_client_wss.html", demo.url, ignore_https_errors=True)
    with page.context.expect_page() as opened:
        page.locator("#trust").click()
    expect(opened.value.locator("h1")).to_have_text("A WebSocket server is listening here", timeout=LONGEST)
    expect(opened.value.locator("main")).to_contain_text("your browser accepts its certificate now")
    page.get_by_role("button", name="Test Wrong Token").click()
    _expect(page, "refused", "code 1008")
    page.get_by_role("button", name="Connect").click()
    _expect(page, "open", "encrypted")
    _say(page, "hello")
    _hears(page, "[Encrypted Echo]: hello")
    demo.stop()


def test_demo_5_broadcasts_to_three_windows(run: Callable[[str], Demo], open_page: Callable[..., Page]) -> None:
    """Everybody hears everybody but themselves; somebody with a wrong token hears nothing."""
    demo = run("5_websocket_broadcast.py")
    windows = [open_page("5_client_broadcast.html", demo.url) for _ in range(3)]
    outsider = open_page("5_client_broadcast.html", demo.url)
    outsider.get_by_role("button", name="Test Wrong Token").click()
    _expect(outsider, "refused", "code 1008")
    for window in windows:
        window.get_by_role("button", name="Connect").click()
        _expect(window, "open", "the server accepted the token")
    for number, window in enumerate(windows):
        _say(window, f"hello from {number}")
        for other in windows:
            if other is not window:
                _hears(other, f"hello from {number}")
    for window in windows:
        expect(window.locator("#transcript .received")).to_have_count(2)
        expect(window.locator("#transcript .sent")).to_have_count(1)
    expect(outsider.locator("#transcript .received")).to_have_count(0)
    _say(windows[0], "she says: he says: hello")  # which holds the server's separator
    _hears(windows[1], "she says: he says: hello")
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
def test_demo_page_goes_to_this_machine_only(open_page: Callable[..., Page], server: str, is_used: bool) -> None:
    """A link to a page with ``?server=`` does not send the token that a visitor types to another machine."""
    shown = server if is_used else "ws://127.0.0.1:8765"
    expect(open_page("3_client_secure.html", server).locator("#server")).to_have_text(shown)


@pytest.mark.slow
@pytest.mark.parametrize("name", [file.name for file in sorted(FOLDER.glob("*.html"))])
@pytest.mark.parametrize("width", [360, 1200])
def test_a_page_fits_its_window(open_page: Callable[..., Page], name: str, width: int) -> None:
    """Nothing is cut off or has to be scrolled sideways, on a phone or on a desk."""
    page = open_page(name, "ws://127.0.0.1:8765", viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("getComputedStyle(document.body).fontFamily").startswith("system-ui")

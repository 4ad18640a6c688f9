"""The page of the console in Chromium."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from browser import TIMEOUT
from console_serving import TOKEN, ConsoleServer, Serve
from needs import missing, needs
from playwright.sync_api import Page, expect

Open = Callable[..., Page]

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("chromium")]


def _connected(page: Page, server: ConsoleServer) -> Page:
    page.get_by_role("button", name="Connect").click()
    expect(page.locator("#status")).to_contain_text(f"Connected ws://127.0.0.1:{server.port}/", timeout=TIMEOUT)
    return page


def _url(server: ConsoleServer) -> str:
    return f"http://127.0.0.1:{server.port}/"


def _send(page: Page, text: str) -> None:
    page.get_by_label("Message to the server").fill(text)
    page.keyboard.press("Enter")


def test_console_shows_messages_as_text(serve: Serve, open_url: Open) -> None:
    """Messages and names with markup stay text; JSON is formatted, or shown as it came."""
    server = serve()
    page = _connected(open_url(_url(server)), server)
    hostile = '<img src=x onerror="document.title=1"><script>document.title=2</script>'
    _send(page, hostile)
    _send(page, f"join {hostile[:40]}")
    _send(page, json.dumps({"text": hostile, "list": [1, None]}))
    messages = page.locator("#log .received pre")
    expect(messages).to_have_count(3)
    expect(messages.first).to_have_text(hostile)
    expect(messages.last).to_have_text(json.dumps({"text": hostile, "list": [1, None]}, indent=2), use_inner_text=True)
    page.get_by_label("Format JSON").uncheck()
    expect(messages.last).to_have_text(json.dumps({"text": hostile, "list": [1, None]}))
    expect(page.locator("#room-list li")).to_have_text(f"{hostile[:40]}1")
    expect(page.locator("#client-list li")).to_contain_text("127.0.0.1:")
    expect(page.locator("#log img, #log script, aside img")).to_have_count(0)
    assert page.title() == "Tea & cake · console"
    page.get_by_role("button", name="Disconnect").click()
    expect(page.get_by_role("status").first).to_contain_text("Not connected Code 1000")


def test_console_survives_a_flood(serve: Serve, open_url: Open) -> None:
    """Of 10,000 messages the last 500 are kept, the page still reacts, and the chart has seen them."""
    server = serve()
    page = _connected(open_url(_url(server)), server)
    _send(page, "flood")
    expect(page.locator("#counted")).to_contain_text("10001 received, 1 sent; the last 500 are kept", timeout=TIMEOUT)
    expect(page.locator("#log li")).to_have_count(500)
    expect(page.locator("#log li").last).to_contain_text("flood")
    expect(page.locator("#announcer")).to_contain_text("messages received")
    expect(page.locator("#rate path")).to_have_count(4, timeout=TIMEOUT)
    expect(page.locator("#rate-top")).not_to_have_text("top: 1")
    _send(page, "still here")
    expect(page.locator("#log .received").last).to_contain_text("still here")


def test_console_works_by_keyboard(serve: Serve, open_url: Open) -> None:
    """A user without a mouse connects, writes and clears; a screen reader gets states and messages."""
    page = open_url(_url(serve()))
    for _ in range(3):  # the skip link, the path, the button
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#text")).to_be_focused()
    page.keyboard.type("first line")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("second")
    page.keyboard.press("Enter")
    expect(page.locator("#announcer")).to_have_text("received: first line\nsecond")
    for _ in range(2):
        page.keyboard.press("Shift+Tab")
    expect(page.get_by_role("button", name="Clear")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#log li")).to_have_count(0)
    expect(page.locator("#counted")).to_have_text("0 received, 0 sent")


def test_console_token_is_kept_nowhere(serve: Serve, open_url: Open) -> None:
    """A wrong token is refused with the reason; the right one opens messages and state, and stays in its field."""
    server = serve(websocket={"require_auth": True, "token": TOKEN})
    page = open_url(_url(server))
    expect(page.get_by_role("note")).to_have_text("Enter a token and connect to see the state of the server.")
    expect(page.locator("#client-empty")).to_have_text("–")  # unknown, not none
    page.get_by_role("button", name="Connect").click()
    expect(page.locator("#status")).to_contain_text("authentication required; enter a token", timeout=TIMEOUT)
    expect(page.get_by_label("Token")).to_be_focused()
    page.keyboard.type("wrong")
    page.get_by_role("button", name="Connect").click()
    expect(page.locator("#status")).to_contain_text("Code 1008: authentication failed", timeout=TIMEOUT)
    expect(page.locator("body")).to_have_attribute("data-state", "refused")
    page.get_by_label("Token").fill(TOKEN)
    _connected(page, server)
    expect(page.locator("#clients")).to_have_text("1", timeout=TIMEOUT)
    expect(page.locator("#room-empty")).to_have_text("No room has a client.")
    kept = page.evaluate(
        "[location.href, document.cookie, JSON.stringify(localStorage), JSON.stringify(sessionStorage)]"
    )
    assert TOKEN not in "".join(kept)
    assert TOKEN not in Path(str(server.z._application_log.file)).read_text()


def test_console_refused_origin_says_where_to_look(serve: Serve, open_url: Open) -> None:
    """The log of the server has the setting that admits the console."""
    page = open_url(_url(serve(websocket={"allowed_origins": ["https://chat.example"]})))
    page.get_by_role("button", name="Connect").click()
    expect(page.locator("#status")).to_contain_text("origin not allowed; the log of the server", timeout=TIMEOUT)


@pytest.mark.parametrize("width", [380, 1800])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_console_fits_and_is_accessible(
    serve: Serve,
    open_url: Open,
    axe: str,
    width: int,
    scheme: str,
) -> None:
    """No horizontal scrolling, and axe-core finds no problem, connected and with messages."""
    server = serve()
    page = open_url(_url(server), viewport={"width": width, "height": 900}, color_scheme=scheme)
    _connected(page, server)
    _send(page, "join kitchen")
    _send(page, json.dumps({"long": "x" * 500}))
    expect(page.locator("#room-list li")).to_have_count(1, timeout=TIMEOUT)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.evaluate(axe)
    checked, found = page.evaluate(
        """axe.run().then(({ passes, violations }) =>
            [passes.length, violations.map(({ id, nodes }) => [id, nodes[0].html])])"""
    )
    assert (found, checked > 20) == ([], True)


@pytest.fixture(scope="module")
def axe(pytestconfig: pytest.Config) -> str:
    """The script axe-core of npm, which is installed once."""
    npm = needs("npm", "npm")
    assert pytestconfig.cache is not None
    folder = pytestconfig.cache.mkdir("axe")
    script = Path(folder) / "node_modules" / "axe-core" / "axe.min.js"
    if not script.exists():
        command = [npm, "install", "--no-audit", "--no-fund", "--fetch-retries=0", "--prefix", folder, "axe-core@4"]
        installed = subprocess.run(command, check=False, capture_output=True, text=True)
        if installed.returncode != 0:
            missing(f"npm could not install axe-core: {installed.stderr.strip()[-500:]}")
    return script.read_text(encoding="utf-8")

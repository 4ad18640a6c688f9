"""The demo of level 6: a chat in rooms over two processes, with its page in Chromium."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from broken_engines import engine
from needs import needs
from playwright.sync_api import Page, expect
from script_runs import DEMOS, started_script

FOLDER = DEMOS / "Layer_0" / "zComm_Demo" / "lvl6_rooms"
TIMEOUT = 20_000  # milliseconds

pytestmark = [pytest.mark.xdist_group("chromium"), pytest.mark.slow]


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[list[tuple[subprocess.Popen[str], str]]]:
    """Two processes of the chat with their URLs, on a Redis that runs already."""
    needs("redis-server", "redis-server")
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(engine("redis"))
        variables = {"WEBSOCKET_PORT": "0", "ZCLI_SERVICES_REDIS_PORT": str(running.port)}
        yield [stack.enter_context(_served(tmp_path, variables)) for _ in range(2)]


@contextlib.contextmanager
def _served(folder: Path, variables: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    with started_script(FOLDER / "1_chat.py", folder=folder, variables=variables) as process:
        assert process.stdout is not None
        printed = ""
        for line in process.stdout:
            printed += line
            if line.startswith("[WebSocket] listening on "):
                yield process, line.split()[3]
                return
        raise AssertionError(printed)


def _join(page: Page, name: str, room: str) -> None:
    page.get_by_label("Your name").fill(name)
    page.get_by_label("Room").fill(room)
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text(f"in {room} as {name}", timeout=TIMEOUT)


def _say(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    page.keyboard.press("Enter")


def test_demo_chat_reaches_the_other_process(
    processes: list[tuple[subprocess.Popen[str], str]], open_page: Callable[..., Page]
) -> None:
    """Messages reach the room's members on both processes, and presence follows joins, leaves and a kill."""
    chat = str(FOLDER / "1_client_chat.html")
    (first, one), (_second, two) = processes
    ann, eve, ben = open_page(chat, one), open_page(chat, one), open_page(chat, two)
    expect(ann.get_by_role("button", name="Send")).to_be_disabled()
    for page, name, room in ((ann, "Ann", "kitchen"), (eve, "Eve", "garden"), (ben, "Ben", "kitchen")):
        _join(page, name, room)
    for page in (ann, ben):
        expect(page.locator("#here li")).to_contain_text(["Ann", "Ben"], timeout=TIMEOUT)
    _say(ann, "<b>hello</b>")
    expect(ben.locator("#transcript .received")).to_contain_text(["Ann · "], timeout=TIMEOUT)
    expect(ben.locator("#transcript .received")).to_contain_text("<b>hello</b>")
    _join(eve, "Eve", "kitchen")
    _say(eve, "dinner?")
    for page in (ann, ben):
        expect(page.locator("#transcript .received").last).to_contain_text("dinner?", timeout=TIMEOUT)
    expect(eve.locator("#transcript .received")).to_have_count(0)
    expect(ben.locator("#here li")).to_have_count(3, timeout=TIMEOUT)
    first.kill()
    expect(ann.get_by_role("status")).to_contain_text("code 1006", timeout=TIMEOUT)
    expect(ben.locator("#here li")).to_have_count(1, timeout=2 * TIMEOUT)


@pytest.mark.parametrize("width", [360, 1200])
def test_demo_chat_page_fits_the_window(open_page: Callable[..., Page], width: int) -> None:
    """The page needs no horizontal scrolling, and each field has a label."""
    page = open_page(str(FOLDER / "1_client_chat.html"), "ws://127.0.0.1:1", viewport={"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("[...document.querySelectorAll('input')].every(e => e.labels.length || e.ariaLabel)")

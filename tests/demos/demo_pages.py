"""What the tests of the demo pages do in Chromium."""

from __future__ import annotations

from browser import TIMEOUT
from playwright.sync_api import Page, expect
from script_runs import DEMOS

FOLDER = DEMOS / "Layer_0" / "zComm_Demo" / "lvl2_websocket"


def expect_state(page: Page, state: str, detail: str) -> None:
    """Wait until the page shows this state of the connection, also to screen readers."""
    expect(page.locator("body")).to_have_attribute("data-state", state, timeout=TIMEOUT)
    expect(page.get_by_role("status")).to_contain_text(detail, timeout=TIMEOUT)


def click(page: Page, button: str) -> None:
    page.get_by_role("button", name=button, exact=True).click()


def send_message(page: Page, text: str) -> None:
    page.get_by_label("Message").fill(text)
    click(page, "Send")


def expect_received(page: Page, text: str) -> None:
    """Wait until this is the last message that the page received."""
    expect(page.locator("#transcript .received").last).to_contain_text(text, timeout=TIMEOUT)

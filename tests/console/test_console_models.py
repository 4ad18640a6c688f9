"""The models of zBifrost in the console, in Chromium."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from browser import TIMEOUT
from playwright.sync_api import Page, expect

from zcli_core.app import zCLI

Open = Callable[..., Page]

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("chromium")]

MODELS = {
    "tasks": {
        "fields": {
            "title": {"type": "text", "required": True, "max_length": 60},
            "state": {"type": "text", "enum": ["open", "done"], "default": "open"},
            "hours": {"type": "float", "min": 0},
            "more": "json",
        }
    },
    "notes": {"fields": {"text": {"type": "text"}}, "access": {"read": ["*"]}},
}


@pytest.fixture
def url(isolated: Path) -> Iterator[str]:
    """The URL of the console of a server with two models, one of which is read only."""
    with contextlib.ExitStack() as stack:
        quiet = {"logger": "PROD", "logger_path": str(isolated / "logs"), "zMode": "zBifrost"}
        z = stack.enter_context(zCLI({**quiet, "bifrost": {"models": MODELS}}))
        handle = stack.enter_context(z.bifrost.start_background(port=0))
        yield f"http://127.0.0.1:{handle.port}/"


def _open(open_url: Open, url: str) -> Page:
    page = open_url(url)
    page.get_by_role("button", name="Connect").click()
    expect(page.get_by_label("title of the new row")).to_be_visible(timeout=TIMEOUT)
    return page


def test_console_tables_are_live(url: str, open_url: Open) -> None:
    """A row that one window adds, edits or deletes follows in the other, and markup stays text."""
    ann, ben = _open(open_url, url), _open(open_url, url)
    hostile = "<img src=x onerror=alert(1)>"
    ann.get_by_label("title of the new row").fill(hostile)
    ann.get_by_label("more of the new row").fill('{"a": [1]}')
    ann.keyboard.press("Enter")
    row = ben.locator("tbody tr").first
    expect(row).to_contain_text(hostile, timeout=TIMEOUT)
    expect(row.locator("td")).to_have_text(["1", hostile, "open", "–", '{"a":[1]}', "EditDelete"])
    expect(ann.get_by_label("title of the new row")).to_have_value("")
    ben.get_by_role("button", name="Edit 1").click()
    expect(ben.get_by_label("title", exact=True)).to_be_focused()
    ben.get_by_label("hours", exact=True).fill("2.5")
    ben.get_by_label("state", exact=True).select_option("done")
    ann.get_by_label("title of the new row").fill("second")
    ann.keyboard.press("Enter")
    expect(ben.locator("tbody tr")).to_have_count(3, timeout=TIMEOUT)  # the row that is being edited stays as it is
    ben.get_by_role("button", name="Save").click()
    expect(ann.locator("tbody tr").first.locator("td")).to_have_text(
        ["1", hostile, "done", "2.5", '{"a":[1]}', "EditDelete"], timeout=TIMEOUT
    )
    ann.get_by_role("button", name="Delete 1").click()
    ann.get_by_role("button", name="Really delete 1?").click()
    expect(ben.locator("tbody tr").first).to_contain_text("second", timeout=TIMEOUT)
    expect(ben.locator("#model-note")).to_have_text("1 to 1 of 1")
    expect(ben.locator("table img")).to_have_count(0)


def test_console_tables_show_what_is_wrong(url: str, open_url: Open) -> None:
    """Each field says what is wrong with it, to screen readers too; a model without access has no buttons."""
    page = _open(open_url, url)
    page.get_by_label("hours of the new row").fill("-3")
    page.keyboard.press("Enter")
    expect(page.locator("#problem-new-title")).to_contain_text("required", timeout=TIMEOUT)
    expect(page.locator("#problem-new-hours")).to_contain_text("0")
    expect(page.get_by_label("hours of the new row")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("more of the new row").fill("{")
    page.keyboard.press("Enter")
    expect(page.locator("#problem-new-more")).to_have_text("not valid JSON")
    page.locator("#model").select_option("notes")
    expect(page.locator("#model-note")).to_have_text("no rows yet", timeout=TIMEOUT)
    expect(page.locator("table button, table input")).to_have_count(0)
    page.get_by_role("button", name="Disconnect").click()
    expect(page.locator("#models")).to_be_hidden()

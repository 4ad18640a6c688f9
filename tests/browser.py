"""Chromium, for tests of pages: the fixtures ``chromium`` and ``open_url``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from needs import needs
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

TIMEOUT = 30_000  # milliseconds

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


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Chromium without a window."""
    program = needs("chromium", "chromium")
    expect.set_options(timeout=TIMEOUT)  # on a loaded machine a page may take long
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def open_url(chromium: Browser) -> Iterator[Callable[..., Page]]:
    """A function that opens a page in its own window. Errors in the page's console fail the test."""
    errors: list[str] = []
    contexts = []

    def note(message: ConsoleMessage) -> None:
        if message.type == "error" and "WebSocket connection to" not in message.text:
            errors.append(message.text)

    def open_(url: str, **options: Any) -> Page:
        context = chromium.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(TIMEOUT)
        page.on("console", note)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert errors == [], errors

"""Chromium, for the pages of the demos."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from browser import chromium, open_url  # noqa: F401 - fixtures
from demo_pages import FOLDER
from playwright.sync_api import Page


@pytest.fixture
def open_page(open_url: Callable[..., Page]) -> Callable[..., Page]:  # noqa: F811 - the fixture
    """A function that opens the file of a page of level 2, which connects to the server at a URL."""
    return lambda name, server, **options: open_url(f"{(FOLDER / name).as_uri()}?server={server}", **options)

"""The pictures of the documentation are current. ``docs/pictures/make.py`` makes them."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

PICTURES = Path(__file__).parents[1] / "docs" / "pictures"
AGAIN = "make it again: python docs/pictures/make.py"


@pytest.fixture(scope="module")
def make() -> ModuleType:
    """The script that makes the pictures."""
    spec = importlib.util.spec_from_file_location("make_pictures", PICTURES / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _without_numbers(lines: list[str]) -> list[str]:
    """Return lines without the parts that differ from run to run: numbers, and spaces that depend on their length."""
    return [re.sub(r"[\d.,:]*\d+|\s+", " ", line).strip() for line in lines]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["config", "doctor", "tour"])
def test_terminal_picture_is_current(make: ModuleType, name: str) -> None:
    """The picture of a terminal has the words that the command prints."""
    shown = make.text_of((PICTURES / f"{name}.svg").read_text(encoding="utf-8"))
    assert len(shown) > 5
    assert _without_numbers(shown) == _without_numbers(make.text_of(make.TERMINALS[name]())), AGAIN


def test_page_pictures_are_current(make: ModuleType) -> None:
    """The pictures of the demo pages hold the checksums of the pages' sources."""
    for page in make.PAGES:
        for scheme in make.SCHEMES:
            picture = PICTURES / f"{page}-{scheme}.png"
            assert make.checksum_in(picture) == make.checksum_of(page), f"{picture.name}: {AGAIN}"

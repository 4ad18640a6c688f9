"""The section "security" of ``zcli doctor``: what other users, pages and hosts can read, reach or change.

The fixture ``security`` runs this section only, because the whole command probes every service.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from zcli_core.cli import checks

Security = Callable[..., list[tuple[str, str]]]


@pytest.fixture
def security(doctor: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Security:
    """Runs the section with these variables and returns its findings as (state, detail)."""
    monkeypatch.setattr(checks, "_CHECKS", (("security", checks._security),))

    def run(**variables: str) -> list[tuple[str, str]]:
        found: list[tuple[str, str]] = doctor(**variables)[1]["security"]
        return found

    return run


def test_security_without_problems_says_so(security: Security) -> None:
    """An empty folder and the defaults give one line."""
    assert security() == [("ok", "no problem found")]


def test_security_check_that_raises_hides_no_other(security: Security, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other checks still report."""

    def broken(session: object) -> Any:
        raise OSError("no such disk")

    def finds(session: object) -> Any:
        yield "warning", "a finding"

    monkeypatch.setattr(checks, "SECURITY_CHECKS", (broken, finds))
    assert security() == [
        ("wrong", "the check broken failed: OSError: no such disk"),
        ("warning", "a finding"),
    ]

"""``zcli doctor``: the limits of the server and of its processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

resource = pytest.importorskip("resource")
Run = Callable[..., Any]


@pytest.fixture
def files() -> Iterator[Callable[[int], None]]:
    """Sets how many files this process may open."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda number: resource.setrlimit(resource.RLIMIT_NOFILE, (number, before[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_limits_few_files_are_a_warning(doctor: Run, files: Callable[[int], None]) -> None:
    """With what to do; the setting and its origin are named."""
    files(500)
    status, found = doctor(ZCLI_WEBSOCKET_MAX_CONNECTIONS="450")
    ((state, text),) = found["limits"]
    assert (status, state) == (0, "warning")
    assert text.startswith("the server may open 500 files (ulimit -n), which is not enough for 450 clients")
    assert "(websocket.max_connections, ZCLI_WEBSOCKET_MAX_CONNECTIONS)" in text
    assert "`ulimit -n 550`" in text
    assert text.endswith("set websocket.max_connections to at most 400")


def test_limits_enough_files_are_fine(doctor: Run, files: Callable[[int], None]) -> None:
    """A hundred more than clients."""
    files(550)
    _, found = doctor(ZCLI_WEBSOCKET_MAX_CONNECTIONS="450")
    assert found["limits"] == [
        ("ok", "the server may open enough files for its 450 clients (ulimit -n)")
    ]  # fmt: skip


def test_limits_of_workers_count_for_each(doctor: Run, files: Callable[[int], None]) -> None:
    """It shows the sum of the clients; the files of a process are compared with its own clients."""
    files(500)
    variables = {"ZCLI_WEBSOCKET_WORKERS": "4", "ZCLI_WEBSOCKET_BACKPLANE": "local"}
    _, found = doctor(ZCLI_WEBSOCKET_MAX_CONNECTIONS="400", **variables)
    (first, second) = found["limits"]
    assert first[0] == second[0] == "ok"
    assert "4 workers with at most 400 clients each, 1600 together" in first[1]
    assert "count per worker" in first[1]
    assert second[1].startswith("each worker may open enough files")


def test_limits_hard_limit_too_low_needs_root(doctor: Run, files: Callable[[int], None]) -> None:
    """No command is named that would fail."""
    files(500)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most == resource.RLIM_INFINITY:
        pytest.skip("this process has no hard limit")
    _, found = doctor(ZCLI_WEBSOCKET_MAX_CONNECTIONS=str(most))
    ((state, text),) = found["limits"]
    assert state == "warning"
    assert f"let root raise the hard limit, which is {most}," in text
    assert "`ulimit" not in text


def test_limits_workers_without_backplane_are_wrong(doctor: Run) -> None:
    """As the start of the server says it."""
    status, found = doctor(ZCLI_WEBSOCKET_WORKERS="4")
    ((state, text),) = found["limits"]
    assert (status, state) == (1, "wrong")
    assert "websocket.workers is 4" in text

"""zBifrost: the task board of its demos, with two clients."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tour_steps.walk import StepFailed, Tour, expect
from tour_steps.websocket import server_process

_ROOT = Path(__file__).resolve().parent.parent.parent
_BOARD = Path("Demos", "Layer_2", "zBifrost_Demo", "lvl1_board")
_TIMEOUT = 30.0  # seconds


def show_bifrost(tour: Tour) -> str:
    from websockets.sync.client import connect

    folder = Path(shutil.copytree(_ROOT / _BOARD, tour.folder / "board"))  # it writes its database beside itself
    with ExitStack() as stack:
        url = stack.enter_context(_served(tour, folder))
        ann, ben = (stack.enter_context(connect(url, proxy=None, open_timeout=_TIMEOUT)) for _ in range(2))
        model = _next(ann, "connection_info")["models"][0]
        tour.print(f"the model {model['name']}: {', '.join(model['fields'])}")
        _next(ben, "connection_info")
        _ask(ben, "subscribe", model="tasks")
        (made,) = _ask(ann, "create", model="tasks", data={"title": "Paint the fence"})
        tour.print(f"Ann creates the task {made['id']}, {made['title']!r}")
        change = _next(ben, "data_updated")
        tour.print(f"Ben gets the change: {change['action']} {change['rows'][0]['title']!r}")
        expect(change["rows"][0]["id"] == made["id"], f"Ben received {change}")
        error = _ask(ann, "create", model="tasks", data={"title": "x" * 100})
        tour.print(f"a title of 100 characters: {error}")
        expect("title" in error, "the title was not refused")
    return "a row that one client created appeared at the other one, and a wrong one was refused"


def _ask(client: Any, event: str, **data: Any) -> Any:
    """Send a request; return its result, or what is wrong with which field."""
    client.send(json.dumps({"event": event, "_requestId": 1, **data}))
    answer = json.loads(client.recv(timeout=_TIMEOUT))
    return answer["result"] if "result" in answer else answer["fields"]


def _next(client: Any, event: str) -> Any:
    """Return the data of the next message, which must be this event."""
    message = json.loads(client.recv(timeout=_TIMEOUT))
    expect(message.get("event") == event, f"expected the event {event}, received {message}")
    return message["data"]


@contextmanager
def _served(tour: Tour, folder: Path) -> Iterator[str]:
    """Run the task board and give its URL."""
    tour.print(str(_BOARD / "1_task_board.py"), "cyan")
    with server_process(folder / "1_task_board.py") as process:
        assert process.stdout is not None
        printed = ""
        for line in process.stdout:
            printed += line
            if " listening on " in line:
                yield line.split(" listening on ")[1].split()[0]
                process.terminate()
                rest, _ = process.communicate(timeout=_TIMEOUT)
                expect(process.returncode == 0, f"the server ended with status {process.returncode}: {rest}")
                return
        raise StepFailed(f"the task board did not start to listen: {printed.strip()}")

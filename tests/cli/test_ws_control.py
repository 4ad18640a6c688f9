"""``zcli ws status`` and ``zcli ws reload``: what they print about running servers."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cli_runs import DoneBytes

from zcli_core.cli import ws_control
from zcli_core.websocket.control import open_to_commands
from zcli_core.websocket.control_folder import RunFolder

Run = Callable[..., DoneBytes]


pytestmark = [
    pytest.mark.skipif(os.name != "posix", reason="the system has no Unix sockets"),
]


def _worker(number: int, **state: Any) -> dict[str, Any]:
    return {
        "number": number, "pid": 100 + number, "state": "ready", "uptime": 1.0, "clients": 2, "rooms": 3,
        "not_ready": [], **state,
    }  # fmt: skip


class _Server:
    """A server with workers, as a supervisor is."""

    def __init__(self, title: str, pid: int, *workers: dict[str, Any], error: str = "") -> None:
        self.title, self.pid, self.workers, self.error = title, pid, workers, error
        self.reloads = 0

    def status(self) -> Any:
        return {
            "title": self.title, "pid": self.pid, "url": "ws://127.0.0.1:8765", "uptime": 93_784.2,
            "clients": sum(worker["clients"] for worker in self.workers), "backplane": "redis",
            "workers": list(self.workers), "restarts": {"crash": 1, "hang": 0, "reload": 4},
        }  # fmt: skip

    def reload(self) -> None:
        if self.error:
            raise RuntimeError(self.error)
        self.reloads += 1

    def metrics(self) -> Any:
        raise NotImplementedError


@contextlib.contextmanager
def _running(*servers: _Server) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for server in servers:
            stack.enter_context(open_to_commands(server, server.title, logging.getLogger("zcli.test")))
        yield


def test_ws_status_is_a_table(zcli_on: Run) -> None:
    """By title and pid, with the state of the workers and why one is not ready."""
    two = _Server("shop", 7, _worker(1), _worker(2, state="draining", not_ready=["draining", "full"]))
    with _running(two, _Server("chat", 9, _worker(1, not_ready=["full"])), _Server("chat", 8, _worker(1))):
        done = zcli_on("ws", "status")
    assert (done.status, done.err) == (0, "")
    head, *rows = [line.split("  ") for line in done.out.decode().splitlines()]
    assert [cell.strip() for cell in head if cell.strip()] == [
        "title", "pid", "url", "uptime", "clients", "rooms", "workers", "backplane", "not ready",
    ]  # fmt: skip
    shown = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    url, uptime = "ws://127.0.0.1:8765", "1 d 2 h"
    assert shown == [
        ["chat", "8", url, uptime, "2", "3", "1 ready", "redis", "-"],
        ["chat", "9", url, uptime, "2", "3", "1 ready", "redis", "full"],
        ["shop", "7", url, uptime, "4", "6", "1 ready, 1 draining", "redis", "worker 2: draining, full"],
    ]


def test_ws_status_json_is_the_status(zcli_on: Run) -> None:
    """All of it."""
    server = _Server("shop", 7, _worker(1), _worker(2))
    with _running(server):
        done = zcli_on("ws", "status", "--json")
    assert json.loads(done.out) == [server.status()]
    assert (done.status, done.err) == (0, "")


@pytest.mark.parametrize("arguments", [("status",), ("status", "--json"), ("reload",), ("reload", "--title", "x")])
def test_ws_commands_without_a_server_say_so(zcli_on: Run, arguments: tuple[str, ...]) -> None:
    """With exit status 1; JSON stays JSON."""
    done = zcli_on("ws", *arguments)
    assert done.status == 1
    assert done.err == "zcli: no WebSocket server of this user runs on this machine\n"
    assert done.out == (b"[]\n" if "--json" in arguments else b"")


@pytest.mark.parametrize(
    ("arguments", "reloads"), [(("8",), [1, 0, 0]), (("--title", "chat"), [1, 1, 0]), (("--title", "shop"), [0, 0, 1])]
)
def test_ws_reload_asks_those_that_are_named(zcli_on: Run, arguments: tuple[str, ...], reloads: list[int]) -> None:
    """And says that it has begun."""
    servers = [_Server("chat", 8), _Server("chat", 9), _Server("shop", 7)]
    with _running(*servers):
        done = zcli_on("ws", "reload", *arguments)
    assert [server.reloads for server in servers] == reloads
    assert (done.status, done.err) == (0, "")
    assert done.out.decode().count("the reload has begun") == sum(reloads)


def test_ws_reload_takes_the_only_server(zcli_on: Run) -> None:
    """Nothing has to be named then."""
    server = _Server("chat", 8)
    with _running(server):
        done = zcli_on("ws", "reload")
    assert (done.status, server.reloads) == (0, 1)
    assert done.out == b"chat (pid 8): the reload has begun; its log tells how it goes\n"


@pytest.mark.parametrize(
    ("arguments", "problem", "status"),
    [
        ((), "2 servers run: chat (pid 8), shop (pid 7); name one by its PID, or use --title", 1),
        (("9",), "no WebSocket server of this user has the pid 9", 1),
        (("--title", "x\x1b"), "no WebSocket server of this user has the title 'x\\x1b'", 1),
        (("8", "--title", "chat"), "give PID or --title, not both", 2),
        (("0",), "0 is not in the range", 2),
    ],
)
def test_ws_reload_without_one_choice_fails(
    zcli_on: Run, arguments: tuple[str, ...], problem: str, status: int
) -> None:
    """No server is reloaded."""
    servers = [_Server("chat", 8), _Server("shop", 7)]
    with _running(*servers):
        done = zcli_on("ws", "reload", *arguments)
    assert done.status == status
    assert problem in done.err
    assert not any(server.reloads for server in servers)


def test_ws_reload_refused_says_why(zcli_on: Run) -> None:
    """The others are reloaded."""
    servers = [_Server("chat", 8, error="cannot reload: the server has no workers"), _Server("chat", 9)]
    with _running(*servers):
        done = zcli_on("ws", "reload", "--title", "chat")
    assert done.status == 1
    assert done.err == "zcli: chat (pid 8): cannot reload: the server has no workers\n"
    assert servers[1].reloads == 1


@pytest.mark.parametrize("response", [b"", b"{", b"[]", b'{"what": 1}', b"\xff"])
def test_ws_status_of_broken_server_is_reported(zcli_on: Run, response: bytes) -> None:
    """The others are shown."""
    with _running(_Server("chat", 8, _worker(1))), RunFolder() as folder:
        listener, name = folder.listen("broken")

        def answer() -> None:
            asked = b""
            while not asked:  # the thread of the other server only looks whether it lives
                client, _ = listener.accept()
                with client:
                    asked = client.recv(100)
                    if asked:
                        client.sendall(response)

        with listener:
            thread = threading.Thread(target=answer)
            thread.start()
            done = zcli_on("ws", "status")
            thread.join()
    assert f"{name} does not respond: " in done.err
    assert done.out.count(b"\n") == 2
    assert done.status == 0


def test_ws_status_of_silent_server_is_reported(zcli_on: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was stopped with SIGSTOP accepts in its kernel and never responds."""
    monkeypatch.setattr(ws_control, "_TIMEOUT", 0.05)
    with RunFolder(make=True) as folder:
        listener, name = folder.listen("silent")
        with listener:
            done = zcli_on("ws", "status")
    assert f"{name} does not respond: timed out" in done.err
    assert done.status == 1


def test_ws_status_in_untrusted_folder_fails(zcli_on: Run) -> None:
    """Another user could have put a socket there."""
    with RunFolder(make=True) as folder:
        os.chmod(folder.path, 0o777)
        listener, _ = folder.listen("x")
        with listener:
            done = zcli_on("ws", "status")
    assert "every user may write it" in done.err
    assert done.status == 1


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0 s"), (59.9, "59 s"), (60, "1 min 0 s"), (3600, "1 h 0 min"), (86399, "23 h 59 min"), (1e6, "11 d 13 h")],
)
def test_duration_has_two_units(seconds: float, shown: str) -> None:
    """The largest ones."""
    assert ws_control._duration(seconds) == shown

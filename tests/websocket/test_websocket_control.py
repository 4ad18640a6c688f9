"""The control socket of a server: what it answers, to whom, and what cannot hurt it."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from needs import needs_root
from websocket_serving import DEADLINE, Served, eventually, talks

from zcli_core.websocket import control, control_folder
from zcli_core.websocket.control import ControlSocket, open_to_commands
from zcli_core.websocket.control_folder import RunFolder, require_own_peer

Serve = Callable[..., Served]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the system has no Unix sockets")

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="long paths need /proc")


@pytest.fixture
def folder(isolated: Path) -> Path:
    """Where the control sockets of the user of this test are."""
    assert isolated
    return Path(os.environ["HOME"]) / ".local/state/zcli/run"


def _ask(request: bytes, name: str = "") -> list[Any]:
    """Send a request to all servers, or to those whose socket's name begins with ``name``; return the responses."""
    responses = []
    with RunFolder() as opened:
        for found, connection in opened.connections(DEADLINE):
            assert isinstance(connection, socket.socket), connection
            with connection:
                if found.startswith(name):
                    connection.sendall(request)
                    data = b"".join(iter(lambda: connection.recv(65536), b""))  # noqa: B023 - used at once
                    responses.append(json.loads(data) if data else None)
    return responses


class _Server:
    """A server whose state a test decides."""

    def __init__(self, state: Any = "fine", error: Exception | None = None) -> None:
        self.state, self.error = state, error
        self.reloads = self.asked = 0

    def status(self) -> Any:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.state

    def reload(self) -> None:
        self.reloads += 1

    def metrics(self) -> Any:
        raise NotImplementedError


@contextlib.contextmanager
def _opened(server: Any, title: str = "t") -> Iterator[None]:
    with open_to_commands(server, title, logging.getLogger("zcli.test")):
        yield


def test_control_tells_the_state_of_the_server(serve: Serve, folder: Path) -> None:
    """As ``status()`` of the running server gives it; the socket is gone with the server."""
    served = serve()
    with served.client():
        eventually(lambda: served.websocket.client_count == 1)
        ((name, response),) = [*zip(os.listdir(folder), _ask(b"status\n"), strict=True)]
    state = response["status"]
    assert name.startswith(f"server-0-{os.getpid()}-")
    assert (state["title"], state["pid"], state["url"], state["clients"]) == ("server-0", os.getpid(), served.url, 1)
    assert "no workers" in _ask(b"reload\n")[0]["error"]
    served.handle.stop()
    assert os.listdir(folder) == []


def test_control_socket_is_for_its_user_only(serve: Serve, folder: Path) -> None:
    """Nobody else can enter the folder, nor write to the socket."""
    folder.mkdir(0o755, parents=True)
    serve()
    (file,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_control_servers_of_one_title_are_both_there(folder: Path) -> None:
    """Each has a socket of its own, also in one process."""
    with _opened(_Server("first")), _opened(_Server("second")):
        assert sorted(response["status"] for response in _ask(b"status\n")) == ["first", "second"]
        assert len(os.listdir(folder)) == 2


def test_control_reload_reaches_the_server(folder: Path) -> None:
    """It returns at once."""
    server = _Server()
    with _opened(server):
        assert _ask(b"reload\n") == [{"done": True}]
    assert server.reloads == 1
    assert folder.is_dir()


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (b"\xff\0\x1b[31m\n", "unknown request"),
        (b"metrics\n", "unknown request 'metrics'"),
        (b"x" * 64 + b"\n", "unknown request"),
        (b"status status\nstatus\n", "unknown request"),
    ],
)
def test_control_unknown_request_is_an_error(folder: Path, request_: bytes, error: str) -> None:
    """The connection is closed after one response."""
    with _opened(_Server()):
        assert error in _ask(request_)[0]["error"]
        assert _ask(b"status\n") == [{"status": "fine"}]


def test_control_error_of_the_server_is_told(folder: Path) -> None:
    """The next request is answered all the same."""
    server = _Server(error=RuntimeError("workers do not respond"))
    with _opened(server):
        assert _ask(b"status\n") == [{"error": "workers do not respond"}]
        server.error = ValueError()
        assert _ask(b"status\n") == [{"error": "ValueError"}]


def test_control_client_that_hangs_is_left(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that sends nothing, half a line, or a line without end, or never reads; the server serves on."""
    monkeypatch.setattr(control, "_TIMEOUT", 0.2)
    server = _Server("x" * 10_000_000)

    def answers() -> bool:
        with contextlib.suppress(ValueError):  # a short time on a machine with much to do
            return _ask(b"status\n") == [{"status": "fine"}]
        return False

    with _opened(server), RunFolder() as opened, contextlib.ExitStack() as stack:
        for request in (b"status\n", b"", b"stat", b"y" * 100_000):
            ((_, connection),) = opened.connections(DEADLINE)
            assert isinstance(connection, socket.socket)
            stack.enter_context(connection)
            with contextlib.suppress(OSError):
                connection.sendall(request)
        eventually(lambda: server.asked, "the first request")
        server.state = "fine"
        eventually(answers, "a response to the next client")


def test_control_stale_sockets_are_removed(folder: Path) -> None:
    """By the next start and by a command; a file that is not a socket stays."""
    with RunFolder(make=True) as opened:
        for title in ("one", "two"):
            opened.listen(title)[0].close()  # as a killed process leaves it
        names = os.listdir(folder)
        assert len(names) == 2
        (folder / "notes.txt").touch()
        with _opened(_Server(), "live"):
            eventually(lambda: len(os.listdir(folder)) == 2, "the removal")
        opened.listen("three")[0].close()
        assert _ask(b"status\n") == []
    assert os.listdir(folder) == ["notes.txt"]


def test_control_socket_being_made_is_kept(folder: Path) -> None:
    """It does not listen yet; after a minute its process was killed."""
    with RunFolder(make=True) as opened, socket.socket(socket.AF_UNIX) as sock:
        sock.bind(opened._address("t-1-0.sock.new"))
        assert list(opened.connections(DEADLINE)) == []
        assert os.listdir(folder) == ["t-1-0.sock.new"]
        old = time.time() - 2 * control_folder._NEW_TIMEOUT
        os.utime(folder / "t-1-0.sock.new", (old, old))
        assert list(opened.connections(DEADLINE)) == []
    assert os.listdir(folder) == []


def test_control_of_killed_process_is_not_shown(serve: Serve, folder: Path) -> None:
    """SIGKILL leaves the file; the command removes it."""
    import subprocess

    program = (
        "import sys; from zCLI import zCLI\n"
        "z = zCLI({'logger': 'PROD', 'deployment': 'Production', 'title': 'killed', 'websocket': {'port': 0}})\n"
        "z.comm.websocket.start_background(); print('ready', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        (response,) = _ask(b"status\n")
        assert response["status"]["pid"] == process.pid
        process.kill()
        process.wait(DEADLINE)
    assert len(os.listdir(folder)) == 1
    assert _ask(b"status\n") == []
    assert os.listdir(folder) == []


def _make_file(folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.touch()


def _make_writable(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o777)


def _make_sticky(folder: Path) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o1777)


def _give_away(folder: Path) -> None:
    needs_root("giving a folder to another account")
    folder.mkdir(parents=True)
    os.chown(folder, 12345, 12345)


def _link_away(folder: Path) -> None:
    needs_root("giving a link to another account")
    folder.parent.mkdir(parents=True)
    target = folder.parent / "target"
    target.mkdir()
    folder.symlink_to(target)
    os.chown(folder, 12345, 12345, follow_symlinks=False)


@pytest.mark.parametrize("spoil", [_make_file, _make_writable, _make_sticky, _give_away, _link_away])
def test_control_folder_unusable_starts_the_server(serve: Serve, folder: Path, spoil: Callable[[Path], None]) -> None:
    """One line in the log says why ``zcli ws status`` will not show it."""
    spoil(folder)
    served = serve()
    with served.client() as client:
        assert talks(client)
    served.handle.stop()
    (line,) = [line for line in served.log().splitlines() if "zcli ws status" in line]
    assert " INFO " in line
    assert str(folder) in line
    assert not folder.is_dir() or os.listdir(folder) == []


def test_control_without_home_starts_the_server(serve: Serve, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a user of a container that has no account."""
    from zcli_core.system import folders

    monkeypatch.setattr(folders, "_home", lambda: None)
    served = serve()
    with served.client() as client:
        assert talks(client)
    assert "will not show this server: this user has no home folder" in served.log()


@LINUX
def test_control_long_names_work(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path of a Unix socket has at most 107 bytes, a folder and a title may have more."""
    long = isolated / ("x" * 120)
    monkeypatch.setenv("XDG_STATE_HOME", str(long))
    with _opened(_Server(), "ż/" * 150):
        assert _ask(b"status\n") == [{"status": "fine"}]
        (name,) = os.listdir(long / "zcli/run")
        assert name.isascii()


def test_control_too_long_path_is_reported(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a system that has no other way."""
    monkeypatch.setenv("XDG_STATE_HOME", str(folder.parent / ("x" * 120)))
    monkeypatch.setattr(os.path, "isdir", lambda path: False)
    with caplog.at_level(logging.INFO, "zcli.test"), _opened(_Server()):
        monkeypatch.undo()
    assert "too long for a Unix socket" in caplog.text


def test_control_peer_of_another_user_is_refused(tmp_path: Path) -> None:
    """On both sides: a socket of another user is not asked, and another user gets no response."""
    needs_root("acting as another user")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(str(tmp_path / "s"))
        os.seteuid(12345)
        try:
            listener.listen()
        finally:
            os.seteuid(0)
        client.connect(str(tmp_path / "s"))
        with pytest.raises(PermissionError, match="12345"):
            require_own_peer(client)
    one, two = socket.socketpair(socket.AF_UNIX)
    with one, two:
        require_own_peer(one)


def test_control_child_process_drops_the_socket(folder: Path) -> None:
    """A client that connects after the end of the parent would wait for the child for ever."""
    opened = ControlSocket(RunFolder(make=True), _Server(), "t", logging.getLogger("zcli.test"))
    child = os.fork()
    if not child:
        opened.close()  # does nothing
        os._exit(0 if opened._listener.fileno() == -1 else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert _ask(b"status\n") == [{"status": "fine"}]
    opened.close()
    eventually(lambda: not opened._thread.is_alive(), "the end of the thread")


def test_control_end_leaves_nothing(folder: Path) -> None:
    """No thread, no descriptor, no file; and the thread is a daemon."""
    before = threading.active_count()
    descriptors = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(5):
        with _opened(_Server()):
            thread = next(each for each in threading.enumerate() if each.name == "zcli-control")
            assert thread.daemon
        eventually(lambda: threading.active_count() == before, "the end of the thread")
    if descriptors:
        assert len(os.listdir("/proc/self/fd")) == descriptors
    assert os.listdir(folder) == []


def test_control_end_while_a_client_waits(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server does not wait for it."""
    monkeypatch.setattr(control, "_TIMEOUT", 0.05)
    with RunFolder(make=True) as opened:
        with _opened(_Server()):
            ((_, connection),) = opened.connections(DEADLINE)
            assert isinstance(connection, socket.socket)
        with connection, contextlib.suppress(ConnectionResetError):
            assert connection.recv(10) == b""
        shutil.rmtree(folder)

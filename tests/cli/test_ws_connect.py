"""``zcli ws connect`` with servers that close, flood, stop reading or send control characters."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from script_runs import plain_environment
from websockets.sync.server import Server, ServerConnection, serve
from wsproto.events import BytesMessage, TextMessage

from zcli_core.cli.ws_client import Client

LONGEST = 60.0


@contextlib.contextmanager
def _server(handler: Callable[[ServerConnection], None], **options: Any) -> Iterator[str]:
    server: Server
    with serve(handler, "127.0.0.1", 0, compression=None, **options) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield "ws://{}:{}".format(*server.socket.getsockname())
        finally:
            server.shutdown()
            thread.join()


@contextlib.contextmanager
def _responding(answer: bytes) -> Iterator[str]:
    """A server that sends these bytes to one client, and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def respond() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

        thread = threading.Thread(target=respond)
        thread.start()
        yield "{}:{}".format(*listener.getsockname())
        thread.join()


def _started(folder: Path, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "zCLI", "ws", "connect", *arguments],
        cwd=folder,
        env=plain_environment(folder, {}),
        **{"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
    )


def _ended(process: subprocess.Popen[bytes], lines: bytes | None = None) -> tuple[int, bytes, str]:
    out, err = process.communicate(lines, timeout=LONGEST)
    return process.returncode, out, err.decode()


@pytest.mark.parametrize(
    ("code", "reason", "status", "said"),
    [
        (4001, "session ended", 1, "4001 (session ended)"),
        (1000, "", 0, "1000"),
        (1001, "bye", 0, "1001 (bye)"),
        (None, "", 0, "1005"),
        (4000, "\x1b[2J\nzcli: connected", 1, "4000 (\\x1b[2J\\n"),
    ],
)
def test_connect_ends_when_the_server_closes(
    tmp_path: Path, code: int | None, reason: str, status: int, said: str
) -> None:
    """The input may still be open; a close frame without a code is a normal end (RFC 6455, section 7.1.5)."""

    def close(websocket: ServerConnection) -> None:
        websocket.send("hello")
        if code is None:
            websocket.socket.sendall(b"\x88\x00")  # a close frame without a code
        else:
            websocket.close(code, reason)

    with _server(close) as url, _started(tmp_path, url) as process:
        process.wait(LONGEST)  # its stdin is still open
        assert process.stdout is not None
        assert process.stderr is not None
        err = process.stderr.read().decode()
        assert (process.returncode, process.stdout.read()) == (status, b"hello\n")
    first, last = err.splitlines()
    assert first == f"zcli: connected to {url}/"
    assert f"closed by the server: {said}" in last
    assert last.endswith("messages: 0 sent, 1 received")


def test_connect_lost_connection_is_reported(tmp_path: Path) -> None:
    """The close code is 1006, and the exit status 1."""

    def drop(websocket: ServerConnection) -> None:
        websocket.socket.shutdown(socket.SHUT_RDWR)

    with _server(drop) as url:
        status, _, err = _ended(_started(tmp_path, url))
    assert status == 1
    assert "closed by the server: 1006 (connection lost" in err


def test_connect_sends_more_than_fits_into_buffers(tmp_path: Path) -> None:
    """A server that sends each message back before it reads the next gets a large file completely."""

    def echo(websocket: ServerConnection) -> None:
        for message in websocket:
            websocket.send(message)

    line = b"x" * 400_000
    with _server(echo, max_size=None) as url:
        status, out, err = _ended(_started(tmp_path, url), (line + b"\n") * 30)
    assert (status, len(out)) == (0, 30 * len(line) + 30), err
    assert "messages: 30 sent, 30 received" in err


def test_connect_unsent_input_is_reported(tmp_path: Path) -> None:
    """The exit status is 1 if the server closes before all input is sent."""

    def take_one(websocket: ServerConnection) -> None:
        websocket.recv()
        websocket.close(1000)

    with _server(take_one) as url:
        status, _, err = _ended(_started(tmp_path, url), b"a\n" * 500_000)
    assert status == 1
    assert "zcli: the connection ended before all of the input was sent" in err


def test_connect_message_too_large_is_refused(tmp_path: Path) -> None:
    """The message is not kept in memory, and the close code is 1009."""
    seen: list[int | None] = []

    def flood(websocket: ServerConnection) -> None:
        with contextlib.suppress(Exception):
            websocket.send("x" * 1000 for _ in range(1_000_000))
        websocket.close()
        seen.append(websocket.protocol.close_rcvd.code if websocket.protocol.close_rcvd else None)

    with _server(flood) as url:
        status, out, err = _ended(_started(tmp_path, url, "--max-size", "5000"))
    assert (status, out) == (1, b"")
    assert "closed: 1009 (a message is larger than 5000 bytes (--max-size))" in err
    assert seen == [1009]


def test_connect_undecodable_input_is_reported(tmp_path: Path) -> None:
    """The lines before it are sent."""

    def echo(websocket: ServerConnection) -> None:
        for message in websocket:
            websocket.send(message)

    with _server(echo) as url:
        status, out, err = _ended(_started(tmp_path, url), b"good\n\xff\xfe\nlost\n")
    assert (status, out) == (1, b"good\n")
    assert "zcli: the input is not text in utf-8: byte 0xff" in err


@pytest.mark.skipif(os.name != "posix", reason="sends SIGINT")
def test_connect_ctrl_c_closes_the_connection(tmp_path: Path) -> None:
    """The close code is 1000, and there is no traceback."""
    seen: list[int | None] = []

    def wait(websocket: ServerConnection) -> None:
        websocket.send("ready")
        for _ in websocket:
            pass
        seen.append(websocket.protocol.close_rcvd.code if websocket.protocol.close_rcvd else None)

    with _server(wait) as url, _started(tmp_path, url) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        process.wait(LONGEST)
        assert process.stderr is not None
        assert process.stderr.read().decode().splitlines()[1:] == ["zcli: closed: 1000; messages: 0 sent, 1 received"]
        assert process.returncode == 0
    assert seen == [1000]


@pytest.mark.skipif(sys.platform != "linux", reason="fills the queue of a listener, as Linux does")
def test_connect_ctrl_c_ends_connecting(tmp_path: Path) -> None:
    """The command ends at once with status 130, not after the deadline of 10 seconds."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        stack.enter_context(socket.create_connection(listener.getsockname()))  # no other one is accepted
        port = listener.getsockname()[1]
        process = stack.enter_context(_started(tmp_path, f"ws://127.0.0.1:{port}/"))
        end = time.monotonic() + LONGEST
        while f":{port:04X} 02 " not in Path("/proc/net/tcp").read_text():  # 02: connecting (SYN_SENT)
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        status, _, err = _ended(process)
        assert (status, err) == (130, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_connect_unwritable_output_is_reported(tmp_path: Path) -> None:
    """The message is a sentence, and the exit status 1."""
    with _server(lambda websocket: websocket.send("hello")) as url, open("/dev/full", "wb") as full:
        status, _, err = _ended(_started(tmp_path, url, stdout=full), b"")
    assert status == 1
    assert err.splitlines()[1:] == ["Error: cannot write to standard output: No space left on device"]


@pytest.mark.parametrize("piece", ["", "é", b"", b"ab"])
def test_client_fragments_take_little_memory(piece: str | bytes) -> None:
    """Empty fragments take no memory, and small ones no more than their bytes."""
    event = TextMessage if isinstance(piece, str) else BytesMessage

    async def collected() -> tuple[int, Any]:
        ours, theirs = socket.socketpair()
        with theirs:
            reader, writer = await asyncio.open_connection(sock=ours)
            client = Client(reader, writer, 3000)
            for _ in range(1000):
                client._collect(event(data=piece, message_finished=False))
            found = sys.getsizeof(client._partial), client._collect(event(data=piece))
            writer.close()
            await writer.wait_closed()
        return found

    size, message = asyncio.run(collected())
    assert size < 4000
    assert message == piece * 1001


@pytest.mark.skipif(os.name != "posix", reason="needs a pseudo-terminal")
def test_connect_messages_are_escaped_on_a_terminal(tmp_path: Path) -> None:
    """A program gets them unchanged."""
    import pty

    def send(websocket: ServerConnection) -> None:
        websocket.send("\x1b[2J\u202e\u009bm\tone\ntwo")
        websocket.send(b"\x1b" * 50)

    with _server(send) as url:
        _, out, _ = _ended(_started(tmp_path, url))
        assert out.startswith("\x1b[2J\u202e\u009bm\tone\ntwo\n".encode())
        ours, theirs = pty.openpty()
        with _started(tmp_path, url, stdout=theirs) as process:
            process.communicate(timeout=LONGEST)
        shown = os.read(ours, 10_000)
        os.close(ours)
        os.close(theirs)
    first, second, third = shown.decode().splitlines()
    assert (first, second) == ("< \\x1b[2J\\u202e\\x9bm\tone", "two")
    assert third.startswith("< 50 bytes: 1b 1b")
    assert third.endswith(" ...")


def test_connect_hides_credentials_of_the_url(tmp_path: Path) -> None:
    """They are sent as Basic credentials, and query values are hidden."""
    seen: list[str | None] = []

    def note(websocket: ServerConnection) -> None:
        assert websocket.request is not None
        seen.append(websocket.request.headers.get("Authorization"))

    with _server(note) as url:
        secret = url.replace("ws://", "ws://ada:s3cret@") + "/feed?token=t0ken"
        status, _, err = _ended(_started(tmp_path, secret))
    assert (status, seen) == (0, ["Basic YWRhOnMzY3JldA=="])
    assert f"zcli: connected to {url}/feed?token=***\n" in err
    assert "s3cret" not in err


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: /x\x1b[2J\r\nContent-Length: 0\r\n\r\n", "HTTP status 302, which redirects"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", "the server refused with HTTP status 200"),
        (b"220 mail.example ESMTP\r\n\r\n", "the server did not complete the handshake"),
        (b"", "the server closed the connection during the upgrade"),
    ],
)
def test_connect_other_server_is_reported(tmp_path: Path, answer: bytes, message: str) -> None:
    """The message is a sentence without control characters, and the exit status 1."""
    with _responding(answer) as place:
        status, _, err = _ended(_started(tmp_path, f"ws://{place}"))
    assert status == 1
    assert message in err
    assert "Traceback" not in err
    assert "\x1b" not in err


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the server does not use TLS on this port (is it a ws:// address?)"),
        (b"", "the server closed the connection during the TLS handshake (is it a ws:// address?)"),
    ],
)
def test_connect_tls_to_a_plain_server_is_reported(tmp_path: Path, answer: bytes, message: str) -> None:
    """The message says what to change in the URL."""
    with _responding(answer) as place:
        status, _, err = _ended(_started(tmp_path, f"wss://{place}"))
    assert (status, err) == (1, f"zcli: cannot connect to {place}: {message}\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ws://a:b@127.0.0.1:1", "--token", "x"], "give credentials in the URL or --token, not both"),
        (["ws://127.0.0.1:1", "--token", "a b"], "a bearer token must be printable ASCII"),
        (["ws://127.0.0.1:1", "--token", "x", "--token-file", os.devnull], "must have one line"),
        (["ws://127.0.0.1:1", "-H", "a b: c"], "invalid header name 'a b'"),
        (["ws://i❤.ws"], "IDNA 2008"),
    ],
)
def test_connect_invalid_arguments_are_refused(tmp_path: Path, arguments: list[str], message: str) -> None:
    """They are usage errors."""
    status, _, err = _ended(_started(tmp_path, *arguments))
    assert status == 2
    assert message in " ".join(err.split())

"""``zcli ws``: the server and the client of the command line, with each other and with other peers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trustme
from script_runs import plain_environment
from websockets.sync.client import connect

LONGEST = 30.0


def _command(*arguments: str) -> list[str]:
    return [sys.executable, "-u", "-m", "zCLI", "ws", *arguments]


def _connect(folder: Path, *arguments: str, lines: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        _command("connect", *arguments),
        input=lines,
        cwd=folder,
        env=plain_environment(folder, variables),
        capture_output=True,
        encoding="utf-8",
        timeout=LONGEST * 2,
        check=False,
    )


@contextmanager
def _served(folder: Path, *arguments: str, **variables: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    with subprocess.Popen(
        _command("serve", "--port", "0", *arguments),
        cwd=folder,
        env=plain_environment(folder, variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
    ) as process:
        try:
            assert process.stdout is not None
            printed = ""
            for line in process.stdout:
                printed += line
                if " listening on " in line:
                    break
            else:
                raise AssertionError(printed)
            yield line.split()[3], process
        finally:
            if process.poll() is None:
                process.kill()


def test_serve_sends_lines_back(tmp_path: Path) -> None:
    """The server prints the messages; Ctrl+C ends it with status 0."""
    with _served(tmp_path) as (url, process):
        done = _connect(tmp_path, url, lines="hello\n\ngrüße\n")
        closed = "zcli: closed: 1000; messages: 3 sent, 3 received\n"
        assert (done.stdout, done.stderr) == ("hello\n\ngrüße\n", f"zcli: connected to {url}/\n{closed}")
        assert done.returncode == 0
        if os.name == "posix":
            process.send_signal(signal.SIGINT)
            printed, _ = process.communicate(timeout=LONGEST)
            connected, *heard, left, stopped = printed.splitlines()
            assert connected.endswith(" connected; clients: 1")
            assert [line.partition(": ")[2] for line in heard] == ["hello", "", "grüße"]
            assert left.endswith(" disconnected: 1000")
            assert stopped.startswith("[WebSocket] stopped: 0 clients closed")
            assert process.returncode == 0


def test_serve_broadcast_sends_to_others(tmp_path: Path) -> None:
    """Binary messages are shown as bytes."""
    with _served(tmp_path, "--broadcast") as (url, process), connect(url, proxy=None) as other:
        assert process.stdout is not None
        process.stdout.readline()
        _connect(tmp_path, url, "--wait", "0", lines="hello\n")
        assert other.recv(timeout=LONGEST) == "hello"
        other.send(b"\x01\xff")
        assert any("2 bytes: 01 ff" in line for line in iter(process.stdout.readline, ""))


def test_connect_sends_only_the_given_token(tmp_path: Path) -> None:
    """The server's token in the environment is not sent, so the client is refused without --token."""
    (tmp_path / ".zEnv").write_text("ZCLI_WEBSOCKET_REQUIRE_AUTH=yes\nWEBSOCKET_TOKEN=s3cret-of-the-tests\n")
    with _served(tmp_path) as (url, _):
        done = _connect(tmp_path, url, WEBSOCKET_TOKEN="s3cret-of-the-tests")
        assert "closed by the server: 1008 (authentication required)" in done.stderr
        assert done.returncode == 1
        done = _connect(tmp_path, url, "--token", "wrong")
        assert "closed by the server: 1008 (authentication failed)" in done.stderr
        assert done.returncode == 1
        done = _connect(tmp_path, url, "--token", "s3cret-of-the-tests", lines="hello\n")
        assert (done.stdout, done.returncode) == ("hello\n", 0)
        done = _connect(tmp_path, f"{url}/?token=s3cret-of-the-tests", lines="hello\n")
        assert (done.stdout, done.returncode) == ("hello\n", 0)
        assert "s3cret-of-the-tests" not in done.stderr


def test_connect_reads_token_from_file_or_input(tmp_path: Path) -> None:
    """After the first line of the input, the other lines are messages."""
    (tmp_path / ".zEnv").write_text("ZCLI_WEBSOCKET_REQUIRE_AUTH=yes\nWEBSOCKET_TOKEN=s3cret-of-the-tests\n")
    (tmp_path / "token").write_text("s3cret-of-the-tests\n")
    with _served(tmp_path) as (url, _):
        for path, lines in (("token", "hello\n"), ("-", "s3cret-of-the-tests\nhello\n")):
            done = _connect(tmp_path, url, "--token-file", path, lines=lines)
            assert (done.stdout, done.returncode) == ("hello\n", 0)
            assert "s3cret-of-the-tests" not in done.stderr


def test_connect_trusts_only_the_ca_file(tmp_path: Path) -> None:
    """A private authority is trusted only with --ca-file."""
    issued = trustme.CA().issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
    (tmp_path / "public.pem").write_bytes(issued.cert_chain_pems[0].bytes())
    with _served(tmp_path, WEBSOCKET_SSL_ENABLED="yes", WEBSOCKET_SSL_CERT="own.pem") as (url, _):
        done = _connect(tmp_path, url, "--ca-file", "public.pem", lines="hello\n")
        assert (done.stdout, done.returncode) == ("hello\n", 0), done.stderr
        done = _connect(tmp_path, url)
        assert done.returncode == 1
        assert "certificate verify failed" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["http://localhost"], 2, "expected ws://host:port/path"),
        (["localhost:80"], 2, "expected ws://host:port/path"),
        (["ws://127.0.0.1:1"], 1, "cannot connect to 127.0.0.1:1: "),
        (["ws://no-such-host.invalid"], 1, "cannot connect to no-such-host.invalid:80: "),
    ],
)
def test_connect_failure_is_reported(tmp_path: Path, arguments: list[str], status: int, message: str) -> None:
    """A wrong URL ends with status 2, and a server that does not respond with status 1."""
    done = _connect(tmp_path, *arguments)
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_connect_refused_shows_the_http_status(tmp_path: Path) -> None:
    """The message contains the status."""
    settings = {
        "WEBSOCKET_REQUIRE_AUTH": "yes",
        "WEBSOCKET_TOKENS": "alice=s3cret-of-the-tests",
        "WEBSOCKET_REFUSE_WITH": "http",
    }
    with _served(tmp_path, **settings) as (url, _):
        done = _connect(tmp_path, url, "--token", "wrong")
    assert (done.stderr, done.returncode) == ("zcli: the server refused with HTTP status 401\n", 1)


def test_serve_that_cannot_start_is_reported(tmp_path: Path) -> None:
    """The message is a sentence, and the exit status 2."""
    done = subprocess.run(
        _command("serve"),
        cwd=tmp_path,
        env=plain_environment(tmp_path, {"WEBSOCKET_REQUIRE_AUTH": "yes"}),
        capture_output=True,
        encoding="utf-8",
        timeout=LONGEST,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("zcli: websocket.require_auth (WEBSOCKET_REQUIRE_AUTH) requires a token")

"""``zcli http``: the requests it sends, and its output to a file, a program and a terminal."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cli_runs import DoneBytes
from script_runs import plain_environment

from zcli_core.cli.http_body import for_terminal
from zcli_core.cli.output import write_bytes

BINARY = b"\x89PNG\r\n\x1a\n\x00\xff\xfe \x1b[31mred\x1b[0m"
EVIL = "<\x1b[2J\x9b31m\u202e\x7f>"


class _Handler(BaseHTTPRequestHandler):
    """Responds with what its server holds, and keeps what was sent."""

    def _respond(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.command, self.path, dict(self.headers), body))  # type: ignore[attr-defined]
        status, reason, fields, content = self.server.answer  # type: ignore[attr-defined]
        self.send_response_only(status, reason)
        for name, value in fields:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = _respond


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as running:
        running.seen = []  # type: ignore[attr-defined]
        Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        running.url = f"http://127.0.0.1:{running.server_port}"  # type: ignore[attr-defined]
        yield running
        running.shutdown()


@pytest.fixture
def http(server: Any, zcli_on: Callable[..., DoneBytes]) -> Callable[..., DoneBytes]:
    """Runs ``zcli http`` in this process. ``/`` is the URL of the server, which sends the latest ``answer``."""

    def run(*arguments: str, answer: tuple[Any, ...] = (200, "OK", [], b""), **options: Any) -> DoneBytes:
        server.answer = answer
        return zcli_on("http", *(f"{server.url}/" if item == "/" else item for item in arguments), **options)

    return run


def test_http_body_goes_to_a_file_unchanged(http: Callable[..., DoneBytes], tmp_path: Path) -> None:
    """Redirection and --output write the exact bytes of an image."""
    answer = (200, "OK", [("Content-Type", "image/png")], BINARY)
    assert http("GET", "/", answer=answer).out == BINARY
    done = http("GET", "/", "-o", str(tmp_path / "image.png"), answer=answer, terminal=True)
    assert (done.out, (tmp_path / "image.png").read_bytes()) == (b"", BINARY)
    assert f"zcli: {len(BINARY)} bytes written to" in done.err


def test_http_text_goes_to_a_program_unchanged(http: Callable[..., DoneBytes]) -> None:
    """Line breaks, charset and indentation stay the same, in every encoding of the console."""
    for body in (b'{"a":1}', "grün\r\n".encode("latin-1"), EVIL.encode()):
        answer = (200, "OK", [("Content-Type", "text/plain; charset=latin-1")], body)
        assert http("/", answer=answer, encoding="ascii").out == body


def test_http_binary_body_is_not_shown_on_a_terminal(http: Callable[..., DoneBytes]) -> None:
    """The message shows its size and type, and what to do."""
    done = http("/", answer=(200, "OK", [("Content-Type", "image/png")], BINARY), terminal=True)
    assert done.out == b""
    assert f"zcli: the body is not text ({len(BINARY)} bytes, image/png): write it to a file with -o FILE" in done.err


@pytest.mark.parametrize("arguments", [[], ["-i"], ["--json"]])
def test_http_control_characters_are_escaped(http: Callable[..., DoneBytes], arguments: list[str]) -> None:
    """That holds for the body, the headers and the reason."""
    answer = (200, "O\x1b[2JK", [("X-Evil", "a\x9b31mb\x1b]0;c")], EVIL.encode())
    done = http("/", *arguments, answer=answer, terminal=True)
    assert done.status == 0
    written = done.out.decode() + done.err
    assert not {"\x1b", "\x9b", "\u202e", "\x7f"} & set(written)
    assert "[2J" in written


def test_http_json_is_indented_on_a_terminal(http: Callable[..., DoneBytes], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is coloured unless NO_COLOR is set."""
    answer = (200, "OK", [], b'{"b":[1.10,true],"b":null,"e":{}}')
    assert b"\x1b[36m1.10\x1b[0m" in http("/", answer=answer, terminal=True).out
    monkeypatch.setenv("NO_COLOR", "1")
    shown = http("/", answer=answer, terminal=True).out.decode()
    assert shown == '{\n    "b": [\n        1.10,\n        true\n    ],\n    "b": null,\n    "e": {}\n}\n'


def test_for_terminal_json_strings_stay_json(monkeypatch: pytest.MonkeyPatch) -> None:
    """Printable characters are decoded, and others are escapes of JSON."""
    monkeypatch.setenv("NO_COLOR", "1")
    assert for_terminal('["gr\\u00fcn", "\u202e \\u001b", "a\x7f", "[,]"]').splitlines()[1:-1] == [
        '    "grün",',
        '    "\\u202e \\u001b",',
        '    "a\\u007f",',
        '    "[,]"',
    ]
    assert for_terminal("[1, 2") == "[1, 2"
    assert for_terminal("[" * 100_000) == "[" * 100_000


def test_http_include_prints_status_and_headers(http: Callable[..., DoneBytes]) -> None:
    """They stand before the body, with repeated headers."""
    answer = (404, "Not Found", [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")], b"no\n")
    done = http("/", "-i", answer=answer)
    assert done.out == b"HTTP 404 Not Found\nSet-Cookie: a=1\nSet-Cookie: b=2\nContent-Length: 3\n\nno\n"
    assert done.err == ""


def test_http_json_output_holds_any_body(http: Callable[..., DoneBytes]) -> None:
    """Text is text, and other bytes are base64; the output is valid JSON on every console."""
    found = json.loads(http("/", "--json", answer=(200, "OK", [], BINARY)).out)
    assert (found["text"], base64.b64decode(found["base64"])) == (None, BINARY)
    done = http("/", "--json", answer=(200, "OK", [], "grün \x7f".encode()), encoding="ascii")
    assert json.loads(done.out)["text"] == "grün \x7f"


@pytest.mark.parametrize(
    ("arguments", "method", "content_type", "body"),
    [
        ([], "GET", None, b""),
        (["-d", "null"], "POST", "application/json", b"null"),
        (["-F", "a=1", "-F", "b= x"], "POST", "application/x-www-form-urlencoded", b"a=1&b=+x"),
        (["--body-file", "-", "-H", "Content-Type: image/png"], "POST", "image/png", BINARY),
        (["--body-file", "body.png"], "POST", "image/png", BINARY),
        (["--raw", "grün"], "POST", "text/plain; charset=utf-8", "grün".encode()),
    ],
)
def test_http_sends_the_given_body(
    http: Callable[..., DoneBytes],
    server: Any,
    arguments: list[str],
    method: str,
    content_type: str | None,
    body: bytes,
) -> None:
    """A request with a body is a POST if no method is given."""
    Path("body.png").write_bytes(BINARY)
    assert http("/", *arguments, stdin=BINARY).status == 0
    assert (server.seen[-1][0], server.seen[-1][3]) == (method, body)
    if content_type:
        assert server.seen[-1][2]["Content-Type"] == content_type


def test_http_sends_files_and_credentials(http: Callable[..., DoneBytes], server: Any) -> None:
    """--file uploads a file under its name; --auth is Basic and --bearer a token."""
    Path("body").write_bytes(BINARY)
    http("PUT", "/", "--file", "upload=body", "-a", "ada:s3cret")
    _, _, headers, body = server.seen[-1]
    assert BINARY in body
    assert b'name="upload"; filename="body"' in body
    assert headers["Authorization"] == "Basic " + base64.b64encode(b"ada:s3cret").decode()
    http("/", "--bearer", "t0ken")
    assert server.seen[-1][2]["Authorization"] == "Bearer t0ken"


def test_http_reads_secrets_from_files(http: Callable[..., DoneBytes], server: Any) -> None:
    """Other users can read a command line, but not these files."""
    Path("token").write_text("t0ken\n")
    Path("headers").write_text("X-Api-Key: s3cret\n\nX-Other: b: c\r\n")
    assert http("/", "--bearer-file", "token", "-H", "@headers", "-H", "X-Third: d").status == 0
    sent = server.seen[-1][2]
    assert [sent[name] for name in ("Authorization", "X-Api-Key", "X-Other", "X-Third")] == [
        "Bearer t0ken", "s3cret", "b: c", "d",
    ]  # fmt: skip


@pytest.mark.parametrize("content", [None, b"", b"\n", b"s3cret\nt0ken\n", "s3crét".encode()])
def test_http_invalid_secret_file_is_refused(http: Callable[..., DoneBytes], content: bytes | None) -> None:
    """It is a usage error that does not show the content."""
    if content is not None:
        Path("token").write_bytes(content)
    done = http("/", "--bearer-file", "token")
    assert done.status == 2
    assert "--bearer-file" in done.err
    assert "s3cr" not in done.err
    assert http("/", "-H", "@nothing").status == 2


def test_http_url_without_scheme_or_host(http: Callable[..., DoneBytes], server: Any) -> None:
    """The scheme is http://, and a URL that begins with a port is on localhost."""
    for url in (server.url.removeprefix("http://"), server.url.removeprefix("http://127.0.0.1")):
        for path in ("/path", "/login?next=http://other.example/"):
            assert http(f"{url}{path}").status == 0
            assert server.seen[-1][:2] == ("GET", path)


def test_http_head_prints_the_headers(http: Callable[..., DoneBytes]) -> None:
    """The response to HEAD has no body."""
    assert http("HEAD", "/").out == b"HTTP 200 OK\nContent-Length: 0\n\n"


def test_http_fail_sets_the_exit_status(http: Callable[..., DoneBytes]) -> None:
    """It is 4 for a 4xx and 5 for a 5xx response; the body is still printed."""
    assert http("/", "--fail", answer=(404, "Not Found", [], b"gone"))[:2] == (4, b"gone")
    assert http("/", "--fail", answer=(503, "Busy", [], b"")).status == 5
    assert http("/", "--fail").status == 0
    done = http("/", "--no-follow", answer=(302, "Found", [("Location", "/x")], b""))
    assert (done.status, done.err[:9]) == (0, "302 Found")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["GET", "/", "more"], "expected [METHOD] URL, got 3 arguments"),
        (["/", "-d", "1", "-F", "a=b"], "a request has one body: give --data or --form or --file"),
        (["/", "-a", "a:b", "--bearer", "c"], "give one of --auth, --bearer and --bearer-file"),
        (["/", "--json", "-i"], "leave out --output and --include"),
        (["/", "-o", "no/such/folder/file"], "'no/such/folder' is not a folder"),
        (["/", "--file", "a=missing"], "'missing' is not a file"),
        (["/", "--body-file", "missing"], "does not exist"),
    ],
)
def test_http_conflicting_options_are_refused(
    http: Callable[..., DoneBytes], server: Any, arguments: list[str], message: str
) -> None:
    """They are usage errors, and no request is sent."""
    before = len(server.seen)
    done = http(*arguments)
    assert (done.status, len(server.seen)) == (2, before)
    assert message in " ".join(done.err.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ["http", "GET", "http://ada:s3cret@127.0.0.1/", "more"],
        ["http", "/", "-H", "Authorization Bearer s3cret"],
        ["http", "/", "-F", "s3cret"],
        ["ws", "connect", "ada:s3cret@127.0.0.1:1/"],
        ["ws", "connect", "ada:s3cret@://127.0.0.1:1/"],
    ],
)
def test_usage_error_repeats_no_credential(zcli_on: Callable[..., DoneBytes], arguments: list[str]) -> None:
    """Invalid arguments may hold a password."""
    done = zcli_on(*arguments)
    assert done.status == 2
    assert "s3cret" not in done.err


def test_for_terminal_deep_json_stays_small() -> None:
    """The indentation is limited, so that a small body does not become gigabytes of spaces."""
    text = "[" + ",".join(["[" * 300 + "]" * 300] * 20) + "]"
    assert len(for_terminal(text)) < len(text) * 110


@pytest.mark.skipif(os.name != "posix", reason="needs a shell that can close a stream")
@pytest.mark.parametrize(
    ("request_of", "status", "out"),
    [
        ('"$1" 2>&-', 0, b"body"),
        ('"$1" >&-', 0, b""),
        ('--body-file - "$1" <&-', 0, b"body"),
        ('"$1" >/dev/full', 1, b""),
        ('-i "$1" >/dev/full', 1, b""),
    ],
)
def test_http_without_standard_streams(server: Any, tmp_path: Path, request_of: str, status: int, out: bytes) -> None:
    """The status line does not go into the body, and there is no traceback."""
    if "/dev/full" in request_of and not Path("/dev/full").exists():
        pytest.skip("needs a device that is always full")
    server.answer = (200, "OK", [], b"body")
    done = subprocess.run(
        ["sh", "-c", f'"$0" -m zCLI http {request_of}', sys.executable, f"{server.url}/"],
        cwd=tmp_path,
        env=plain_environment(tmp_path, {}),
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (status, out)
    assert b"Traceback" not in done.stderr
    assert b"Exception" not in done.stderr
    assert status == 0 or b"Error: cannot write to standard output: No space left on device" in done.stderr


def test_write_bytes_writes_every_part(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unbuffered stream (PYTHONUNBUFFERED) may accept only a part of the bytes at once."""
    written = bytearray()

    class Pipe(io.RawIOBase):
        def writable(self) -> bool:
            return True

        def write(self, data: Any) -> int:
            written.extend(data[:7])
            return len(data[:7])

    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(Pipe(), write_through=True))  # type: ignore[type-var]
    write_bytes(BINARY * 3)
    assert written == BINARY * 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_http_unwritable_output_is_reported(http: Callable[..., DoneBytes]) -> None:
    """The message is a sentence, and the exit status 1."""
    Path("closed").mkdir()
    Path("closed/link").symlink_to("/dev/full")
    done = http("/", "-o", "closed/link", answer=(200, "OK", [], b"x"))
    assert done.status == 1
    assert "zcli: --output: cannot write closed/link: No space left on device" in done.err

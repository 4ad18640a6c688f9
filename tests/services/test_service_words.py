"""Texts of servers and names of processes are printable wherever a user reads them."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable

import bson
import pytest
from click.testing import CliRunner
from service_servers import CannedServer
from wire_servers import message

from zcli_core.app import zCLI
from zcli_core.cli import doctor
from zcli_core.cli.services import _row
from zcli_core.net.ports import port_holder
from zcli_core.services.status import unusable_status

Make = Callable[..., zCLI]

#: A title, a cleared screen by C1, a forged line, reversed text.
EVIL = "a\x1b]0;owned\x07\u009b2J\nforged\u202eb"


def _postgresql_error(text: str) -> bytes:
    fields = b"SFATAL\0C57P03\0M" + text.encode() + b"\0\0"
    return b"E" + (len(fields) + 4).to_bytes(4, "big") + fields


WORDS = {
    "postgresql": _postgresql_error(EVIL),
    "redis": b"-LOADING " + EVIL.replace("\n", " ").encode() + b"\r\n",
    "mongodb": message(1, bson.encode({"ok": 0.0, "code": 9, "errmsg": EVIL})),
}


@pytest.mark.parametrize("name", WORDS)
def test_words_of_a_service_are_printable(make: Make, caplog: pytest.LogCaptureFixture, name: str) -> None:
    """In its status, in the failure of a start, in the log and in the tables of commands."""
    caplog.set_level(logging.DEBUG)
    with CannedServer(WORDS[name], first=False) as peer:
        z = make(probe_timeout=5.0, **{name: {"port": peer.port}})
        status = z.comm.service_status(name)
        assert not z.comm.start_service(name, timeout=0.2)
        failure = z.comm.services.last_failure
        assert failure is not None
        found = [
            status["error"],
            failure.message,
            str(failure),
            doctor._service(z.comm.services, name)[1],
            *_row(status),
        ]
    assert "owned" in status["error"]
    assert "owned" in failure.message
    assert [text for text in found if not text.isprintable()] == []
    assert [record for record in caplog.messages if "\x1b" in record] == []


def test_words_of_a_broken_plugin_are_printable() -> None:
    """An exception may contain text from a server."""
    assert unusable_status("redis", EVIL)["error"].isprintable()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl is Linux's")
def test_name_of_a_process_is_printable() -> None:
    """A process may set any name."""
    code = (
        "import ctypes, socket, sys; ctypes.CDLL(None).prctl(15, b'a\\x1b[2J\\nforged', 0, 0, 0);"
        "s = socket.create_server(('127.0.0.1', 0)); print(s.getsockname()[1], flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            port = int(process.stdout.readline())
            holder = port_holder(port)
            assert holder is not None
            assert str(holder) == f"a\\x1b[2J\\nforged (pid {process.pid})"
            from zcli_core.cli.ports import command

            done = CliRunner().invoke(command, [str(port)])
            assert "\x1b" not in done.output
            assert "forged" in done.output
        finally:
            process.kill()

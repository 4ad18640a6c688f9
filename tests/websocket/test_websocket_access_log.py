"""The access log: one record for each connection, with nothing that a client could break or must not be shown."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from asgi_serving import InMemoryServer
from hypothesis import example, given
from hypothesis import strategies as st
from websocket_serving import DEADLINE, TOKEN, Served, end_of, eventually

from zcli_core.app import zCLI
from zcli_core.printable import printable
from zcli_core.websocket.access_log import AccessLog, ConnectionTraffic
from zcli_core.websocket.counters import REFUSED_PATH, RESULTS

Serve = Callable[..., Served]
MakeZ = Callable[..., zCLI]

_FIELD = re.compile(r' (\w+)=("(?:[^"\\]|\\.)*"|[^ "]+)')
NAMES = [
    "client", "identity", "path", "subprotocol", "result", "code", "reason", "seconds", "messages_in", "messages_out",
    "bytes_in", "bytes_out",
]  # fmt: skip


def _fields(text: str) -> dict[str, str]:
    """Return the fields of a message, with quotes where it has some; fail if it is anything else."""
    assert "".join(f" {name}={value}" for name, value in _FIELD.findall(f" {text}")) == f" {text}"
    found = dict(_FIELD.findall(f" {text}"))
    assert list(found) == NAMES
    return found


def _records(text: str) -> list[dict[str, str]]:
    """Return the fields of each record in a log."""
    return [_fields(line) for line in re.findall(r"\.access: (.*)", text)]


def _wait_for(served: Served, number: int) -> list[dict[str, str]]:
    """Wait until the log has a number of records."""
    eventually(lambda: served.log().count(".access: ") >= number, f"{number} records")
    records = _records(served.log())
    assert len(records) == number
    return records


def test_access_log_off_writes_nothing(serve: Serve) -> None:
    """It is off by default."""
    served = serve()
    with served.client() as client:
        client.send("x")
        client.recv(timeout=DEADLINE)
    served.handle.stop()
    assert ".access" not in served.log()


def test_access_log_line_has_all_fields(serve: Serve) -> None:
    """Messages and bytes of the connection, by ``send``, plain handlers and broadcasts; a text counts as UTF-8."""

    async def handler(websocket: Any, message: Any) -> None:
        await websocket.send(message)
        await served.websocket.broadcast("ä", exclude=())
        websocket.close_soon = True

    served = serve(
        handler=handler, access_log=True, require_auth=True, tokens={"alice": TOKEN}, subprotocols=["chat.v1"]
    )
    with served.client(
        "/chat?key=geheim", subprotocols=["chat.v1"], additional_headers={"Authorization": f"Bearer {TOKEN}"}
    ) as client:
        address = "{}:{}".format(*client.local_address[:2])
        client.send("größer")
        assert (client.recv(timeout=DEADLINE), client.recv(timeout=DEADLINE)) == ("größer", "ä")
        client.close(4001, "bye, all")
    (record,) = _wait_for(served, 1)
    seconds = float(record.pop("seconds"))
    assert 0 <= seconds < DEADLINE
    assert record == {
        "client": address, "identity": "alice", "path": "/chat", "subprotocol": "chat.v1", "result": "accepted",
        "code": "4001", "reason": '"bye, all"', "messages_in": "1", "messages_out": "2", "bytes_in": "8",
        "bytes_out": "10",
    }  # fmt: skip
    assert TOKEN not in served.log()
    assert "geheim" not in served.log()


@pytest.mark.parametrize("kind", ["rooms", "excluded", "all", "plain"])
def test_access_log_counts_every_way_to_send(serve: Serve, kind: str) -> None:
    """The sums of the connections are the numbers of ``metrics()``, while they are open and afterwards."""

    async def on_connect(websocket: Any) -> None:
        await websocket.join("room")

    def plain(websocket: Any, message: Any) -> None:
        websocket.send(message)

    served = serve(handler=plain, on_connect=on_connect, access_log=True)
    websocket = served.websocket
    with served.client() as one, served.client() as two:
        eventually(lambda: websocket.rooms == {"room": 2})
        if kind == "plain":
            one.send("0123456789")
        else:
            to = {"to": "room"} if kind == "rooms" else {}
            exclude = {"exclude": next(iter(websocket.clients))} if kind == "excluded" else {}
            assert websocket.publish("0123456789", **to, **exclude).result(DEADLINE) == (1 if exclude else 2)
        receivers = {"plain": [one], "excluded": [two]}.get(kind, [one, two])
        for client in receivers:
            assert client.recv(timeout=DEADLINE) == "0123456789"
        seen = websocket.metrics()
        assert (seen["messages_sent"], seen["bytes_sent"]) == (len(receivers), 10 * len(receivers))
    records = _wait_for(served, 2)
    assert sum(int(record["messages_out"]) for record in records) == len(receivers)
    assert sum(int(record["bytes_out"]) for record in records) == 10 * len(receivers)
    after = websocket.metrics()
    assert (after["messages_sent"], after["bytes_sent"]) == (len(receivers), 10 * len(receivers))
    assert after["messages_received"] == (kind == "plain")


def test_access_log_has_refused_clients(serve: Serve) -> None:
    """With the result; a credential is shown nowhere, though the client chose it as a subprotocol."""
    wrong = "wrong-token-of-a-client"
    served = serve(
        handler={"/chat": lambda websocket, message: None}, access_log=True, require_auth=True, token=TOKEN,
        allowed_origins=["https://a.example"],
    )  # fmt: skip
    assert served.refusal("/chat", origin="https://b.example")[0] == 1008
    assert served.refusal("/none?token=geheim")[0] == 1008
    assert served.refusal(f"/chat?token={wrong}", subprotocols=[wrong])[0] == 1008
    assert served.refusal("/chat")[0] == 1008
    records = _wait_for(served, 4)
    assert [record["result"] for record in records] == [
        "refused_origin", "refused_path", "refused_auth", "refused_auth",
    ]  # fmt: skip
    assert {record["code"] for record in records} == {"1008"}
    assert {record["identity"] for record in records} == {record["subprotocol"] for record in records} == {"-"}
    assert [record["path"] for record in records] == ["/chat", "/none", "/chat", "/chat"]
    assert "geheim" not in served.log()
    assert wrong not in served.log()


def test_access_log_refused_by_status_has_it(serve: Serve) -> None:
    """The code is the HTTP status then."""
    served = serve(handler={"/chat": lambda websocket, message: None}, access_log=True, refuse_with="http")
    assert served.status("/none") == 404
    (record,) = _wait_for(served, 1)
    assert (record["code"], record["result"], record["reason"]) == ("404", "refused_path", '"no such path"')


def test_access_log_flood_of_refusals_is_limited(serve: Serve) -> None:
    """The first refusal of an address and cause is written; the log tells the number of the others."""
    served = serve(handler={"/chat": lambda websocket, message: None}, access_log=True)
    for _ in range(20):
        served.refusal("/none")
    served.handle.stop()
    assert len(_records(served.log())) == 1
    assert "19 more times" in served.log()


def test_access_log_request_over_a_limit_is_there(serve: Serve) -> None:
    """The transport has refused it; an end without a close frame is 1006."""
    served = serve(access_log=True, max_header_bytes=1024)
    assert served.refusal(additional_headers={"X-Long": "x" * 1500})[0] == 1008
    with served.client() as client:
        eventually(lambda: served.websocket.client_count == 1)
        client.socket.shutdown(socket.SHUT_RDWR)
    refused, lost = _wait_for(served, 2)
    assert (refused["result"], refused["code"]) == ("failed", "-")
    assert (lost["result"], lost["code"]) == ("accepted", "1006")


def test_access_log_end_of_server_is_there(serve: Serve) -> None:
    """Every client that the stop has closed has its record."""
    served = serve(access_log=True)
    with served.client() as one, served.client() as two:
        eventually(lambda: served.websocket.client_count == 2)
        served.handle.stop()
        assert end_of(one)[0] == end_of(two)[0] == 1001
    assert [record["code"] for record in _wait_for(served, 2)] == ["1001", "1001"]


def test_access_log_json_has_the_fields(isolated: Path) -> None:
    """As keys of the object, with numbers as numbers; the logger is below the application's."""
    z = zCLI(
        {
            "title": "t", "logger": "PROD", "logger_path": "logs", "logger_format": "json", "deployment": "Testing",
            "websocket": {"access_log": True, "port": 0},
        }
    )  # fmt: skip
    with z, z.comm.websocket.start_background() as handle, Served(z, handle).client("/a\u2028b?x=1") as client:
        client.send("abc")
        client.recv(timeout=DEADLINE)
        client.close(1000, "\x1b[31m\n")
    lines = [json.loads(line) for line in Path("logs/t.log").read_text().splitlines()]
    (record,) = [line for line in lines if line["logger"] == "zcli.t.access"]
    assert list(record)[5:] == NAMES
    assert record["path"] == "/a%E2%80%A8b"
    assert (record["code"], record["reason"]) == (1000, "\x1b[31m\n")
    assert [record[name] for name in NAMES[8:]] == [1, 1, 3, 3]
    assert isinstance(record["seconds"], float)
    assert (record["identity"], record["level"]) == (None, "INFO")


def test_access_log_of_asgi_server_is_the_same(make_z: MakeZ) -> None:
    """A connection of an ASGI server has its record when the server reports its end."""

    async def run(z: zCLI) -> None:
        server = await InMemoryServer(z.comm.websocket.asgi(), "/chat", query_string=b"token=geheim").open()
        server.put_text("hello")
        assert (await server.next())["text"] == "hello"
        await server.leave(4000, reason="bye")
        refused = InMemoryServer(z.comm.websocket.asgi(path="/only"), "/other")
        refused.put("websocket.connect")
        assert (await refused.next())["type"] == "websocket.accept"
        assert (await refused.next())["type"] == "websocket.close"

    z = make_z(access_log=True)
    asyncio.run(run(z))
    assert z._application_log.file is not None
    log = Path(z._application_log.file).read_text()
    accepted, refused = _records(log)
    assert (accepted["path"], accepted["code"], accepted["messages_in"], accepted["bytes_out"]) == (
        "/chat", "4000", "1", "5",
    )  # fmt: skip
    assert (refused["result"], refused["path"]) == (REFUSED_PATH, "/other")
    assert "geheim" not in log


class _Client:
    """What the access log reads of a connection and an admission."""

    def __init__(self, text: str) -> None:
        self.request = self
        self.path = self.identity = self.subprotocol = text
        self.remote_address = None


@example('a" b="\\', "failed")
@given(st.text(st.characters() | st.sampled_from('"\\ =-\n\x1b'), max_size=20), st.sampled_from(RESULTS))
def test_access_log_any_text_is_one_value(text: str, result: str) -> None:
    """Whatever a client chooses, the line has the same fields, and no character that a terminal acts on."""
    lines: list[logging.LogRecord] = []
    access = AccessLog(logging.getLogger("zcli.elsewhere.websocket"), ["chat"])
    access._log = logging.Logger("zcli.elsewhere.access", logging.INFO)
    access._log.addHandler(handler := logging.Handler())
    handler.emit = lines.append  # type: ignore[method-assign]
    client: Any = _Client(text)
    access.ended(client, client, ConnectionTraffic(), 1000, text, result)
    access.refused(None, client, result, None, text * 100)
    for record in lines:
        message = record.getMessage()
        assert printable(message) == message
        fields = _fields(message)
        assert fields["client"] == "unix"
        assert (fields["result"], fields["subprotocol"]) == (result, "-")
    assert len(lines) == 2
    assert len(_fields(lines[1].getMessage())["reason"]) < 3100

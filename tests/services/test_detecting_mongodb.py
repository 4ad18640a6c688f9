"""Detecting MongoDB and its state, with a real server of its protocol and recorded replies of real servers."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import bson
import pytest
import trustme
from wire_servers import message, mongodb

from zcli_core.app import zCLI

Make = Callable[..., zCLI]

HELLO = {"isWritablePrimary": True, "maxWireVersion": 25, "ok": 1.0}
UNAUTHORIZED = {"ok": 0.0, "errmsg": "Command requires authentication", "code": 13, "codeName": "Unauthorized"}
BUILD = {"version": "8.0.4", "modules": [], "ok": 1.0}
LIST = {"databases": [{"name": "admin"}], "ok": 1.0}


@contextlib.contextmanager
def scripted(answers: dict[str, dict[str, Any]], tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """A server that replies to MongoDB's commands from a table, encoded by pymongo."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    threading.Thread(target=talk, args=(connection,), daemon=True).start()

        def talk(plain: socket.socket) -> None:
            with plain, contextlib.suppress(OSError):
                connection = tls.wrap_socket(plain, server_side=True) if tls else plain
                with connection:
                    while data := connection.recv(65536):
                        number = int.from_bytes(data[4:8], "little")
                        command = bson.decode(data[21:])
                        connection.sendall(message(number, bson.encode(answers[next(iter(command))])))

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def test_status_wire_server_works_with_pymongo(make: Make, place: Path) -> None:
    """The status has the version, and pymongo connects with the URL."""
    import pymongo

    with mongodb(place) as port:
        z = make(mongodb={"port": port})
        status = z.comm.service_status("mongo")
        info = z.comm.get_service_connection_info("mongodb")
        assert info is not None
        with pymongo.MongoClient(info["url"], serverSelectionTimeoutMS=5000) as client:
            assert status["version"] == client.admin.command("buildInfo")["version"]
            client[info["database"]].things.insert_one({"_id": 1})
            assert client[info["database"]].things.find_one() == {"_id": 1}
    assert (status["service"], status["ready"], status["needs_auth"]) == ("mongodb", True, False)
    url = f"mongodb://127.0.0.1:{port}/test"
    assert info == {"host": "127.0.0.1", "port": port, "user": None, "database": "test", "tls": False, "url": url}


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        pytest.param(
            {"hello": HELLO, "buildInfo": BUILD, "listDatabases": LIST}, (True, "8.0.4", False), id="open to all"
        ),
        pytest.param(
            {"hello": HELLO, "buildInfo": BUILD, "listDatabases": UNAUTHORIZED},
            (True, "8.0.4", True),
            id="with a login",
        ),
        pytest.param(
            {"hello": HELLO, "buildInfo": UNAUTHORIZED, "listDatabases": UNAUTHORIZED}, (True, None, True), id="8.1"
        ),
        pytest.param(
            {
                "hello": {"isWritablePrimary": False, "secondary": True, "maxWireVersion": 25, "ok": 1.0},
                "buildInfo": BUILD,
                "listDatabases": LIST,
            },
            (True, "8.0.4", False),
            id="a secondary",
        ),
        pytest.param(
            {
                "hello": HELLO,
                "buildInfo": {**BUILD, "ferretdbVersion": "v2.0.0"},
                "listDatabases": UNAUTHORIZED,
            },
            (True, "v2.0.0", True),
            id="FerretDB",
        ),
        pytest.param(
            {"hello": {"isWritablePrimary": False, "secondary": False, "maxWireVersion": 25, "ok": 1.0}},
            (False, None, None),
            id="a replica set that elects",
        ),
    ],
)
def test_status_of_each_recorded_reply(make: Make, answers: dict[str, Any], expected: tuple[Any, ...]) -> None:
    """Each recorded reply of a real server gives its state."""
    with scripted(answers) as port:
        status = make(mongodb={"port": port}).comm.service_status("mongodb")
    assert status["running"], status
    assert (status["ready"], status["version"], status["needs_auth"]) == expected


def test_status_tls_only_server_is_ready(make: Make) -> None:
    """The probe tries TLS if plain text is refused."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with scripted({"hello": HELLO, "buildInfo": BUILD, "listDatabases": LIST}, context) as port:
        for tls in (False, True):
            status = make(mongodb={"port": port, "tls": tls}).comm.service_status("mongodb")
            assert (status["ready"], status["version"]) == (True, "8.0.4"), status

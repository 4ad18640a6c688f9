"""Revoked keys end open connections in every process, also if the command line revokes them."""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from installations import clean_environment
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect
from zcli_bifrost.access.key_table import KeyTable
from zcli_bifrost.data.database import Database

from zCLI import zCLI

TOKENS = {"alice": "a-long-token-of-alice"}


@pytest.fixture
def url(make_database: Callable[[], str]) -> str:
    """The URL of an empty database."""
    return make_database()


@pytest.fixture
def keys(url: str) -> Iterator[KeyTable]:
    """The keys, as another process sees them."""
    table = KeyTable(Database(url, 5.0, logging.getLogger("zcli.tests")))
    table.create()
    yield table
    table.close()


@pytest.fixture
def servers(isolated: Path, url: str) -> Iterator[list[zCLI]]:
    """Two servers with nothing in common but the database."""
    settings = {"auth_tier": "dual", "operators": {"alice": "admin"}, "database": url}
    quiet = {"deployment": "Testing", "logger": "PROD", "logger_path": str(isolated / "logs")}
    websocket = {"tokens": TOKENS, "max_refusal_delay": 0}
    made = [zCLI({**quiet, "title": f"s{n}", "bifrost": settings, "websocket": websocket}) for n in range(2)]
    for z in made:
        z.comm.websocket.start_background(port=0)
    yield made
    for z in made:
        z.close()


def client_of(z: zCLI, credential: str) -> ClientConnection:
    assert z.comm.websocket.url is not None
    headers = {"Authorization": f"Bearer {credential}"}
    return connect(z.comm.websocket.url, proxy=None, open_timeout=20, additional_headers=headers)


def talks(client: ClientConnection) -> bool:
    client.send("there?")
    return client.recv(timeout=20) == "there?"


def end_of(client: ClientConnection) -> tuple[int, str]:
    with pytest.raises(ConnectionClosed) as closed:
        client.recv(timeout=20)
    assert closed.value.rcvd is not None
    return closed.value.rcvd.code, closed.value.rcvd.reason


def revoked_in_both(servers: list[zCLI], keys: KeyTable, revoke: Any) -> None:
    old, new = keys.add("anna", "user", "default"), keys.add("anna", "user", "default")
    other = keys.add("anna", "user", "shop")
    with contextlib.ExitStack() as stack:
        ended = [stack.enter_context(client_of(z, old.text)) for z in servers]
        stay = (new.text, other.text, TOKENS["alice"])
        kept = [stack.enter_context(client_of(z, each)) for z in servers for each in stay]
        assert all(map(talks, ended + kept))
        revoke(old.id)
        assert {end_of(client) for client in ended} == {(1008, "the key is no longer valid")}
        assert all(map(talks, kept))
    with client_of(servers[0], old.text) as again:
        assert end_of(again) == (1008, "authentication failed")


def test_revoke_closes_connections_of_both_servers(servers: list[zCLI], keys: KeyTable) -> None:
    """Only those of the key; other keys of the user, an equal name in another app and operators stay."""
    revoked_in_both(servers, keys, keys.revoke)


@pytest.mark.slow
def test_revoke_by_command_closes_connections(servers: list[zCLI], keys: KeyTable, url: str, tmp_path: Path) -> None:
    """The command line is a process that has no link to the servers."""

    def revoke(key_id: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "zCLI", "bifrost", "revoke", key_id],
            env={**clean_environment(os.environ, tmp_path), "ZCLI_BIFROST_DATABASE": url},
            check=True,
            capture_output=True,
            timeout=60,
        )

    revoked_in_both(servers, keys, revoke)


def test_key_expiry_closes_the_connection(servers: list[zCLI], keys: KeyTable) -> None:
    """A key with an expiry admits its user until then."""
    import time

    key = keys.add("anna", "user", "default", time.time() + 1.5)
    with client_of(servers[0], key.text) as client:
        assert talks(client)
        assert end_of(client)[0] == 1008


def test_client_info_has_tier_role_and_app(servers: list[zCLI], keys: KeyTable) -> None:
    """Handlers see who a client is; the key is not in it."""
    key = keys.add("anna", "buyer", "shop")
    with client_of(servers[0], key.text) as client:
        assert talks(client)
        websocket = servers[0].comm.websocket
        info = websocket.auth.get_client_info(websocket.clients[0])
    assert info["identity"] == "application:shop/anna"
    assert info["strategy"] == "bifrost"
    assert info["claims"] == {
        "tier": "application", "role": "buyer", "app": "shop", "user": "anna", "key": key.id
    }  # fmt: skip
    assert key.text not in str(info)


def test_wrong_keys_are_throttled(servers: list[zCLI], keys: KeyTable) -> None:
    """Too many wrong secrets of one address are refused without a look at the database; operators still enter."""
    key = keys.add("anna", "user", "default")
    limit = servers[0].config.websocket.max_auth_failures
    wrong = key.text[:-1] + ("A" if key.text[-1] != "A" else "B")
    for _ in range(limit):
        with client_of(servers[0], wrong) as client:
            assert end_of(client) == (1008, "authentication failed")
    with client_of(servers[0], wrong) as client:
        assert "too many failed attempts" in end_of(client)[1]
    with client_of(servers[0], TOKENS["alice"]) as client:
        assert talks(client)

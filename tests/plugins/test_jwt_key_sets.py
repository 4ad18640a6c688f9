"""Key sets that change: in a file, and at a URL that is slow, broken, missing or requested too often."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from jwt_issuer import (
    DEADLINE,
    KeyServer,
    ec_key,
    eventually,
    hanging,
    jwks,
    public_pem,
    rsa_key,
    showing,
    token,
    write,
)
from zcli_jwt.keys import InvalidKey, KeySet, read_jwks
from zcli_jwt.remote_keys import RemoteKeys
from zcli_jwt.strategy import RemoteJwtStrategy, make_strategy

from zcli_core.auth.contract import Identified, Rejected, Verdict
from zcli_core.testing.contract import make_context

pytestmark = pytest.mark.usefixtures("isolated")
LOG = logging.getLogger("zcli.testing")


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)


# --- in a file ---


def test_key_set_file_replaced_is_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is read for the next client; after an error the previous keys stay in use, and it is logged once."""
    path = write(tmp_path / "jwks.json", jwks(old=rsa_key()))
    asked: Any = make_strategy(make_context(jwt={"jwks_file": str(path)}))
    old, new = showing(token(rsa_key(), "RS256", "old")), showing(token(ec_key(), "ES256", "new"))
    assert isinstance(asked.authenticate(old), Identified)
    assert asked.authenticate(new) == Rejected("the token names the unknown key 'new'")
    write(path, jwks(old=rsa_key(), new=ec_key()))
    assert isinstance(asked.authenticate(old), Identified)
    assert isinstance(asked.authenticate(new), Identified)
    write(path, jwks(new=ec_key()))
    assert isinstance(asked.authenticate(old), Rejected)
    for trouble in (lambda: write(path, b"{"), path.unlink, path.mkdir):
        caplog.clear()
        trouble()
        for _ in range(3):
            assert isinstance(asked.authenticate(new), Identified)
        assert caplog.text.count("the previous keys stay in use") == 1
    path.rmdir()
    write(path, jwks(old=rsa_key()))
    assert isinstance(asked.authenticate(old), Identified)


def test_public_key_file_replaced_is_read_again(tmp_path: Path) -> None:
    """The new key is used and the old one refused."""
    path = write(tmp_path / "key.pem", public_pem(rsa_key()))
    asked: Any = make_strategy(make_context(jwt={"public_key_file": str(path)}))
    write(path, public_pem(rsa_key("second")))
    assert isinstance(asked.authenticate(showing(token(rsa_key("second"), "RS256"))), Identified)
    assert isinstance(asked.authenticate(showing(token(rsa_key(), "RS256"))), Rejected)


@pytest.fixture
def server() -> Iterator[KeyServer]:
    """A server that publishes the key ``one``."""
    with KeyServer(jwks(one=rsa_key())) as found:
        yield found


# --- when it is fetched ---


class Publisher:
    """Plays the URL: returns keys or raises an error, and counts the fetches."""

    def __init__(self) -> None:
        self.keys = read_jwks(jwks(one=rsa_key()))
        self.trouble: Exception | None = None
        self.asked = 0
        self.now = 1000.0
        self.open = threading.Event()
        self.open.set()

    def __call__(self) -> KeySet:
        self.asked += 1
        assert self.open.wait(DEADLINE)
        if self.trouble is not None:
            raise self.trouble
        return self.keys

    def remote(self) -> RemoteKeys:
        return RemoteKeys("the place", self, 300, 10, 3600, LOG, lambda: self.now)


@pytest.fixture
def publisher() -> Publisher:
    """A publisher of one key."""
    return Publisher()


def settled(remote: RemoteKeys) -> None:
    """Begin a fetch, if one is due, and wait for it."""
    fetch = remote.begin_fetch()
    if fetch is not None:
        fetch.result(DEADLINE)


def test_remote_keys_are_fresh_until_refresh(publisher: Publisher) -> None:
    """Then they are fetched again, and removed keys are gone."""
    remote = publisher.remote()
    assert not remote.is_fresh
    settled(remote)
    assert remote.is_fresh
    publisher.now += 299
    assert remote.is_fresh
    publisher.now += 1
    assert not remote.is_fresh
    publisher.keys = read_jwks(jwks(two=ec_key()))
    settled(remote)
    assert [key.kid for key in remote.current().keys] == ["two"]


def test_remote_keys_thousand_clients_fetch_once(publisher: Publisher) -> None:
    """They share the pending fetch, and cause none for an interval after it."""
    remote = publisher.remote()
    publisher.open.clear()
    with ThreadPoolExecutor(20) as pool:
        fetches = set(pool.map(lambda _: remote.begin_fetch(), range(1000)))
    assert len(fetches) == 1
    publisher.open.set()
    fetches.pop().result(DEADLINE)
    assert [remote.begin_fetch() for _ in range(1000)] == [None] * 1000
    publisher.now += 10
    settled(remote)
    assert publisher.asked == 2


def test_remote_keys_error_keeps_keys_and_logs_once(publisher: Publisher, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged when it begins, when it changes and when it is over."""
    remote = publisher.remote()
    settled(remote)
    publisher.trouble = InvalidKey("it is broken")
    for _ in range(5):
        publisher.now += 400
        settled(remote)
    assert [key.kid for key in remote.current().keys] == ["one"]
    assert remote.last_error == "it is broken"
    assert caplog.text.count("the place: it is broken; the previous keys stay in use") == 1
    publisher.trouble = RuntimeError("of an unexpected kind")
    publisher.now += 400
    settled(remote)
    assert "the place: RuntimeError while it was fetched" in caplog.text
    assert "an unexpected kind" not in caplog.text
    publisher.trouble = None
    publisher.now += 400
    caplog.clear()
    settled(remote)
    assert remote.last_error is None
    assert "fetched the place" in caplog.text


def test_remote_keys_expire_after_max_age(publisher: Publisher, caplog: pytest.LogCaptureFixture) -> None:
    """Otherwise an attacker who blocks the fetches could keep a revoked key in use."""
    remote = publisher.remote()
    settled(remote)
    publisher.trouble = InvalidKey("it is blocked")
    publisher.now += 3599
    settled(remote)
    assert [key.kid for key in remote.current().keys] == ["one"]
    for _ in range(3):
        publisher.now += 10
        settled(remote)
    assert remote.current().keys == ()
    assert caplog.text.count("the place: it is blocked; no client can be admitted until it is fetched") == 1
    publisher.trouble = None
    publisher.now += 10
    settled(remote)
    assert [key.kid for key in remote.current().keys] == ["one"]


def test_remote_keys_fetch_survives_a_cancelled_wait(publisher: Publisher) -> None:
    """Other clients get its result, even if the event loop of the first is closed."""
    remote = publisher.remote()
    publisher.open.clear()

    async def leave() -> None:
        task = asyncio.ensure_future(remote.fetched(DEADLINE))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(leave())
    asyncio.run(remote.fetched(0.05))
    assert remote.last_error == "not received yet"
    publisher.open.set()
    eventually(lambda: remote.is_fresh)
    assert remote.last_error is None
    assert publisher.asked == 1


# --- a strategy that fetches ---


@pytest.fixture
def ask() -> Callable[..., list[Verdict]]:
    """Authenticates several tokens at the same time."""

    def run(strategy: Any, *shown: str) -> list[Verdict]:
        async def all_at_once() -> list[Verdict]:
            return await asyncio.gather(*(strategy.authenticate(showing(each)) for each in shown))

        return asyncio.run(all_at_once())

    return run


def fetching(url: str, **settings: Any) -> Any:
    made = make_strategy(make_context(jwt={"jwks_url": url, **settings}))
    assert isinstance(made, RemoteJwtStrategy)
    return made


def test_remote_strategy_follows_key_changes(server: KeyServer, ask: Any) -> None:
    """It needs no restart."""
    strategy = fetching(server.url, jwks_interval=0.01, jwks_refresh=0.02)
    old, new = token(rsa_key(), "RS256", "one"), token(ec_key(), "ES256", "two")
    assert isinstance(ask(strategy, old)[0], Identified)
    assert isinstance(ask(strategy, new)[0], Rejected)
    server.body = jwks(one=rsa_key(), two=ec_key())
    assert isinstance(eventually(lambda: _identified(ask(strategy, new)[0])), Identified)
    assert isinstance(ask(strategy, old)[0], Identified)
    server.body = jwks(two=ec_key())
    eventually(lambda: isinstance(ask(strategy, old)[0], Rejected))


def _identified(verdict: Verdict) -> Verdict:
    return verdict if isinstance(verdict, Identified) else None


def test_remote_strategy_unknown_keys_fetch_once(server: KeyServer, ask: Any) -> None:
    """Clients whose key is known do not wait for it."""
    strategy = fetching(server.url, jwks_interval=DEADLINE)
    good = token(rsa_key(), "RS256", "one")
    assert isinstance(ask(strategy, good)[0], Identified)
    verdicts = ask(strategy, *(token(rsa_key(), "RS256", f"unknown-{n}") for n in range(200)), good)
    assert isinstance(verdicts.pop(), Identified)
    assert {type(verdict) for verdict in verdicts} == {Rejected}
    assert server.requests == 1


def test_remote_strategy_invalid_token_fetches_nothing(server: KeyServer, ask: Any) -> None:
    """The tokens are refused before their key matters."""
    strategy = fetching(server.url, jwks_interval=0.001)
    eventually(lambda: strategy._keys.is_fresh)
    for shown in (token(kid="unknown"), token(rsa_key(), "RS512", "unknown"), "a.b.c", "x" * 9000):
        assert isinstance(ask(strategy, shown)[0], Rejected)
    assert server.requests == 1


@pytest.mark.parametrize("kind", ["refused", "500", "rubbish", "silent"])
def test_remote_strategy_without_keys_refuses(kind: str, server: KeyServer, ask: Any) -> None:
    """The cause is logged for each client, without a long wait."""
    url, good = server.url, token(rsa_key(), "RS256", "one")
    server.status = 500 if kind == "500" else 200
    server.body = b"rubbish" if kind == "rubbish" else server.body
    if kind == "refused":
        with socket.create_server(("127.0.0.1", 0)) as unused:
            url = f"http://127.0.0.1:{unused.getsockname()[1]}/jwks.json?tenant=1"
    with hanging(server) if kind == "silent" else pytest.MonkeyPatch.context():
        strategy = fetching(url, jwks_timeout=0.3)
        verdicts = [ask(strategy, good, good), ask(strategy, good)]
    shown = url.partition("?")[0]
    for verdict in (*verdicts[0], *verdicts[1]):
        assert isinstance(verdict, Rejected)
        assert verdict.cause.startswith(f"the token names the unknown key 'one'; {shown}: ")
        assert not verdict.counts  # the token may be valid


def test_remote_strategy_fetch_without_a_thread_fails(
    server: KeyServer, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No client waits for it, and the next fetch may succeed."""
    good = token(rsa_key(), "RS256", "one")

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        strategy = fetching(server.url, jwks_interval=0.01)  # it begins at once
    assert strategy._keys.last_error == "no thread could be started to fetch it"
    eventually(lambda: isinstance(ask(strategy, good)[0], Identified))


def test_remote_strategy_known_key_does_not_wait(server: KeyServer, ask: Any) -> None:
    """Only clients that come when the error begins wait."""
    strategy = fetching(server.url, jwks_interval=0.01, jwks_refresh=0.02, jwks_timeout=0.3)
    good = token(rsa_key(), "RS256", "one")
    eventually(lambda: isinstance(ask(strategy, good)[0], Identified))
    with hanging(server):
        eventually(lambda: ask(strategy, good) and strategy._keys.last_error)
        began = time.monotonic()
        for _ in range(100):
            assert isinstance(ask(strategy, good)[0], Identified)
        assert time.monotonic() - began < 100 * 0.3


def test_remote_strategy_max_wait_is_below_open_timeout(server: KeyServer) -> None:
    """So the strategy refuses with its cause before the server's timeout."""
    context = make_context(jwt={"jwks_url": server.url, "jwks_timeout": 60}, websocket={"open_timeout": 8})
    made: Any = make_strategy(context)
    assert made._max_wait == 2

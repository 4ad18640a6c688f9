"""Key sets that change: in a file, and at a URL that is slow, broken, gone or asked too often."""

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


def test_a_key_file_that_is_replaced_is_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With the next client, and no sooner; trouble keeps the keys of before and is logged once."""
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


def test_a_public_key_file_that_is_replaced_is_read_again(tmp_path: Path) -> None:
    """As a key set is."""
    path = write(tmp_path / "key.pem", public_pem(rsa_key()))
    asked: Any = make_strategy(make_context(jwt={"public_key_file": str(path)}))
    write(path, public_pem(rsa_key("second")))
    assert isinstance(asked.authenticate(showing(token(rsa_key("second"), "RS256"))), Identified)
    assert isinstance(asked.authenticate(showing(token(rsa_key(), "RS256"))), Rejected)


@pytest.fixture
def server() -> Iterator[KeyServer]:
    """A place that publishes the key ``one``."""
    with KeyServer(jwks(one=rsa_key())) as found:
        yield found


# --- when it is fetched ---


class Publisher:
    """Stands for the place: keys to give, or trouble, and how often it was asked."""

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
    """Ready to give one key."""
    return Publisher()


def settled(remote: RemoteKeys) -> None:
    """Fetch, if it is time to, and wait for it."""
    fetch = remote.begin_fetch()
    if fetch is not None:
        fetch.result(DEADLINE)


def test_keys_are_fresh_for_a_while(publisher: Publisher) -> None:
    """Then they are asked for again, and what was removed is gone."""
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


def test_a_thousand_clients_cause_one_fetch(publisher: Publisher) -> None:
    """While it is under way, and for an interval after."""
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


def test_trouble_keeps_the_keys_and_is_logged_when_it_changes(
    publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    """Once when it begins, once when it is over."""
    remote = publisher.remote()
    settled(remote)
    publisher.trouble = InvalidKey("it is broken")
    for _ in range(5):
        publisher.now += 400
        settled(remote)
    assert [key.kid for key in remote.current().keys] == ["one"]
    assert remote.last_error == "it is broken"
    assert caplog.text.count("the place: it is broken; the previous keys stay in use") == 1
    publisher.trouble = RuntimeError("of which nobody thought")
    publisher.now += 400
    settled(remote)
    assert "the place: RuntimeError while it was fetched" in caplog.text
    assert "nobody thought" not in caplog.text
    publisher.trouble = None
    publisher.now += 400
    caplog.clear()
    settled(remote)
    assert remote.last_error is None
    assert "fetched the place" in caplog.text


def test_keys_that_cannot_be_fetched_again_expire(publisher: Publisher, caplog: pytest.LogCaptureFixture) -> None:
    """After ``jwks_max_age``: blocking the fetches must not keep a revoked key in use."""
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


def test_a_client_that_leaves_does_not_take_the_fetch_away(publisher: Publisher) -> None:
    """From those who wait with it, or come later; its event loop may be gone by then."""
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
    """Asks a strategy with tokens at once."""

    def run(strategy: Any, *shown: str) -> list[Verdict]:
        async def all_at_once() -> list[Verdict]:
            return await asyncio.gather(*(strategy.authenticate(showing(each)) for each in shown))

        return asyncio.run(all_at_once())

    return run


def fetching(url: str, **settings: Any) -> Any:
    made = make_strategy(make_context(jwt={"jwks_url": url, **settings}))
    assert isinstance(made, RemoteJwtStrategy)
    return made


def test_a_new_key_is_found_and_a_removed_one_forgotten(server: KeyServer, ask: Any) -> None:
    """Without a restart."""
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


def test_a_thousand_unknown_keys_cause_one_fetch(server: KeyServer, ask: Any) -> None:
    """And those whose key is known do not wait for it."""
    strategy = fetching(server.url, jwks_interval=DEADLINE)
    good = token(rsa_key(), "RS256", "one")
    assert isinstance(ask(strategy, good)[0], Identified)
    verdicts = ask(strategy, *(token(rsa_key(), "RS256", f"unknown-{n}") for n in range(200)), good)
    assert isinstance(verdicts.pop(), Identified)
    assert {type(verdict) for verdict in verdicts} == {Rejected}
    assert server.requests == 1


def test_an_algorithm_that_is_not_accepted_causes_no_fetch(server: KeyServer, ask: Any) -> None:
    """Nor does anything else that is refused before the key matters."""
    strategy = fetching(server.url, jwks_interval=0.001)
    eventually(lambda: strategy._keys.is_fresh)
    for shown in (token(kid="unknown"), token(rsa_key(), "RS512", "unknown"), "a.b.c", "x" * 9000):
        assert isinstance(ask(strategy, shown)[0], Rejected)
    assert server.requests == 1


@pytest.mark.parametrize("kind", ["refused", "500", "rubbish", "silent"])
def test_without_keys_everybody_is_refused_and_told_why(kind: str, server: KeyServer, ask: Any) -> None:
    """Soon, and again and again."""
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
        assert not verdict.counts  # a good token, for all that anybody knows


def test_a_fetch_that_gets_no_thread_is_trouble_and_the_next_one_may(
    server: KeyServer, ask: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody waits for what was never begun."""
    good = token(rsa_key(), "RS256", "one")

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        strategy = fetching(server.url, jwks_interval=0.01)  # it begins at once
    assert strategy._keys.last_error == "no thread could be started to fetch it"
    eventually(lambda: isinstance(ask(strategy, good)[0], Identified))


def test_trouble_does_not_make_those_wait_whose_key_is_known(server: KeyServer, ask: Any) -> None:
    """But for those who come when it begins."""
    strategy = fetching(server.url, jwks_interval=0.01, jwks_refresh=0.02, jwks_timeout=0.3)
    good = token(rsa_key(), "RS256", "one")
    eventually(lambda: isinstance(ask(strategy, good)[0], Identified))
    with hanging(server):
        eventually(lambda: ask(strategy, good) and strategy._keys.last_error)
        began = time.monotonic()
        for _ in range(100):
            assert isinstance(ask(strategy, good)[0], Identified)
        assert time.monotonic() - began < 100 * 0.3


def test_clients_wait_for_keys_a_part_of_open_timeout_at_most(server: KeyServer) -> None:
    """So that it is the strategy that refuses, with its cause, and not the server that gives up on it."""
    context = make_context(jwt={"jwks_url": server.url, "jwks_timeout": 60}, websocket={"open_timeout": 8})
    made: Any = make_strategy(context)
    assert made._max_wait == 2

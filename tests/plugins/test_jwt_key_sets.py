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
import trustme
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
from zcli_jwt.fetching import fetch
from zcli_jwt.keys import KeySet, UnusableKey, read_jwks
from zcli_jwt.remote import RemoteKeys
from zcli_jwt.strategy import RemoteJwtStrategy, make_strategy

from zcli_core.contracts.auth import Identified, Rejected, Verdict
from zcli_core.contracts.provider import Context
from zcli_core.testing.contract import make_context

LOG = logging.getLogger("zcli.testing")


@pytest.fixture(autouse=True)
def _log_everything(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


# --- in a file ---


def test_a_key_file_that_is_replaced_is_read_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With the next client, and no sooner; trouble keeps the keys of before and is logged once."""
    path = write(tmp_path / "jwks.json", jwks(old=rsa_key()))
    asked: Any = make_strategy(make_context(jwt={"jwks_file": str(path)}))
    old, new = showing(token(rsa_key(), "RS256", "old")), showing(token(ec_key(), "ES256", "new"))
    assert isinstance(asked.authenticate(old), Identified)
    assert asked.authenticate(new) == Rejected("the token is signed with the key 'new', which is not known")
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
        assert caplog.text.count("the keys of before are kept") == 1
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


# --- one fetch ---


@pytest.fixture
def server() -> Iterator[KeyServer]:
    """A place that publishes the key ``one``."""
    with KeyServer(jwks(one=rsa_key())) as found:
        yield found


def _context(**http: Any) -> Context:
    return make_context(http=http)


def trouble_with(url: str, timeout: float = DEADLINE, **http: Any) -> str:
    """Why there is no key set to be had there."""
    with pytest.raises(UnusableKey) as trouble:
        read_jwks(fetch(url, _context(**http).config, timeout))
    return str(trouble.value)


def test_a_key_set_is_fetched(server: KeyServer) -> None:
    """With its query."""
    assert fetch(server.url, _context().config, DEADLINE) == server.body


@pytest.mark.parametrize("status", [204, 301, 302, 307, 308, 400, 401, 404, 500, 503])
def test_another_status_than_200_is_trouble(server: KeyServer, status: int) -> None:
    """A redirect is one too: keys are taken from where the configuration says, and from nowhere else."""
    server.status = status
    server.headers["Location"] = server.url
    found = trouble_with(server.url)
    assert found == f"it was answered with the status {status}" or (status == 204 and "no JSON Web Key Set" in found)
    assert server.requests == 1


def test_what_is_no_key_set_is_trouble(server: KeyServer) -> None:
    """A login page, for one."""
    server.body = b"<!doctype html><title>Log in</title>"
    assert trouble_with(server.url) == 'it is no JSON Web Key Set: {"keys": [...]}'


def test_more_than_anybody_publishes_is_not_read(server: KeyServer) -> None:
    """However long it goes on."""

    def pour(handler: Any) -> None:
        handler.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
        while True:
            handler.wfile.write(b" " * 65536)

    server.behave = pour
    assert trouble_with(server.url) == "it has more than 262144 bytes"


def test_an_answer_that_ends_too_early_is_trouble(server: KeyServer) -> None:
    """Half a key set is none."""
    server.behave = lambda handler: handler.wfile.write(b"HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\n{}")
    assert trouble_with(server.url) == "it ended too early"
    server.behave = lambda handler: handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{}")
    assert "does not answer as it should" in trouble_with(server.url)


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"\0" * 1000, b"HTTP/1.1 abc\r\n\r\n"])
def test_another_protocol_is_trouble(server: KeyServer, answer: bytes) -> None:
    """Told without quoting it."""
    server.behave = lambda handler: handler.wfile.write(answer)
    assert "does not answer as it should" in trouble_with(server.url)


def test_a_server_that_is_not_there_is_trouble() -> None:
    """By name or by port."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert "cannot be reached" in trouble_with(f"http://127.0.0.1:{port}/")
    assert "cannot be reached" in trouble_with("https://nowhere.invalid/")


def test_a_server_that_says_nothing_is_not_waited_for(server: KeyServer) -> None:
    """Longer than the timeout."""
    began = time.monotonic()
    with hanging(server):
        assert trouble_with(server.url, 0.3) in ("it did not come within 0.3 s", "its server does not answer")
    assert time.monotonic() - began < DEADLINE / 2


@pytest.mark.parametrize("start", [b"", b"HTTP/1.0 200 OK\r\n\r\n"], ids=["head", "body"])
def test_a_server_that_trickles_is_not_waited_for(server: KeyServer, start: bytes) -> None:
    """The timeout holds for everything together: a byte now and then does not make it longer."""
    over = threading.Event()

    def trickle(handler: Any) -> None:
        handler.wfile.write(start)
        while not over.wait(0.05):
            handler.wfile.write(b"H")

    server.behave = trickle
    began = time.monotonic()
    assert trouble_with(server.url, 0.5) == "it did not come within 0.5 s"
    over.set()
    assert time.monotonic() - began < DEADLINE / 2


def test_a_certificate_has_to_be_trusted(tmp_path: Path) -> None:
    """By the system's authorities or those of http.ca_file."""
    import ssl

    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    (tmp_path / "empty.pem").touch()
    with KeyServer(jwks(one=rsa_key()), tls) as server:
        assert "certificate is not trusted" in trouble_with(server.url)
        assert server.requests == 0
        trusting = _context(ca_file=str(tmp_path / "ca.pem")).config
        assert read_jwks(fetch(server.url, trusting, DEADLINE)).keys[0].kid == "one"
        assert "http.ca_file" in trouble_with(server.url, ca_file=str(tmp_path / "empty.pem"))
        other = server.url.replace("127.0.0.1", "localhost")
        assert "certificate is not trusted" in trouble_with(other, ca_file=str(tmp_path / "ca.pem"))


def test_a_proxy_of_the_environment_is_for_other_machines(server: KeyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over https it is asked, unless http.trust_env is off; what is on this machine is asked directly."""
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with KeyServer() as proxy:
        proxy.status = 403
        for name in ("http_proxy", "https_proxy"):
            monkeypatch.setenv(name, proxy.url.partition("/jwks")[0])
        assert fetch(server.url, _context().config, DEADLINE) == server.body
        assert proxy.requests == 0
        assert trouble_with("https://nowhere.invalid/") == "the proxy does not let us through to its server"
        assert proxy.requests == 1
        assert "cannot be reached" in trouble_with("https://nowhere.invalid/", trust_env=False)
        assert proxy.requests == 1


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
        return RemoteKeys("the place", self, 300, 10, LOG, lambda: self.now)


@pytest.fixture
def publisher() -> Publisher:
    """Ready to give one key."""
    return Publisher()


def settled(remote: RemoteKeys) -> None:
    """Fetch, if it is time to, and wait for it."""
    flight = remote.begin_fetch()
    if flight is not None:
        flight.result(DEADLINE)


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
        flights = set(pool.map(lambda _: remote.begin_fetch(), range(1000)))
    assert len(flights) == 1
    publisher.open.set()
    flights.pop().result(DEADLINE)
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
    publisher.trouble = UnusableKey("it is broken")
    for _ in range(5):
        publisher.now += 400
        settled(remote)
    assert [key.kid for key in remote.current().keys] == ["one"]
    assert remote.trouble == "it is broken"
    assert caplog.text.count("the place: it is broken; the keys of before are kept") == 1
    publisher.trouble = RuntimeError("of which nobody thought")
    publisher.now += 400
    settled(remote)
    assert "the place: RuntimeError while it was fetched" in caplog.text
    assert "nobody thought" not in caplog.text
    publisher.trouble = None
    publisher.now += 400
    caplog.clear()
    settled(remote)
    assert remote.trouble is None
    assert "fetched the place" in caplog.text


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
    assert remote.trouble == "it has not come yet"
    publisher.open.set()
    eventually(lambda: remote.is_fresh)
    assert remote.trouble is None
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
        assert verdict.cause.startswith(f"the token is signed with the key 'one', which is not known; {shown}: it")


def test_trouble_does_not_make_those_wait_whose_key_is_known(server: KeyServer, ask: Any) -> None:
    """But for those who come when it begins."""
    strategy = fetching(server.url, jwks_interval=0.01, jwks_refresh=0.02, jwks_timeout=0.3)
    good = token(rsa_key(), "RS256", "one")
    assert isinstance(ask(strategy, good)[0], Identified)
    with hanging(server):
        eventually(lambda: ask(strategy, good) and strategy._keys.trouble)
        began = time.monotonic()
        for _ in range(100):
            assert isinstance(ask(strategy, good)[0], Identified)
        assert time.monotonic() - began < 100 * 0.3


def test_clients_wait_for_keys_a_part_of_open_timeout_at_most(server: KeyServer) -> None:
    """So that it is the strategy that refuses, with its cause, and not the server that gives up on it."""
    context = make_context(jwt={"jwks_url": server.url, "jwks_timeout": 60}, websocket={"open_timeout": 8})
    made: Any = make_strategy(context)
    assert made._patience == 2

"""The contract suite for auth strategies: derive a class, give valid and invalid requests, and run pytest.

::

    from zcli_api_key import zcli_auth_strategies
    from zcli_core.testing import AuthStrategyContract, make_request

    class TestApiKey(AuthStrategyContract):
        strategy = zcli_auth_strategies()[0]
        settings = {"api_key": {"keys": {"alice": "a-key-of-hers"}}}
        accepted = [make_request(headers={"X-API-Key": "a-key-of-hers"})]
        rejected = [make_request(headers={"X-API-Key": "an-unknown-key"})]

If these depend on something that has to be made first, such as a file or a server, an autouse fixture sets them on
``self``.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest

from zcli_core.auth.contract import AuthStrategy, Identified, Rejected, Verdict
from zcli_core.plugins.contract import Context
from zcli_core.testing.auth_server import connecting, serving
from zcli_core.testing.blocking_calls import noted_blocking_calls
from zcli_core.testing.contract import Contract, Offered
from zcli_core.testing.upgrade_requests import altered_requests, garbage_requests, make_request, words_in
from zcli_core.websocket.contract import Request

__all__ = ["AuthStrategyContract", "make_request"]

#: Longest time for a verdict, in seconds. The server's default is the same (``websocket.open_timeout``).
MAX_WAIT = 10.0
#: How long ``watch`` runs, in seconds.
_WATCHED = 0.1
#: Longest cause in characters, because it becomes a log line.
MAX_CAUSE = 1000
#: Requests without a credential.
WITHOUT_CREDENTIAL = (
    make_request(),
    make_request(query="page=2&sort=name", headers={"User-Agent": "Mozilla/5.0", "Accept-Language": "en"}),
    make_request(subprotocols=["chat", "superchat"]),
)


class AuthStrategyContract(Contract):
    """Tests that every auth strategy passes: correct verdicts, no leaked credentials, no failure on any input."""

    #: The Provider of the plugin, or a function that makes the strategy from a context.
    strategy: ClassVar[Offered[AuthStrategy]]
    #: Requests that identify their client and contain only the credential.
    accepted: Sequence[Request] = ()
    #: Requests with an invalid credential of this kind. Empty for a strategy that never rejects.
    rejected: Sequence[Request] = ()

    def credentials(self) -> set[str]:
        """Return the texts that must not appear in a verdict, a ``repr``, the log or the console.

        These are all words of eight or more characters in the requests. Override it to leave out a word, such as a
        user's name, or to add one, such as the decoded form of a credential.
        """
        return {word for request in (*self.accepted, *self.rejected) for word in words_in(request)}

    @pytest.fixture
    def made(self, context: Context) -> AuthStrategy:
        """The strategy, made as ``start()`` makes it."""
        strategy: AuthStrategy = self.make("strategy", context)
        return strategy

    @pytest.fixture(autouse=True)
    def _everything_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, logger="asyncio")  # at DEBUG it logs every new event loop
        caplog.set_level(logging.DEBUG)

    def _leaks(self, *texts: object) -> list[str]:
        """Return the beginnings of the credentials that the texts contain."""
        shown = "\n".join(str(text) for text in texts)
        return sorted(f"{secret[:4]}..." for secret in self.credentials() if secret in shown)

    # --- verdicts ---

    def test_authenticate_valid_credential_is_identified(self, made: AuthStrategy) -> None:
        """The verdict has a name, claims with string keys, and no subprotocol that was not offered."""
        assert self.accepted, "accepted must contain at least one request"
        for request in self.accepted:
            verdict = authenticate(made, request)
            assert isinstance(verdict, Identified), verdict
            assert isinstance(verdict.identity, str)
            assert verdict.identity
            assert isinstance(verdict.claims, Mapping)
            assert all(isinstance(name, str) for name in verdict.claims)
            assert verdict.subprotocol is None or verdict.subprotocol in request.subprotocols
            assert verdict.expires_at is None or verdict.expires_at > time.time()

    def test_authenticate_invalid_credential_is_rejected(self, made: AuthStrategy) -> None:
        """The verdict has a cause that fits into one log line."""
        if not self.rejected:
            pytest.skip("rejected is empty: this strategy never rejects")
        for request in self.rejected:
            verdict = authenticate(made, request)
            assert isinstance(verdict, Rejected), verdict
            assert_cause(verdict)

    def test_authenticate_no_credential_returns_none(self, made: AuthStrategy) -> None:
        """The next strategy can then be called; unrelated queries, headers and subprotocols are ignored."""
        for request in WITHOUT_CREDENTIAL:
            assert authenticate(made, request) is None, request.headers.items()

    def test_authenticate_credential_is_not_shown(
        self, made: AuthStrategy, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """No verdict, ``repr``, log line or console output contains it."""
        verdicts = authenticate_all(made, [*self.accepted, *self.rejected])
        printed = capsys.readouterr()
        assert not self._leaks(*verdicts, repr(made), str(made), caplog.text, *printed)

    # --- malicious input ---

    def test_authenticate_garbage_is_not_identified(self, made: AuthStrategy) -> None:
        """Megabytes, NUL, invalid text, other schemes and several headers get a verdict in time."""
        assert_not_identified(made, garbage_requests())

    def test_authenticate_altered_credential_is_refused(self, made: AuthStrategy) -> None:
        """A shorter, longer, replaced or repeated credential is refused; the valid one is still accepted."""
        for request in self.accepted:
            assert_not_identified(made, altered_requests(request))
            assert isinstance(authenticate(made, request), Identified)

    def test_throttled_invalid_credential_is_not_identified(self, made: AuthStrategy) -> None:
        """``authenticate_throttled`` is a plain function and identifies valid credentials only."""
        authenticate = getattr(made, "authenticate_throttled", None)
        if authenticate is None:
            pytest.skip("the strategy has no authenticate_throttled")
        assert not inspect.iscoroutinefunction(authenticate)
        for request in self.accepted:
            verdict = authenticate(request)
            assert verdict is None or isinstance(verdict, Identified)
        altered = (case for request in self.accepted for case in altered_requests(request))
        others = (("a request", request) for request in (*self.rejected, *WITHOUT_CREDENTIAL))
        for what, request in (*others, *garbage_requests(), *altered):
            assert authenticate(request) is None, what

    # --- concurrency ---

    def test_authenticate_simultaneous_clients_are_separate(self, made: AuthStrategy) -> None:
        """Valid and invalid requests get their own verdicts in several threads and event loops."""
        requests = [*self.accepted, *self.rejected, make_request()]
        alone = [authenticate(made, request) for request in requests]
        with ThreadPoolExecutor(8) as pool:
            verdicts = list(pool.map(lambda _: authenticate_all(made, requests * 10), range(8)))
        assert verdicts == [alone * 10] * 8

    def test_authenticate_in_second_event_loop_works(self, made: AuthStrategy) -> None:
        """The strategy is made once, and each start of the server runs another event loop."""
        first = [authenticate(made, request) for request in self.accepted]
        assert [authenticate(made, request) for request in self.accepted] == first

    def test_never_blocks_strategy_does_not_block(self, made: AuthStrategy) -> None:
        """It is a plain function that neither sleeps nor opens a file, a connection or a program.

        Imports during the first call are not counted.
        """
        if getattr(made, "never_blocks", False) is not True:
            pytest.skip("the strategy does not set never_blocks")
        assert not inspect.iscoroutinefunction(made.authenticate)
        for request in (*self.accepted, *self.rejected, *WITHOUT_CREDENTIAL):
            authenticate(made, request)
            with noted_blocking_calls() as calls:
                verdict = made.authenticate(request)
            assert not calls
            assert not inspect.isawaitable(verdict)

    def test_watch_keeps_valid_clients(self, made: AuthStrategy) -> None:
        """``watch`` is a coroutine function that closes no client whose credential is valid and ends when cancelled."""
        watch = getattr(made, "watch", None)
        if watch is None:
            pytest.skip("the strategy has no watch")
        assert inspect.iscoroutinefunction(watch)
        verdicts = authenticate_all(made, self.accepted)
        clients = _Clients([verdict.claims for verdict in verdicts if isinstance(verdict, Identified)])

        async def run() -> None:
            task = asyncio.ensure_future(watch(clients))
            done, _ = await asyncio.wait({task}, timeout=_WATCHED)
            task.cancel()
            _, pending = await asyncio.wait({task}, timeout=MAX_WAIT)
            assert not pending, "watch does not end when it is cancelled"
            if done and not task.cancelled():
                task.result()

        asyncio.run(run())
        assert clients.closed == []

    # --- end to end ---

    def test_server_accepts_valid_credentials_only(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A real server with this strategy closes all others with 1008 and shows no credential."""
        known: list[Any] = []
        with serving(self.offered("strategy"), self.settings, tmp_path) as served:
            served.z.log.addHandler(caplog.handler)
            websocket = served.z.comm.websocket
            for request in self.accepted:
                with connecting(served.port, request) as result:
                    assert result.code is None, result
                    assert result.subprotocol is None or result.subprotocol in request.subprotocols
                    (client,) = [each for each in websocket.clients if each.remote_address == result.address]
                    known.append(websocket.auth.get_client_info(client))
                    assert known[-1]["identity"]
            for request in (*self.rejected, *WITHOUT_CREDENTIAL):
                with connecting(served.port, request) as result:
                    assert result.code == 1008, result
        assert not self._leaks(caplog.text, *capsys.readouterr(), *known)


class _Clients:
    """Connected clients with these claims; none of them may be closed."""

    def __init__(self, claims: list[Mapping[str, Any]]) -> None:
        self._claims = claims
        self.closed: list[Mapping[str, Any]] = []

    def claims(self) -> list[Mapping[str, Any]]:
        return list(self._claims)

    def close(self, chosen: Callable[[Mapping[str, Any]], bool], reason: str) -> int:
        found = [claims for claims in self._claims if chosen(claims)]
        self.closed += found
        return len(found)


# Calling a strategy ----------------------------------------------------------------------------------------------


def authenticate(strategy: AuthStrategy, request: Request) -> Verdict:
    """Return the verdict of a strategy of any kind, in an event loop of its own; see :func:`authenticate_all`."""
    return authenticate_all(strategy, [request])[0]


def authenticate_all(strategy: AuthStrategy, requests: Sequence[Request]) -> list[Verdict]:
    """Return the verdicts of a strategy on simultaneous requests.

    Raises:
        AssertionError: The strategy takes longer than MAX_WAIT seconds.
        BaseException: The strategy raised it.
    """
    # A daemon thread, so that a strategy that hangs does not keep the tests from ending.
    verdicts: list[Verdict] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            verdicts.extend(asyncio.run(_authenticate_all(strategy, requests)))
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(MAX_WAIT)
    if errors:
        raise errors[0]
    if thread.is_alive():
        raise AssertionError(f"{strategy!r} has no verdict after {MAX_WAIT:g} s")
    return verdicts


async def _authenticate_all(strategy: AuthStrategy, requests: Iterable[Request]) -> list[Verdict]:
    async def call(request: Request) -> Verdict:
        verdict = strategy.authenticate(request)
        return await verdict if inspect.isawaitable(verdict) else verdict

    return await asyncio.gather(*(call(request) for request in requests))


# Checking verdicts ------------------------------------------------------------------------------------------------


def assert_not_identified(strategy: AuthStrategy, requests: Iterable[tuple[str, Request]]) -> None:
    """Assert that no request is identified; each one is given with its description."""
    for what, request in requests:
        try:
            verdict = authenticate(strategy, request)
        except Exception as error:
            raise AssertionError(f"given {what}, it raised {type(error).__name__}") from error
        assert verdict is None or isinstance(verdict, Rejected), f"given {what}, it returned {verdict!r}"
        if verdict is not None:
            assert_cause(verdict, what)


def assert_cause(verdict: Rejected, what: str = "a wrong credential") -> None:
    """Assert that the cause of a rejection is one printable log line."""
    cause = verdict.cause
    assert isinstance(cause, str), f"given {what}, the cause is {cause!r}"
    assert cause.strip(), f"given {what}, the cause is empty"
    assert cause.isprintable(), f"given {what}, the cause would forge a line of the log: {cause!r}"
    assert len(cause) <= MAX_CAUSE, f"given {what}, the cause has {len(cause)} characters"

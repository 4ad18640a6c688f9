"""The contract of an auth strategy, as tests: derive a class, say what good and wrong clients send, and run pytest.

::

    from zcli_api_key import zcli_auth_strategies
    from zcli_core.testing import AuthStrategyContract, make_request

    class TestApiKey(AuthStrategyContract):
        strategy = zcli_auth_strategies()[0]
        settings = {"api_key": {"keys": {"alice": "a-key-of-hers"}}}
        accepted = [make_request(headers={"X-API-Key": "a-key-of-hers"})]
        rejected = [make_request(headers={"X-API-Key": "a-key-of-nobody"})]

Where these depend on something that has to be made first (a file, a server), an autouse fixture sets them on ``self``.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import pytest

from zcli_core.auth.contract import AuthStrategy, Identified, Rejected, Verdict
from zcli_core.plugins.contract import Context
from zcli_core.testing.auth_server import knocking, serving
from zcli_core.testing.blocking_calls import noted_blocking_calls
from zcli_core.testing.contract import Contract, Offered
from zcli_core.testing.upgrade_requests import make_request, rubbish_requests, spoilt_requests, words_shown
from zcli_core.websocket.contract import Request

__all__ = ["AuthStrategyContract", "make_request"]

#: Seconds that an answer may take; a server's own patience (``websocket.open_timeout``) is not longer.
PATIENCE = 10.0
#: A cause is a line of a log.
LONGEST_CAUSE = 1000
#: What a client may show that is no business of an auth strategy.
NOTHING_SHOWN = (
    make_request(),
    make_request(query="page=2&sort=name", headers={"User-Agent": "Mozilla/5.0", "Accept-Language": "en"}),
    make_request(subprotocols=["chat", "superchat"]),
)


class AuthStrategyContract(Contract):
    """What holds for every auth strategy: it tells people apart, keeps secrets, and survives whatever it is shown."""

    #: The offer: the Provider of the plugin, or what makes the strategy from a context.
    strategy: ClassVar[Offered[AuthStrategy]]
    #: Requests that identify their client, and that hold nothing but the credential.
    accepted: Sequence[Request] = ()
    #: Requests with a credential of this kind that will not do. Empty for a strategy that only ever declines.
    rejected: Sequence[Request] = ()

    def credentials(self) -> set[str]:
        """What may be shown nowhere.

        Every word of eight characters or more in the requests, unless this is overridden: to leave out a user's
        name, say, or to add what the word is an encoding of.
        """
        return {word for request in (*self.accepted, *self.rejected) for word in words_shown(request)}

    @pytest.fixture
    def asked(self, context: Context) -> AuthStrategy:
        """The strategy, made as ``start()`` makes it."""
        made: AuthStrategy = self.make("strategy", context)
        return made

    @pytest.fixture(autouse=True)
    def _everything_is_logged(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, logger="asyncio")  # which tells of every loop that is made
        caplog.set_level(logging.DEBUG)

    def _leaks(self, *texts: object) -> list[str]:
        """Which credentials are in there; as what they begin with, for this is shown as well."""
        shown = "\n".join(str(text) for text in texts)
        return sorted(f"{secret[:4]}..." for secret in self.credentials() if secret in shown)

    # --- its verdicts ---

    def test_who_shows_a_good_credential_is_identified(self, asked: AuthStrategy) -> None:
        """By a name that is not empty, with claims by name, and a subprotocol that was offered, if any."""
        assert self.accepted, "accepted has to hold one request at least"
        for request in self.accepted:
            verdict = ask(asked, request)
            assert isinstance(verdict, Identified), verdict
            assert isinstance(verdict.identity, str)
            assert verdict.identity
            assert isinstance(verdict.claims, Mapping)
            assert all(isinstance(name, str) for name in verdict.claims)
            assert verdict.subprotocol is None or verdict.subprotocol in request.subprotocols
            assert verdict.expires_at is None or verdict.expires_at > time.time()

    def test_who_shows_a_wrong_credential_is_rejected_with_a_cause(self, asked: AuthStrategy) -> None:
        """In one line that a log can have."""
        if not self.rejected:
            pytest.skip("rejected is empty: this strategy only ever declines")
        for request in self.rejected:
            verdict = ask(asked, request)
            assert isinstance(verdict, Rejected), verdict
            assert_cause(verdict)

    def test_who_shows_nothing_is_left_to_the_next_strategy(self, asked: AuthStrategy) -> None:
        """So that several can be asked in turn; other people's cookies, queries and subprotocols are nothing."""
        for request in NOTHING_SHOWN:
            assert ask(asked, request) is None, request.headers.items()

    def test_the_credential_is_shown_nowhere(
        self, asked: AuthStrategy, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """Not in a verdict, a ``repr``, the log, or on the console."""
        verdicts = ask_all(asked, [*self.accepted, *self.rejected])
        printed = capsys.readouterr()
        assert not self._leaks(*verdicts, repr(asked), str(asked), caplog.text, *printed)

    # --- what it is shown by those who mean harm ---

    def test_rubbish_identifies_nobody(self, asked: AuthStrategy) -> None:
        """Megabytes, NUL, bytes that are no text, other schemes, several headers: it answers, and soon."""
        assert_turned_away(asked, rubbish_requests())

    def test_a_spoilt_credential_identifies_nobody(self, asked: AuthStrategy) -> None:
        """A character short or long, rubbish in its place, a second one beside it; a good one is still good then."""
        for request in self.accepted:
            assert_turned_away(asked, spoilt_requests(request))
            assert isinstance(ask(asked, request), Identified)

    def test_a_throttled_address_is_admitted_by_good_credentials_only(self, asked: AuthStrategy) -> None:
        """Where the strategy judges there at all: without waiting, and admitting nobody whom it would not admit."""
        authenticate = getattr(asked, "authenticate_throttled", None)
        if authenticate is None:
            pytest.skip("it does not judge at a throttled address")
        assert not inspect.iscoroutinefunction(authenticate)
        for request in self.accepted:
            verdict = authenticate(request)
            assert verdict is None or isinstance(verdict, Identified)
        spoilt = (case for request in self.accepted for case in spoilt_requests(request))
        others = (("a request", request) for request in (*self.rejected, *NOTHING_SHOWN))
        for what, request in (*others, *rubbish_requests(), *spoilt):
            assert authenticate(request) is None, what

    # --- how it is asked ---

    def test_clients_that_ask_at_once_are_kept_apart(self, asked: AuthStrategy) -> None:
        """Good and wrong ones in turn, from several threads, and at once in each of their event loops."""
        requests = [*self.accepted, *self.rejected, make_request()]
        alone = [ask(asked, request) for request in requests]
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: ask_all(asked, requests * 10), range(8)))
        assert answers == [alone * 10] * 8

    def test_it_can_be_asked_again_after_the_server_was_restarted(self, asked: AuthStrategy) -> None:
        """It is made once, and each start of the server runs another event loop."""
        first = [ask(asked, request) for request in self.accepted]
        assert [ask(asked, request) for request in self.accepted] == first

    def test_what_never_blocks_does_not_block(self, asked: AuthStrategy) -> None:
        """It is a plain function, and while it is asked it neither sleeps nor opens a file, a connection or a program.

        Imports that it puts off until it is first asked are not counted.
        """
        if getattr(asked, "never_blocks", False) is not True:
            pytest.skip("it does not say that it never blocks")
        assert not inspect.iscoroutinefunction(asked.authenticate)
        for request in (*self.accepted, *self.rejected, *NOTHING_SHOWN):
            ask(asked, request)
            with noted_blocking_calls() as calls:
                answer = asked.authenticate(request)
            assert not calls
            assert not inspect.isawaitable(answer)

    # --- end to end ---

    def test_a_server_lets_the_right_ones_in(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """A real one, with this strategy at its door: the others get 1008, and no credential is logged or shown."""
        known: list[Any] = []
        with serving(self.offered("strategy"), self.settings, tmp_path) as served:
            served.z.log.addHandler(caplog.handler)
            websocket = served.z.comm.websocket
            for request in self.accepted:
                with knocking(served.port, request) as reception:
                    assert reception.code is None, reception
                    assert reception.subprotocol is None or reception.subprotocol in request.subprotocols
                    (client,) = [each for each in websocket.clients if each.remote_address == reception.address]
                    known.append(websocket.auth.get_client_info(client))
                    assert known[-1]["identity"]
            for request in (*self.rejected, *NOTHING_SHOWN):
                with knocking(served.port, request) as reception:
                    assert reception.code == 1008, reception
        assert not self._leaks(caplog.text, *capsys.readouterr(), *known)


# Asking -----------------------------------------------------------------------------------------------------------


def ask(strategy: AuthStrategy, request: Request) -> Verdict:
    """What a strategy of any kind answers, in an event loop of its own; see :func:`ask_all`."""
    return ask_all(strategy, [request])[0]


def ask_all(strategy: AuthStrategy, requests: Sequence[Request]) -> list[Verdict]:
    """What a strategy answers to requests that come at once. AssertionError if that takes longer than a client waits.

    What it raises is raised here.
    """
    # In a thread that nobody waits for when the program ends: a strategy that hangs must not hang the tests.
    answers: list[Verdict] = []
    errors: list[BaseException] = []

    def answer() -> None:
        try:
            answers.extend(asyncio.run(_ask_at_once(strategy, requests)))
        except BaseException as error:  # noqa: BLE001 - raised again below
            errors.append(error)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if errors:
        raise errors[0]
    if thread.is_alive():
        raise AssertionError(f"{strategy!r} has not answered within {PATIENCE:g} s")
    return answers


async def _ask_at_once(strategy: AuthStrategy, requests: Iterable[Request]) -> list[Verdict]:
    async def ask_one(request: Request) -> Verdict:
        answer = strategy.authenticate(request)
        return await answer if inspect.isawaitable(answer) else answer

    return await asyncio.gather(*(ask_one(request) for request in requests))


# What is demanded of answers ----------------------------------------------------------------------------------------


def assert_turned_away(strategy: AuthStrategy, requests: Iterable[tuple[str, Request]]) -> None:
    """Each request, given with what it is, is declined or rejected with a proper cause."""
    for what, request in requests:
        try:
            verdict = ask(strategy, request)
        except Exception as error:
            raise AssertionError(f"shown {what}, it raised {type(error).__name__}") from error
        assert verdict is None or isinstance(verdict, Rejected), f"shown {what}, it answered {verdict!r}"
        if verdict is not None:
            assert_cause(verdict, what)


def assert_cause(verdict: Rejected, what: str = "a wrong credential") -> None:
    """The cause of a rejection is one line for a log: some words, without anything that a terminal would obey."""
    cause = verdict.cause
    assert isinstance(cause, str), f"shown {what}, the cause is {cause!r}"
    assert cause.strip(), f"shown {what}, the cause is empty"
    assert cause.isprintable(), f"shown {what}, the cause would forge a line of the log: {cause!r}"
    assert len(cause) <= LONGEST_CAUSE, f"shown {what}, the cause has {len(cause)} characters"

"""Auth strategies with one fault each and the suite for each; run by test_auth_contract.py."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any
from urllib.parse import parse_qs

from zcli_core.auth.contract import Identified, Rejected
from zcli_core.testing import auth
from zcli_core.testing.auth import AuthStrategyContract, make_request

auth.MAX_WAIT = 5.0  # for the strategy that hangs
GOOD = "the-good-credential"


class Right:
    """A correct strategy, from which the others are derived."""

    never_blocks = True

    def authenticate(self, request: Any) -> Any:
        shown = request.headers.get_all("authorization")
        if not shown:
            return None
        return self.check(shown)

    def check(self, shown: list[str]) -> Any:
        return Identified("alice") if shown == [f"Bearer {GOOD}"] else Rejected("wrong credential")


class Contract(AuthStrategyContract):
    """The requests for all of them."""

    __test__ = False
    accepted = (make_request(headers={"Authorization": f"Bearer {GOOD}"}),)
    rejected = (make_request(headers={"Authorization": "Bearer the-wrong-credential"}),)


def contract(strategy: type, **attributes: Any) -> Any:
    """Return the suite for a strategy."""
    return type(
        strategy.__name__, (Contract,), {"__test__": True, "strategy": lambda context: strategy(), **attributes}
    )


class AdmitsEveryClient(Right):
    def authenticate(self, request: Any) -> Any:
        return Identified("alice")


class AdmitsTheEmpty(Right):
    def check(self, shown: list[str]) -> Any:
        return Identified("alice") if GOOD.startswith(shown[0].partition(" ")[2]) else Rejected("wrong credential")


class AdmitsPrefixes(Right):
    def check(self, shown: list[str]) -> Any:
        return Identified("alice") if shown[0].startswith(f"Bearer {GOOD}") else Rejected("wrong credential")


class TakesTheFirstHeader(Right):
    def check(self, shown: list[str]) -> Any:
        return super().check(shown[:1])


class TakesTheLastParameter(Right):
    def authenticate(self, request: Any) -> Any:
        shown = parse_qs(request.query, errors="replace").get("key")
        return shown and super().check([f"Bearer {shown[-1]}"])


class RaisesForWhatIsNotAscii(Right):
    def check(self, shown: list[str]) -> Any:
        shown[0].encode("ascii")
        return super().check(shown)


class QuotesTheCredential(Right):
    def check(self, shown: list[str]) -> Any:
        verdict = super().check(shown)
        return Rejected(f"wrong credential {shown}") if isinstance(verdict, Rejected) else verdict


class LogsTheCredential(Right):
    def check(self, shown: list[str]) -> Any:
        logging.getLogger("some.library").debug("asked about %s", shown)
        return super().check(shown)


class PrintsTheCredential(Right):
    def check(self, shown: list[str]) -> Any:
        print(shown)
        return super().check(shown)


class NamesTheClientByItsCredential(Right):
    def check(self, shown: list[str]) -> Any:
        verdict = super().check(shown)
        return Identified(shown[0]) if isinstance(verdict, Identified) else verdict


class ClaimsTheCredential(Right):
    def check(self, shown: list[str]) -> Any:
        verdict = super().check(shown)
        return Identified("alice", {"raw": shown[0]}) if isinstance(verdict, Identified) else verdict


class ForgesTheLog(Right):
    def check(self, shown: list[str]) -> Any:
        verdict = super().check(shown)
        return Rejected(f"wrong {shown[0].partition(' ')[2][:3]}") if isinstance(verdict, Rejected) else verdict


class FillsTheLog(Right):
    def check(self, shown: list[str]) -> Any:
        verdict = super().check(shown)
        return Rejected("wrong " + "x" * len(shown[0])) if isinstance(verdict, Rejected) else verdict


class HasNoCause(Right):
    def check(self, shown: list[str]) -> Any:
        verdict = super().check(shown)
        return Rejected("") if isinstance(verdict, Rejected) else verdict


class DeclinesTheWrong(Right):
    def check(self, shown: list[str]) -> Any:
        verdict = super().check(shown)
        return verdict if isinstance(verdict, Identified) else None


class RejectsWhoShowsNothing(Right):
    def authenticate(self, request: Any) -> Any:
        return super().authenticate(request) or Rejected("nothing shown")


class AnswersWithABool(Right):
    def check(self, shown: list[str]) -> Any:
        return isinstance(super().check(shown), Identified)


class InventsASubprotocol(Right):
    def check(self, shown: list[str]) -> Any:
        verdict = super().check(shown)
        return Identified("alice", subprotocol="mine") if isinstance(verdict, Identified) else verdict


class MixesClientsUp(Right):
    never_blocks = False

    def __init__(self) -> None:
        self.shown: list[str] = []

    def check(self, shown: list[str]) -> Any:
        self.shown = shown
        time.sleep(0.001)
        return super().check(self.shown)


class MixesTasksUp(Right):
    def __init__(self) -> None:
        self.shown: list[str] = []

    async def authenticate(self, request: Any) -> Any:
        self.shown = request.headers.get_all("authorization")
        await asyncio.sleep(0.001)
        return super().check(self.shown) if self.shown else None


class BelongsToItsFirstLoop(Right):
    future: Any = None

    async def authenticate(self, request: Any) -> Any:
        if self.future is None:
            self.future = asyncio.get_running_loop().create_future()
            asyncio.get_running_loop().call_soon(self.future.set_result, None)
        if not self.future.done():
            await self.future
        if self.future.get_loop() is not asyncio.get_running_loop():
            raise RuntimeError("attached to a different loop")
        return super().authenticate(request)


class BlocksAllTheSame(Right):
    def check(self, shown: list[str]) -> Any:
        with open(__file__, "rb"):
            return super().check(shown)


class SaysThatACoroutineNeverBlocks(Right):
    async def authenticate(self, request: Any) -> Any:
        return super().authenticate(request)


class Hangs(Right):
    never_blocks = False

    def check(self, shown: list[str]) -> Any:
        if len(shown[0]) > 10_000:
            threading.Event().wait(60)
        return super().check(shown)


class ClosesValidClients(Right):
    async def watch(self, clients: Any) -> None:
        clients.close(lambda claims: True, "revoked")


class IsRight(Right):
    """The correct strategy passes, so the others fail because of their faults."""


TestAdmitsEveryClient = contract(AdmitsEveryClient)
TestAdmitsTheEmpty = contract(AdmitsTheEmpty)
TestAdmitsPrefixes = contract(AdmitsPrefixes)
TestTakesTheFirstHeader = contract(TakesTheFirstHeader)
TestTakesTheLastParameter = contract(
    TakesTheLastParameter,
    accepted=[make_request(query=f"key={GOOD}")],
    rejected=[make_request(query="key=the-wrong-credential")],
)
TestRaisesForWhatIsNotAscii = contract(RaisesForWhatIsNotAscii)
TestQuotesTheCredential = contract(QuotesTheCredential)
TestLogsTheCredential = contract(LogsTheCredential)
TestPrintsTheCredential = contract(PrintsTheCredential)
TestNamesTheClientByItsCredential = contract(NamesTheClientByItsCredential)
TestClaimsTheCredential = contract(ClaimsTheCredential)
TestForgesTheLog = contract(ForgesTheLog)
TestFillsTheLog = contract(FillsTheLog)
TestHasNoCause = contract(HasNoCause)
TestDeclinesTheWrong = contract(DeclinesTheWrong)
TestRejectsWhoShowsNothing = contract(RejectsWhoShowsNothing)
TestAnswersWithABool = contract(AnswersWithABool)
TestInventsASubprotocol = contract(InventsASubprotocol)
TestMixesClientsUp = contract(MixesClientsUp)
TestMixesTasksUp = contract(MixesTasksUp)
TestBelongsToItsFirstLoop = contract(BelongsToItsFirstLoop)
TestBlocksAllTheSame = contract(BlocksAllTheSame)
TestSaysThatACoroutineNeverBlocks = contract(SaysThatACoroutineNeverBlocks)
TestHangs = contract(Hangs)
TestClosesValidClients = contract(ClosesValidClients)
TestIsRight = contract(IsRight)

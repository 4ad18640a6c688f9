"""Subsystems with one fault each and the suite for each; run by test_subsystem_contract.py."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import Any

from zcli_core.plugins.contract import Provider
from zcli_core.subsystems.contract import SubsystemContext
from zcli_core.testing import SubsystemContract, subsystem

subsystem.PATIENCE = 0.5  # for threads that never end


class Right:
    """A correct subsystem, from which the others are derived."""

    def __init__(self, context: SubsystemContext) -> None:
        self.context = context

    def close(self) -> None:
        pass


def suite(factory: Any, name: str = "broken", **options: Any) -> Any:
    """Return the suite for a subsystem."""
    settings = {"websocket": {"token": "the-secret-of-the-test"}}
    provider = Provider(name, "of a test", factory, **options)
    return type("Suite", (SubsystemContract,), {"subsystem": provider, "settings": settings})


class KeepsAThread(Right):
    def __init__(self, context: SubsystemContext) -> None:
        super().__init__(context)
        threading.Thread(target=threading.Event().wait, daemon=True).start()


class FailsToClose(Right):
    def close(self) -> None:
        raise RuntimeError("not today")


class CloseIsACoroutine(Right):
    async def close(self) -> None:  # type: ignore[override]
        pass


class WantsTheMainThread(Right):
    def __init__(self, context: SubsystemContext) -> None:
        super().__init__(context)
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)


class RunsAnEventLoop(Right):
    def __init__(self, context: SubsystemContext) -> None:
        super().__init__(context)
        work = asyncio.sleep(0)
        try:
            asyncio.run(work)
        finally:
            work.close()


class ShowsASecret(Right):
    def __repr__(self) -> str:
        return f"<ShowsASecret {self.context.config.websocket.token}>"


_shared: list[Right] = []


def shared(context: SubsystemContext) -> Right:
    """The same object for every application."""
    if not _shared:
        _shared.append(Right(context))
    return _shared[0]


TestIsRight = suite(Right)
TestKeepsAThread = suite(KeepsAThread)
TestFailsToClose = suite(FailsToClose)
TestCloseIsACoroutine = suite(CloseIsACoroutine)
TestCannotBeClosed = suite(lambda context: object())
TestWantsTheMainThread = suite(WantsTheMainThread)
TestRunsAnEventLoop = suite(RunsAnEventLoop)
TestShowsASecret = suite(ShowsASecret)
TestIsShared = suite(shared)
TestHasATakenName = suite(Right, "config")
TestSaysNotHowToInstall = suite(Right, needs=("no_such_module",))

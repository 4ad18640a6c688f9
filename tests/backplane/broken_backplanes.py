"""Backplanes with one fault each and the suite for each; run by test_contract_bites.py.

They are the backplanes ``local`` and ``redis``, each with one fault.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Collection
from typing import Any

from engine_processes import Redis
from zcli_local.backplane import LocalBackplane, LocalConnection
from zcli_redis_backplane import zcli_backplanes

from zcli_core.backplane.contract import Member, Sink
from zcli_core.errors import BackplaneFailure
from zcli_core.testing import BackplaneContract
from zcli_core.testing.backplane import peers

peers.LONGEST = 2.0  # for what never arrives

(REDIS,) = zcli_backplanes()


def local(connection: type[LocalConnection]) -> Any:
    """Return the suite for a backplane with these connections."""

    class Broken(LocalBackplane):
        async def connect(self, process: str, sink: Sink) -> LocalConnection:
            made = connection(self, sink)
            self.connections.append(made)
            return made

    return type(connection.__name__, (BackplaneContract,), {"backplane": staticmethod(lambda context: Broken())})


def redis(change: Any) -> Any:
    """Return the suite for the backplane redis, each of whose connections was changed."""

    def make(context: Any) -> Any:
        backplane = REDIS.factory(context)
        connect = backplane.connect

        async def changed(process: str, sink: Sink) -> Any:
            connection = await connect(process, change.Sink(sink) if hasattr(change, "Sink") else sink)
            change.connection(connection)
            return connection

        backplane.connect = changed
        return backplane

    return type(change.__name__, (BackplaneContract,), {"backplane": staticmethod(make), "engine": Redis})


# --- messages ---


class ConfirmsTooEarly(LocalConnection):
    async def subscribe(self, channels: Collection[str]) -> None:
        asyncio.get_running_loop().call_later(0.05, self._channels.update, set(channels))


class MatchesPatterns(LocalConnection):
    async def publish(self, channel: str, data: bytes) -> int:
        for each in self._backplane.connections:
            for own in each._channels:
                if own == channel or (own == "r:*" and channel.startswith("r:")):
                    each._sink.message(own, data)
        return len(self._backplane.connections)


class KeepsSubscriptions(LocalConnection):
    async def unsubscribe(self, channels: Collection[str]) -> None:
        pass


class StripsMessages(LocalConnection):
    async def publish(self, channel: str, data: bytes) -> int:
        return await super().publish(channel, data.strip())


class HidesItsOwn(LocalConnection):
    async def publish(self, channel: str, data: bytes) -> int:
        own, self._channels = self._channels, set()
        try:
            return await super().publish(channel, data)
        finally:
            self._channels = own


class CountsWrong(LocalConnection):
    async def publish(self, channel: str, data: bytes) -> int:
        return await super().publish(channel, data) + 1


class SwapsMessages(LocalConnection):
    _held: tuple[str, bytes] | None = None

    async def publish(self, channel: str, data: bytes) -> int:
        if data == b"5000":
            self._held = channel, data
            return 1
        count = await super().publish(channel, data)
        if self._held:
            await super().publish(*self._held)
            self._held = None
        return count


class SendsTwice(LocalConnection):
    async def publish(self, channel: str, data: bytes) -> int:
        if data == b"77":
            await super().publish(channel, data)
        return await super().publish(channel, data)


class WorksWhenClosed(LocalConnection):
    def _check_open(self) -> None:
        pass


class ReportsItsOwnEnd(LocalConnection):
    async def close(self) -> None:
        if not self._closed:
            self._sink.lost(BackplaneFailure("down", "closed"))
        await super().close()


class LeavesATask(LocalConnection):
    async def close(self) -> None:
        await super().close()
        self._task = asyncio.create_task(asyncio.sleep(3600))


class LeavesAThread(LocalConnection):
    async def close(self) -> None:
        await super().close()
        threading.Thread(target=threading.Event().wait, args=(5,), name="left", daemon=True).start()


# --- faults of an engine ---


class ReportsTwice:
    class Sink:
        def __init__(self, sink: Sink) -> None:
            self._sink = sink
            self.message = sink.message

        def lost(self, failure: BackplaneFailure) -> None:
            self._sink.lost(failure)
            self._sink.lost(failure)

    @staticmethod
    def connection(connection: Any) -> None:
        pass


class IsNeverLost:
    class Sink:
        def __init__(self, sink: Sink) -> None:
            self.message = sink.message

        def lost(self, failure: BackplaneFailure) -> None:
            pass

    @staticmethod
    def connection(connection: Any) -> None:
        pass


class PublishesAgain:
    @staticmethod
    def connection(connection: Any) -> None:
        publish = connection.publish

        async def again(channel: str, data: bytes) -> Any:
            first = asyncio.ensure_future(publish(channel, data))
            await asyncio.wait({first}, timeout=0.1)
            return await (first if first.done() else publish(channel, data))

        connection.publish = again


class WaitsForTheEngine:
    @staticmethod
    def connection(connection: Any) -> None:
        close, publish = connection.close, connection.publish

        async def polite() -> None:
            with contextlib.suppress(BackplaneFailure):
                await publish("bye", b"")
            await close()

        connection.close = polite


class RaisesAnotherError:
    @staticmethod
    def connection(connection: Any) -> None:
        publish = connection.publish

        async def other(channel: str, data: bytes) -> Any:
            try:
                return await publish(channel, data)
            except BackplaneFailure as failure:
                raise ConnectionResetError(str(failure)) from None

        connection.publish = other


class EntersTwice:
    @staticmethod
    def connection(connection: Any) -> None:
        enter, seen = connection.enter, set()

        async def twice(members: Collection[tuple[str, Member]]) -> None:
            await enter([(room, m._replace(connection=f"{m.connection}{room in seen}")) for room, m in members])
            seen.update(room for room, _ in members)

        connection.enter = twice


class IsAlwaysAlive:
    @staticmethod
    def connection(connection: Any) -> None:
        beat = connection.beat
        connection.beat = lambda seconds: beat(3600)


class IgnoresTheLimit:
    @staticmethod
    def connection(connection: Any) -> None:
        present = connection.present
        connection.present = lambda room, limit: present(room, 10_000)


TestConfirmsTooEarly = local(ConfirmsTooEarly)
TestMatchesPatterns = local(MatchesPatterns)
TestKeepsSubscriptions = local(KeepsSubscriptions)
TestStripsMessages = local(StripsMessages)
TestHidesItsOwn = local(HidesItsOwn)
TestCountsWrong = local(CountsWrong)
TestSwapsMessages = local(SwapsMessages)
TestSendsTwice = local(SendsTwice)
TestWorksWhenClosed = local(WorksWhenClosed)
TestReportsItsOwnEnd = local(ReportsItsOwnEnd)
TestLeavesATask = local(LeavesATask)
TestLeavesAThread = local(LeavesAThread)
TestReportsTwice = redis(ReportsTwice)
TestIsNeverLost = redis(IsNeverLost)
TestPublishesAgain = redis(PublishesAgain)
TestWaitsForTheEngine = redis(WaitsForTheEngine)
TestRaisesAnotherError = redis(RaisesAnotherError)
TestEntersTwice = redis(EntersTwice)
TestIsAlwaysAlive = redis(IsAlwaysAlive)
TestIgnoresTheLimit = redis(IgnoresTheLimit)

"""The dispatcher: all of asyncio works in a handler, whether it is started in place or by its task."""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from zcli_core.errors import ConnectionClosed
from zcli_core.websocket import dispatcher as dispatcher_module
from zcli_core.websocket.contract import Closed, ClosedBy, Message
from zcli_core.websocket.counters import Counters
from zcli_core.websocket.dispatcher import MAX_WAITING, MessageDispatcher

VARIABLE = contextvars.ContextVar("VARIABLE", default=0)
GONE = Closed(1000, "", ClosedBy.CLIENT)


@pytest.fixture(params=["in place", "by its task"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of starting a handler; Python 3.10 has only one."""
    if request.param == "by its task":
        monkeypatch.setattr(dispatcher_module, "_IN_PLACE", False)
    elif sys.version_info < (3, 11):
        pytest.skip("Python 3.10 always starts handlers by the task")
    return str(request.param)


class Side:
    """The transport and the session of a dispatcher."""

    def __init__(self, handler: Callable[[Side, Message], Awaitable[None]]) -> None:
        self.handler = handler
        self.log: list[Any] = []
        self.resumed = 0
        self.errors: list[BaseException] = []
        self.close_codes: list[int] = []
        self.was_closed: list[Closed] = []
        self.dispatcher = MessageDispatcher(self, self, asyncio.get_running_loop(), Counters())  # type: ignore[arg-type]

    async def run_on_connect(self) -> None:
        self.log.append("opened")

    async def handle(self, message: Message) -> None:
        await self.handler(self, message)

    def handler_failed(self, error: BaseException) -> None:
        self.errors.append(error)

    def closed(self, closed: Closed) -> None:
        self.was_closed.append(closed)

    async def run_on_disconnect(self) -> None:
        self.log.append("left")

    def handler_abandoned(self) -> None:
        self.log.append("abandoned")

    def resume_delivery(self) -> None:
        self.resumed += 1

    def close(self, code: int = 1000, reason: str = "") -> None:
        self.close_codes.append(code)

    def deliver(self, *messages: Message) -> list[bool]:
        """Deliver as a transport does: from a callback of the loop, outside every task."""
        return [self.dispatcher.message(message) for message in messages]

    async def until(self, *expected: Any) -> None:
        """Wait until the log has exactly these entries after the first."""

        async def settle() -> None:
            while self.log[1:] != list(expected):
                await asyncio.sleep(0)

        try:
            await asyncio.wait_for(settle(), 5)
        except asyncio.TimeoutError:
            assert self.log[1:] == list(expected)
            raise


def run(handler: Callable[[Side, Message], Awaitable[None]], scenario: Callable[[Side], Awaitable[None]]) -> Side:
    """Run a scenario with an open connection, then end the connection."""

    async def main() -> Side:
        side = Side(handler)
        await asyncio.sleep(0)
        await scenario(side)
        side.dispatcher.closed(GONE)
        if not side.dispatcher.task.done():
            await asyncio.wait([side.dispatcher.task], timeout=20)
        assert side.dispatcher.task.done()
        assert [closed[:4] for closed in side.was_closed] == [GONE[:4]]
        return side

    return asyncio.run(main())


def soon(side: Side, *messages: Message) -> None:
    asyncio.get_running_loop().call_soon(side.deliver, *messages)


def test_dispatch_waiting_or_not_keeps_order() -> None:
    async def handler(side: Side, message: Message) -> None:
        if int(message) % 3 == 0:
            await asyncio.sleep(0.001 if int(message) % 2 else 0)
        side.log.append(int(message))

    async def scenario(side: Side) -> None:
        soon(side, *map(str, range(12)))
        await side.until(*range(12))

    run(handler, scenario)


def test_dispatch_current_task_is_the_connections() -> None:
    async def handler(side: Side, message: Message) -> None:
        before = asyncio.current_task()
        await asyncio.sleep(0)
        side.log.append(before is side.dispatcher.task is asyncio.current_task())

    async def scenario(side: Side) -> None:
        soon(side, "a")
        await side.until(True)

    run(handler, scenario)


def test_dispatch_context_lasts_for_the_connection() -> None:
    async def handler(side: Side, message: Message) -> None:
        token = VARIABLE.set(VARIABLE.get() + 1)
        if message == "reset":
            await asyncio.sleep(0)
            VARIABLE.reset(token)
        side.log.append(VARIABLE.get())

    async def scenario(side: Side) -> None:
        soon(side, "set", "reset", "set")
        await side.until(1, 1, 2)
        assert VARIABLE.get() == 0

    run(handler, scenario)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.timeout came with Python 3.11")
@pytest.mark.parametrize("seconds", [0, 0.001, 0.02])
def test_dispatch_timeout_ends_only_its_wait(seconds: float) -> None:
    async def handler(side: Side, message: Message) -> None:
        try:
            async with asyncio.timeout(seconds):
                await asyncio.sleep(30)
        except TimeoutError:
            side.log.append(message)

    async def scenario(side: Side) -> None:
        soon(side, "a", "b")
        await side.until("a", "b")
        assert side.dispatcher.task.cancelling() == 0

    run(handler, scenario)


def test_dispatch_wait_for_and_task_group_work() -> None:
    async def handler(side: Side, message: Message) -> None:
        side.log.append(await asyncio.wait_for(asyncio.sleep(0.001, "waited"), 5))
        if sys.version_info >= (3, 11):
            async with asyncio.TaskGroup() as group:
                first, second = group.create_task(asyncio.sleep(0, 1)), group.create_task(asyncio.sleep(0.001, 2))
            assert (first.result(), second.result()) == (1, 2)

    async def scenario(side: Side) -> None:
        soon(side, "a", "b")
        await side.until("waited", "waited")

    assert run(handler, scenario).errors == []


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python 3.12 has brought eager tasks")
def test_dispatch_in_eager_task_works() -> None:
    """The loop may be the program's own, with tasks that begin to run before they are returned."""

    async def handler(side: Side, message: Message) -> None:
        side.log.append(message)

    async def main() -> Side:
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]
        side = Side(handler)
        soon(side, "a", "b")
        await side.until("a", "b")
        side.dispatcher.closed(GONE)
        await asyncio.wait([side.dispatcher.task], timeout=20)
        return side

    side = asyncio.run(main())
    assert (side.log[-1], side.errors, side.close_codes) == ("left", [], [])


def test_dispatch_own_cancellation_can_be_caught() -> None:
    async def handler(side: Side, message: Message) -> None:
        task = asyncio.current_task()
        assert task is not None
        child = asyncio.ensure_future(asyncio.sleep(30))
        task.cancel()
        try:
            await child
        except asyncio.CancelledError:
            if sys.version_info >= (3, 11):
                task.uncancel()
            side.log.append(child.cancelled())

    async def scenario(side: Side) -> None:
        soon(side, "a", "b")
        await side.until(True, True)

    run(handler, scenario)


@pytest.mark.parametrize("wait_first", [False, True])
def test_dispatch_error_closes_with_1011(wait_first: bool) -> None:
    async def handler(side: Side, message: Message) -> None:
        if wait_first:
            await asyncio.sleep(0)
        raise LookupError(message)

    async def scenario(side: Side) -> None:
        soon(side, "a", "b")
        while not side.close_codes:
            await asyncio.sleep(0)

    side = run(handler, scenario)
    assert ([str(error) for error in side.errors], side.close_codes) == (["a"], [1011])
    assert side.was_closed[0].dropped == 1


def test_receive_takes_the_next_message() -> None:
    async def handler(side: Side, message: Message) -> None:
        if message == "ask":
            side.log.append(("asked", await side.dispatcher.receive()))
        else:
            side.log.append(message)

    async def scenario(side: Side) -> None:
        soon(side, "a", "ask")
        await side.until("a")
        soon(side, "answer", "b", "ask", "at once")
        await side.until("a", ("asked", "answer"), "b", ("asked", "at once"))

    run(handler, scenario)


def test_receive_at_the_end_raises_closed() -> None:
    async def handler(side: Side, message: Message) -> None:
        try:
            await side.dispatcher.receive()
        except ConnectionClosed as closed:
            side.log.append(closed.code)
            raise

    async def scenario(side: Side) -> None:
        soon(side, "a")
        await asyncio.sleep(0.001)

    side = run(handler, scenario)
    assert (side.log[1:], side.errors) == ([1000, "left"], [])


@pytest.mark.parametrize("end", ["cancelled", "served"])
def test_receive_leaves_other_messages_to_handler(end: str) -> None:
    """They are handled at once, also if another task than the handler's receives."""

    async def handler(side: Side, message: Message) -> None:
        side.log.append(message)

    async def scenario(side: Side) -> None:
        receiving = asyncio.create_task(side.dispatcher.receive())
        await asyncio.sleep(0)
        side.deliver(*(["b"] if end == "cancelled" else ["a", "b"]))
        if end == "cancelled":
            receiving.cancel()
        await side.until("b")
        await asyncio.wait([receiving])
        assert receiving.cancelled() or receiving.result() == "a"

    run(handler, scenario)


def test_receive_twice_at_once_raises() -> None:
    async def handler(side: Side, message: Message) -> None:
        with pytest.raises(RuntimeError, match="recv"):
            await asyncio.gather(side.dispatcher.receive(), side.dispatcher.receive())
        side.log.append("told")

    async def scenario(side: Side) -> None:
        soon(side, "a")
        await side.until("told")

    run(handler, scenario)


def test_full_queue_resumes_at_half() -> None:
    release = []

    async def handler(side: Side, message: Message) -> None:
        if message == "stop":
            release.append(asyncio.get_running_loop().create_future())
            await release[0]
        side.log.append(message)

    async def scenario(side: Side) -> None:
        soon(side, "stop")
        await asyncio.sleep(0.001)
        welcome = side.deliver(*"abcdefghijklmnopqrstuvwxyz"[:MAX_WAITING])
        assert welcome == [True] * (MAX_WAITING - 1) + [False]
        assert side.resumed == 0
        release[0].set_result(None)
        await side.until("stop", *"abcdefghijklmnopqrstuvwxyz"[:MAX_WAITING])
        assert side.resumed == 1

    run(handler, scenario)


def test_large_message_fills_the_queue() -> None:
    async def handler(side: Side, message: Message) -> None:
        await asyncio.sleep(0)

    async def scenario(side: Side) -> None:
        soon(side, "busy")
        await asyncio.sleep(0)
        side.dispatcher.message("x")
        assert side.dispatcher.message(b"x" * dispatcher_module.MAX_WAITING_SIZE) is False

    run(handler, scenario)


def test_end_waits_for_the_handler() -> None:
    async def handler(side: Side, message: Message) -> None:
        await asyncio.sleep(0.001)
        side.log.append(message)

    async def scenario(side: Side) -> None:
        assert side.dispatcher.end() is True
        soon(side, "a")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert side.dispatcher.end() is False
        await side.until("a")
        while not side.resumed:
            await asyncio.sleep(0)

    run(handler, scenario)


def test_dispatch_inside_other_task_uses_own_task() -> None:
    async def handler(side: Side, message: Message) -> None:
        side.log.append(asyncio.current_task() is side.dispatcher.task)

    async def scenario(side: Side) -> None:
        side.deliver("a")
        await side.until(True)

    run(handler, scenario)


def test_end_waits_briefly_for_last_handler() -> None:
    release = []

    async def handler(side: Side, message: Message) -> None:
        release.append(asyncio.get_running_loop().create_future())
        await release[0]

    async def scenario(side: Side) -> None:
        soon(side, "a")
        while not release:
            await asyncio.sleep(0)
        assert side.dispatcher.end() is False
        while not side.resumed:  # while the handler still runs
            await asyncio.sleep(0.01)
        release[0].set_result(None)

    run(handler, scenario)


def test_end_counts_unhandled_messages() -> None:
    async def handler(side: Side, message: Message) -> None:
        await asyncio.sleep(3600)

    async def main() -> None:
        side = Side(handler)
        await asyncio.sleep(0)
        soon(side, *"abcd")
        await asyncio.sleep(0.01)
        side.dispatcher.closed(GONE._replace(dropped=2))
        side.dispatcher.cancel()
        await asyncio.wait([side.dispatcher.task], timeout=20)
        assert [closed.dropped for closed in side.was_closed] == [5]
        assert (side.errors, side.log) == ([], ["opened", "left"])

    asyncio.run(main())


def test_receive_message_at_timeout_is_kept() -> None:
    async def handler(side: Side, message: Message) -> None:
        side.log.append(message)
        try:
            side.log.append(await side.dispatcher.receive(0.01))
        except TimeoutError:
            side.log.append("timeout")

    async def scenario(side: Side) -> None:
        soon(side, "a")
        while len(side.log) < 2:
            await asyncio.sleep(0)
        assert side.dispatcher._receiving is not None
        side.dispatcher._end_receiving(0.01)
        side.dispatcher.message("b")
        await side.until("a", "timeout", "b", "timeout")

    run(handler, scenario)


def test_dispatch_many_failures_yield_to_others() -> None:
    """The handler of each message fails to send, and the transport always has more messages."""
    handled, total = 0, 20 * MAX_WAITING * MAX_WAITING

    class Lost(Side):
        def resume_delivery(self) -> None:
            if handled < total:
                self.deliver(*["more"] * (MAX_WAITING // 2))

    async def handler(side: Side, message: Message) -> None:
        nonlocal handled
        handled += 1
        raise ConnectionClosed(1006, "", side)

    async def main() -> int:
        side = Lost(handler)
        await asyncio.sleep(0)
        soon(side, *["first"] * MAX_WAITING)
        while handled < 2:
            await asyncio.sleep(0)
        found = handled
        side.dispatcher.closed(GONE)
        await side.dispatcher.task
        assert not side.errors
        return found

    assert asyncio.run(main()) < total

"""The link with a plugin that has bugs, its presence, and its end."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from backplanes import FaultyBackplane, Watched, message, until, wait_stubbornly

from zcli_core.backplane.contract import Capability, Member
from zcli_core.errors import BackplaneFailure


def raise_value_error() -> None:
    raise ValueError("redis://user:secret@host")


def exit_program() -> None:
    raise SystemExit(3)


def cancel_itself() -> None:
    raise asyncio.CancelledError


# --- bugs ---


@pytest.mark.parametrize("bug", [raise_value_error, exit_program, cancel_itself])
@pytest.mark.parametrize("name", ["connect", "subscribe", "publish"])
def test_link_plugin_bug_ends_the_connection_only(name: str, bug: Callable[[], None]) -> None:
    """Whatever the plugin raises, the link connects again, and the error does not show the plugin's message."""

    async def check() -> None:
        backplane = FaultyBackplane()
        backplane.faults[name] = bug
        async with Watched(backplane) as watched:
            await until(lambda: watched.link.failure is not None)
            assert watched.link.failure is not None
            assert watched.link.failure.kind == "protocol"
            assert "secret" not in str(watched.link.failure)
            backplane.faults.clear()
            await watched.until("up")
            assert len(backplane.connections) == 1

    asyncio.run(check())


def test_link_publish_bug_is_a_failure() -> None:
    """The caller gets a BackplaneFailure, and the connection is dropped at once."""

    async def check() -> None:
        backplane = FaultyBackplane()
        async with Watched(backplane, probe_interval=60) as watched:
            await watched.until("up")
            backplane.faults["publish"] = lambda: raise_value_error() if backplane.count("connect") == 1 else None
            with pytest.raises(BackplaneFailure, match="has a bug: ValueError at test_link_faults") as raised:
                await watched.link.publish(message(), "all")
            assert (raised.value.kind, raised.value.maybe_delivered) == ("protocol", True)
            with pytest.raises(BackplaneFailure) as raised:
                await watched.link.publish(message(), "all")
            assert raised.value.kind == "down"
            await watched.until("up", "down", "up")

    asyncio.run(check())


def test_link_changed_hook_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The link goes on."""

    async def check() -> None:
        watched = Watched(FaultyBackplane())
        watched.link._changed = lambda state, failure: 1 / 0  # type: ignore[assignment]
        async with watched:
            await until(lambda: watched.link.is_up)
            await watched.link.publish(message(), "all")

    asyncio.run(check())
    assert "has failed" in caplog.text


# --- presence ---


def member(connection: str, **data: str) -> Member:
    return Member("0011223344556677", connection, None, data)


def test_link_members_are_entered_at_once_and_again() -> None:
    """Many joins are one call; after an outage all members are entered again, and those that left are removed."""

    async def check() -> None:
        backplane = FaultyBackplane()
        async with Watched(backplane) as watched:
            await watched.until("up")
            for number in range(500):
                watched.link.enter("news", member(str(number)))
            await until(lambda: len(backplane.members) == 500)
            assert backplane.count("enter") == 1
            backplane.faults["connect"] = raise_value_error
            backplane.kill()
            await watched.until("up", "down")
            watched.link.leave("news", "7")
            watched.link.enter("news", member("8", mood="new"))
            watched.link.enter("news", member("brief"))
            watched.link.leave("news", "brief")
            backplane.members.pop(("news", "9"))
            del backplane.faults["connect"]
            await watched.until("up", "down", "up")
            await until(lambda: len(backplane.members) == 499 and ("news", "9") in backplane.members)
            assert ("news", "7") not in backplane.members
            assert ("news", "brief") not in backplane.members
            assert backplane.members["news", "8"].data == {"mood": "new"}
            assert await watched.link.present("news", 3) == tuple(backplane.members.values())[:3]

    asyncio.run(check())


def test_link_leave_during_enter_removes_the_member() -> None:
    """A client that leaves while it is being entered is not shown for ever."""

    async def check() -> None:
        backplane = FaultyBackplane()
        async with Watched(backplane, timeout=20) as watched:
            await watched.until("up")
            release = asyncio.Event()
            backplane.faults["enter"] = release.wait
            watched.link.enter("news", member("1"))
            await until(lambda: backplane.count("enter") == 1)
            watched.link.leave("news", "1")
            release.set()
            await until(lambda: backplane.count("leave") == 1)
            assert backplane.members == {}

    asyncio.run(check())


def test_link_presence_refused_leaves_messages(caplog: pytest.LogCaptureFixture) -> None:
    """An engine that refuses presence still carries messages; it is logged once."""

    async def check() -> None:
        async def refuse() -> None:
            raise BackplaneFailure("refused", "NOPERM")

        backplane = FaultyBackplane()
        backplane.faults["beat"] = refuse
        async with Watched(backplane) as watched:
            await watched.until("up")
            watched.link.enter("news", member("1"))
            assert await watched.link.publish(message(), "all") == 1
            await until(lambda: "NOPERM" in caplog.text)
            assert watched.link.is_up

    asyncio.run(check())
    assert caplog.text.count("NOPERM") == 1


def test_link_refused_channels_leave_the_others(caplog: pytest.LogCaptureFixture) -> None:
    """A room that the engine refuses is missing alone, logged once, and tried again by the next join."""

    async def check() -> None:
        refused = {f"r:{number}" for number in range(0, 40, 7)}

        def refuse() -> None:
            if refused.intersection(backplane.calls[-1][1]):
                raise BackplaneFailure("refused", "NOPERM")

        backplane = FaultyBackplane()
        backplane.faults["subscribe"] = refuse
        async with Watched(backplane) as watched:
            await watched.until("up")
            added = await asyncio.gather(*(watched.link.add(f"r:{number}") for number in range(40)))
            assert [f"r:{number}" for number, there in enumerate(added) if not there] == [
                f"r:{number}" for number in range(0, 40, 7)
            ]
            backplane.kill()
            await watched.until("up", "down", "up")
            assert all(watched.link.is_subscribed(f"r:{number}") == added[number] for number in range(40))
            refused.clear()
            assert await watched.link.add("r:7")
            assert watched.link.is_up

    asyncio.run(check())
    assert caplog.text.count("refuses the channel") == 2  # once in each connection


def test_link_refused_own_channel_ends_the_connection() -> None:
    """Without the channel of its probes, a link is of no use."""

    async def check() -> None:
        def refuse() -> None:
            raise BackplaneFailure("refused", "NOPERM")

        backplane = FaultyBackplane()
        backplane.faults["subscribe"] = refuse
        async with Watched(backplane) as watched:
            await until(lambda: watched.link.failure is not None)
            assert watched.link.failure is not None
            assert watched.link.failure.kind == "refused"
            backplane.faults.clear()
            await watched.until("up")

    asyncio.run(check())


def test_link_close_removes_members() -> None:
    """The clients of a process that stops are gone at once."""

    async def check() -> None:
        backplane = FaultyBackplane()
        async with Watched(backplane) as watched:
            await watched.until("up")
            watched.link.enter("news", member("1"))
            await until(lambda: len(backplane.members) == 1)
            watched.link.leave("news", "1")
        assert backplane.members == {}

    asyncio.run(check())


def test_link_presence_unsupported_says_so() -> None:
    """The error names the backplane and the setting."""

    async def check() -> None:
        backplane = FaultyBackplane()
        backplane.capabilities = Capability.REMOTE  # type: ignore[misc]
        async with Watched(backplane) as watched:
            watched.link.enter("news", member("1"))
            with pytest.raises(BackplaneFailure, match=r"'faulty' does not.*websocket\.backplane") as raised:
                await watched.link.present("news", 10)
            assert raised.value.kind == "unsupported"
            await watched.until("up")
            assert backplane.count("beat") == 0

    asyncio.run(check())


# --- the end ---


@pytest.mark.parametrize("frozen", ["connect", "subscribe", "publish", "close", "leave", "beat"])
def test_link_close_frozen_engine_leaves_nothing(frozen: str) -> None:
    """Closing takes a limited time at every moment, and leaves no task."""

    async def check() -> None:
        backplane = FaultyBackplane()
        if frozen in ("connect", "subscribe", "publish"):
            backplane.faults[frozen] = lambda: asyncio.sleep(3600)
        watched = Watched(backplane, timeout=60, probe_timeout=60, connect_timeout=60)
        watched.link.start()
        if frozen in ("close", "leave", "beat"):
            await watched.until("up")
            watched.link.enter("news", member("1"))
            await until(lambda: bool(backplane.members))
            backplane.faults[frozen] = lambda: asyncio.sleep(3600)
            watched.link.leave("news", "1")
        else:
            await until(lambda: backplane.count(frozen) == 1)
        joining = asyncio.create_task(watched.link.add("r:news"))
        await asyncio.sleep(0)
        await watched.link.close()
        await joining
        assert asyncio.all_tasks() == {asyncio.current_task()}
        with pytest.raises(BackplaneFailure) as raised:
            await watched.link.publish(message(), "all")
        assert raised.value.kind == "down"

    threads = threading.active_count()
    asyncio.run(check())
    assert threading.active_count() == threads


def test_link_close_stubborn_plugin_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """A plugin that ignores its cancellation does not keep the link."""

    async def check() -> None:
        backplane = FaultyBackplane()
        release = asyncio.Event()
        watched = Watched(backplane, timeout=0.01, probe_interval=60)
        watched.link.start()
        await watched.link.proven()
        backplane.faults["publish"] = lambda: wait_stubbornly(release)
        with pytest.raises(BackplaneFailure, match="no response"):
            await watched.link.publish(message(), "all")
        await watched.link.close()
        release.set()

    with caplog.at_level(logging.WARNING):
        asyncio.run(check())
    assert "1 call of the backplane faulty ignores its cancellation" in caplog.text


def test_link_close_before_open_does_nothing() -> None:
    """A link that was never opened can be closed, and closing twice is allowed."""

    async def check() -> None:
        watched: Any = Watched(FaultyBackplane())
        await watched.link.close()
        with pytest.raises(BackplaneFailure, match="the link is closed"):
            await watched.link.proven()
        watched = Watched(FaultyBackplane())
        watched.link.start()
        await watched.link.proven()
        await watched.link.close()
        await watched.link.close()

    asyncio.run(check())

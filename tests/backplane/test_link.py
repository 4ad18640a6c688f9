"""The link in one event loop: connecting, channels, publishing, and what arrives."""

from __future__ import annotations

import asyncio
import logging
import pickle
import time

import pytest
from backplanes import LONG, OTHER, FaultyBackplane, Watched, message, publish_as_other, until, wait_stubbornly

from zcli_core.backplane.contract import Member
from zcli_core.errors import BackplaneFailure


def run(coroutine: object) -> None:
    asyncio.run(coroutine)  # type: ignore[arg-type]


# --- connecting ---


def test_link_open_is_up_after_a_probe() -> None:
    """The link subscribes to its channels at once, publishes a probe, and is up when it has come back."""

    async def check() -> None:
        backplane = FaultyBackplane()
        async with Watched(backplane) as watched:
            assert not watched.link.is_up
            await watched.until("up")
            assert watched.link.is_up
            own = f"p:{watched.link.process}"
            assert backplane.calls[0] == ("connect", watched.link.process)
            assert set(backplane.calls[1][1]) == {own, "all"}
            assert backplane.calls[2] == ("publish", own)
            assert watched.link.counters.probe_seconds is not None
            assert watched.received == []

    run(check())


def test_link_required_without_engine_raises() -> None:
    """The first failure is raised, and nothing is left of the link."""

    async def check() -> None:
        backplane = FaultyBackplane()
        backplane.faults["connect"] = refuse
        watched = Watched(backplane)
        watched.link.start(required=True)
        with pytest.raises(BackplaneFailure, match="wrong password") as raised:
            await watched.link.proven()
        await watched.link.close()
        assert raised.value.kind == "refused"
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert watched.states == []

    run(check())


def test_link_required_without_path_raises() -> None:
    """An engine that accepts everything and delivers nothing is not enough."""

    async def check() -> None:
        backplane = FaultyBackplane()
        backplane.silent = True
        async with Watched(backplane, probe_timeout=0.05) as watched:
            with pytest.raises(BackplaneFailure, match="a probe did not come back"):
                await watched.link.proven()

    run(check())


def test_link_engine_comes_later_is_up(caplog: pytest.LogCaptureFixture) -> None:
    """It tries for ever, and logs the outage once and its end once."""

    async def check() -> None:
        backplane = FaultyBackplane()
        backplane.faults["connect"] = refuse
        async with Watched(backplane) as watched:
            await until(lambda: backplane.count("connect") > 10)
            assert not watched.link.is_up
            del backplane.faults["connect"]
            await watched.until("up")
            assert watched.states == [("up", None)]

    with caplog.at_level(logging.INFO, "zcli.testing"):
        run(check())
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    assert "cannot connect to the backplane faulty: this process: wrong password" in lines[0]
    assert "is back after" in lines[1]


def test_link_outage_of_changing_kinds_is_logged_once_each(caplog: pytest.LogCaptureFixture) -> None:
    """A load balancer in front of a dead engine refuses one attempt and lets the next one time out."""

    async def check() -> None:
        backplane = FaultyBackplane()

        def fail() -> None:
            raise BackplaneFailure("down" if backplane.count("connect") % 2 else "timeout", "no engine")

        backplane.faults["connect"] = fail
        async with Watched(backplane):
            await until(lambda: backplane.count("connect") > 10)

    run(check())
    assert len(caplog.records) == 2


def test_link_connect_hangs_is_tried_again() -> None:
    """Connecting takes at most connect_timeout, even if the plugin ignores its cancellation."""

    async def check() -> None:
        backplane = FaultyBackplane()
        release = asyncio.Event()
        backplane.faults["connect"] = lambda: wait_stubbornly(release) if backplane.count("connect") < 3 else None
        async with Watched(backplane, connect_timeout=0.01) as watched:
            await watched.until("up")
            assert backplane.count("connect") == 3
            release.set()

    run(check())


def test_link_late_connection_is_closed() -> None:
    """A connection that comes after its time does not stay open."""

    async def check() -> None:
        backplane = FaultyBackplane()
        released = asyncio.Event()
        backplane.faults["connect"] = lambda: wait_stubbornly(released) if backplane.count("connect") == 1 else None
        async with Watched(backplane, connect_timeout=0.01) as watched:
            await watched.until("up")
            released.set()
            await until(lambda: backplane.count("close") == 1)
            assert len(backplane.connections) == 1
            assert watched.link.is_up

    run(check())


def test_link_killed_engine_is_connected_again(caplog: pytest.LogCaptureFixture) -> None:
    """After an outage all channels are subscribed with one call, and the outage is logged with its length."""

    async def check() -> None:
        backplane = FaultyBackplane()
        async with Watched(backplane) as watched:
            await asyncio.gather(*(watched.link.add(f"r:{n}") for n in range(1000)))
            backplane.calls.clear()
            backplane.kill()
            with pytest.raises(BackplaneFailure) as raised:
                await watched.link.publish(message(), "all")
            assert (raised.value.kind, raised.value.maybe_delivered) == ("down", False)
            await watched.until("up", "down", "up")
            assert backplane.count("subscribe") == 1
            await publish_as_other(backplane, "r:7", message(origin=OTHER).encode())
            assert watched.received == [("r:7", message(origin=OTHER))]
            assert watched.link.counters.reconnects == 1
            assert watched.link.counters.lost == {"down": 1}
            assert watched.states == [("up", None), ("down", "down"), ("up", None)]

    with caplog.at_level(logging.INFO, "zcli.testing"):
        run(check())
    lost, back = [record.getMessage() for record in caplog.records][1:]
    assert "is lost: this process: the engine was killed" in lost
    assert "1001 channels are subscribed again" in back


def test_link_silent_path_is_dropped_as_deaf() -> None:
    """A connection that brings no probe back is closed, and the next one is proven before the link is up."""

    async def check() -> None:
        backplane = FaultyBackplane()
        async with Watched(backplane, probe_timeout=0.05) as watched:
            await watched.until("up")
            backplane.silent = True
            await watched.until("up", "down")
            assert watched.states[1] == ("down", "timeout")
            connects = backplane.count("connect")
            await until(lambda: backplane.count("connect") > connects + 1)
            assert not watched.link.is_up
            backplane.silent = False
            await watched.until("up", "down", "up")
            await until(lambda: len(backplane.connections) == 1)

    run(check())


def test_link_blocked_loop_is_not_deaf() -> None:
    """A handler that blocks the event loop for longer than the timeouts does not end a good connection."""

    async def check() -> None:
        backplane = FaultyBackplane()
        backplane.faults["publish"] = lambda: asyncio.sleep(0.01)
        async with Watched(backplane, probe_timeout=0.3, probe_interval=0.001) as watched:
            await watched.until("up")
            published = backplane.count("publish")
            await until(lambda: backplane.count("publish") > published)
            time.sleep(1.0)  # the timeout fires together with the response
            await until(lambda: backplane.count("publish") > published + 2)
            assert watched.states == [("up", None)]

    run(check())


def test_link_jumping_clock_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only monotonic clocks are used."""

    async def check() -> None:
        backplane = FaultyBackplane()
        async with Watched(backplane) as watched:
            await watched.until("up")
            for jump in (10**9, -(10**9)):
                now = time.time() + jump
                monkeypatch.setattr(time, "time", lambda now=now: now)
                backplane.calls.clear()
                await until(lambda: backplane.count("publish") > 2)
            assert watched.states == [("up", None)]

    run(check())


# --- channels ---


def test_link_many_joins_are_one_subscription() -> None:
    """10,000 joins in one iteration of the event loop are one call of the plugin."""

    async def check() -> None:
        backplane = FaultyBackplane()
        async with Watched(backplane, timeout=20) as watched:
            await watched.until("up")
            backplane.calls.clear()
            assert all(await asyncio.gather(*(watched.link.add(f"r:{n}") for n in range(10_000))))
            assert backplane.count("subscribe") == 1
            assert watched.link.is_subscribed("r:9999")

    run(check())


def test_link_add_while_down_is_kept() -> None:
    """It returns after the timeout, and the channel is subscribed when the engine is back."""

    async def check() -> None:
        backplane = FaultyBackplane()
        backplane.faults["connect"] = refuse
        async with Watched(backplane, timeout=0.01) as watched:
            assert not await watched.link.add("r:news")
            del backplane.faults["connect"]
            assert await watched.link.add("r:news") or await watched.link.add("r:news")

    run(check())


def test_link_remove_lingers() -> None:
    """A room stays subscribed for a while, because pages are reloaded."""

    async def check() -> None:
        backplane = FaultyBackplane()
        async with Watched(backplane, linger=0.05) as watched:
            await watched.link.add("r:a")
            watched.link.remove("r:a")
            assert await watched.link.add("r:a")
            await watched.link.add("r:b")
            watched.link.remove("r:b")
            await until(lambda: backplane.count("unsubscribe") == 1)
            assert [argument for name, argument in backplane.calls if name == "unsubscribe"] == [("r:b",)]
            assert watched.link.is_subscribed("r:a")
            assert not watched.link.is_subscribed("r:b")

    run(check())


def test_link_join_during_unsubscribe_is_subscribed() -> None:
    """A room that is left and joined while the engine unsubscribes from it is subscribed in the end."""

    async def check() -> None:
        backplane = FaultyBackplane()
        async with Watched(backplane) as watched:
            await watched.link.add("r:a")
            release = asyncio.Event()
            backplane.faults["unsubscribe"] = release.wait
            watched.link.remove("r:a")
            await until(lambda: backplane.count("unsubscribe") == 1)
            joining = asyncio.create_task(watched.link.add("r:a"))
            await asyncio.sleep(0)
            release.set()
            assert await joining
            await publish_as_other(backplane, "r:a", message(origin=OTHER).encode())
            assert len(watched.received) == 1

    run(check())


# --- publishing ---


def test_link_publish_counts_connections() -> None:
    """The result is the engine's count; several channels give None, because a process may be on both."""

    async def check() -> None:
        backplane = FaultyBackplane()
        async with Watched(backplane) as one, Watched(backplane, process="8899aabbccddeeff") as two:
            await one.until("up")
            await two.until("up")
            await two.link.add("r:a")
            assert await one.link.publish(message(), "all") == 2
            assert await one.link.publish(message(), "r:a") == 1
            assert await one.link.publish(message(), "r:a", "r:b") is None
            assert await one.link.publish(message(), "r:none") == 0
            assert one.link.counters.published == 4

    run(check())


def test_link_down_is_not_subscribed() -> None:
    """A server that is down does not count as one of the connections that took a message of its neighbour."""

    async def check() -> None:
        backplane = FaultyBackplane()
        async with Watched(backplane) as watched:
            await watched.until("up")
            assert watched.link.is_subscribed("all")
            backplane.faults["connect"] = refuse
            backplane.kill()
            assert not watched.link.is_subscribed("all")

    run(check())


def test_link_member_that_comes_back_can_leave() -> None:
    """Also if the engine confirms that it has left only after it was entered again."""

    async def check() -> None:
        backplane = FaultyBackplane()
        async with Watched(backplane, timeout=LONG) as watched:
            await watched.until("up")
            ann = Member(watched.link.process, "c", "ann", {})
            watched.link.enter("r", ann)
            await until(lambda: bool(backplane.members))
            confirmed = asyncio.Event()
            backplane.faults["leave"] = confirmed.wait
            watched.link.leave("r", "c")
            await until(lambda: backplane.count("leave") == 1)
            watched.link.enter("r", ann)
            await watched.link.present("r", 10)  # this sends what has changed, too
            confirmed.set()
            await until(lambda: not backplane.members)
            backplane.members["r", "c"] = ann  # a real engine enters it after it has left
            watched.link.leave("r", "c")
            await until(lambda: not backplane.members)

    run(check())


def test_link_publish_keeps_the_order() -> None:
    """A message for several rooms, and one whose result is awaited late, are not overtaken."""

    async def check() -> None:
        backplane = FaultyBackplane()
        async with Watched(backplane, probe_interval=LONG) as watched:
            await watched.until("up")
            del backplane.calls[:]
            late = watched.link.publish(message(), "r:a", "r:b")
            await watched.link.publish(message(), "r:c")
            await late
            assert [channel for name, channel in backplane.calls if name == "publish"] == ["r:a", "r:b", "r:c"]

    run(check())


def test_link_publish_frozen_engine_times_out() -> None:
    """It is not known whether the message was published, and it is not published again."""

    async def check() -> None:
        backplane = FaultyBackplane()
        async with Watched(backplane, timeout=0.02, probe_interval=60) as watched:
            await watched.until("up")
            backplane.calls.clear()
            backplane.faults["publish"] = lambda: asyncio.sleep(3600)
            with pytest.raises(BackplaneFailure, match="no response within") as raised:
                await watched.link.publish(message(), "all")
            assert (raised.value.kind, raised.value.maybe_delivered) == ("timeout", True)
            assert backplane.count("publish") == 1
            assert watched.link.counters.failed == {"timeout": 1}

    run(check())


def test_link_publish_too_large_does_not_leave() -> None:
    """Neither a message above max_message, nor one above the engine's own limit, is given to the plugin."""

    async def check() -> None:
        backplane = FaultyBackplane()
        backplane.max_payload = 60
        async with Watched(backplane, probe_interval=60) as watched:
            await watched.until("up")
            backplane.calls.clear()
            with pytest.raises(BackplaneFailure, match=r"101 bytes; websocket\.max_size is 100"):
                await watched.link.publish(message("ä" * 50 + "x"), "all")
            with pytest.raises(BackplaneFailure, match="the engine accepts 60") as raised:
                await watched.link.publish(message("x" * 60), "all")
            assert (raised.value.kind, raised.value.maybe_delivered) == ("too_large", False)
            assert backplane.calls == []

    run(check())


def test_link_publish_full_queue_fails_at_once() -> None:
    """What waits to be published is limited by max_queue."""

    async def check() -> None:
        backplane = FaultyBackplane()
        async with Watched(backplane, probe_interval=60, max_queue=1024) as watched:
            await watched.until("up")
            release = asyncio.Event()
            backplane.faults["publish"] = release.wait
            publications = [watched.link.publish(message("x" * 100), "all") for _ in range(20)]
            waiting = asyncio.gather(*publications, return_exceptions=True)
            await until(lambda: watched.link.counters.failed.get("full") == 12)
            release.set()
            assert (await waiting).count(1) == 8
            assert await watched.link.publish(message("x" * 100), "all") == 1

    run(check())


# --- what arrives ---


def test_link_own_messages_are_ignored() -> None:
    """The clients of the own process have got them already."""

    async def check() -> None:
        async with Watched(FaultyBackplane()) as watched:
            await watched.until("up")
            await watched.link.publish(message(), "all")
            assert watched.received == []
            assert watched.link.counters.ignored_own == 1

    run(check())


def test_link_foreign_bytes_are_ignored_and_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """A pickled message is counted; the log names the setting that separates applications."""

    async def check() -> None:
        backplane = FaultyBackplane()
        async with Watched(backplane) as watched:
            await watched.until("up")
            for data in (pickle.dumps({"method": "emit"}), b"", b"hello"):
                await publish_as_other(backplane, "all", data)
            assert watched.received == []
            assert watched.link.counters.ignored_invalid == 3

    run(check())
    (line,) = (record.getMessage() for record in caplog.records)
    assert "backplane.namespace" in line


def test_link_probe_of_other_origin_is_ignored() -> None:
    """A probe counts only with the link's own number, on its own channel."""

    async def check() -> None:
        backplane = FaultyBackplane()
        backplane.silent = True
        async with Watched(backplane, probe_timeout=0.5) as watched:
            await until(lambda: backplane.count("publish") == 1)
            own = f"p:{watched.link.process}"
            probe = message(b"", OTHER)._replace(kind=2)
            await publish_as_other(backplane, own, probe.encode())
            await publish_as_other(backplane, "all", probe._replace(origin=b"own-8888").encode())
            await publish_as_other(backplane, own, probe._replace(origin=b"own-8888", number=99).encode())
            await asyncio.sleep(0)
            assert not watched.link.is_up

    run(check())


def test_link_receiver_that_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """An error while a message is delivered does not end the connection."""

    async def check() -> None:
        backplane = FaultyBackplane()
        async with Watched(backplane) as watched:
            await watched.until("up")
            watched.link._receive = lambda channel, envelope: 1 / 0  # type: ignore[assignment]
            await publish_as_other(backplane, "all", message(origin=OTHER).encode())
            assert watched.link.is_up

    run(check())
    assert "cannot be delivered" in caplog.text


async def refuse() -> None:
    raise BackplaneFailure("refused", "wrong password")

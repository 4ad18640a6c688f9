"""Tests of presence: who is in which room, in all processes."""

from __future__ import annotations

import asyncio

import pytest

from zcli_core.backplane.contract import Backplane, Capability, EngineConnection, Member
from zcli_core.errors import BackplaneFailure
from zcli_core.testing.backplane.base import Base
from zcli_core.testing.backplane.peers import connected, in_loop, within

_HERE, _OTHER = "0011223344556677", "8899aabbccddeeff"
_ALIVE = 30.0


class Presence(Base):
    """Capability.PRESENCE."""

    @pytest.fixture
    def present_plane(self, plane: Backplane) -> Backplane:
        """The backplane, if it offers presence."""
        self.require(plane, Capability.PRESENCE)
        return plane

    @in_loop
    async def test_presence_shows_members_of_all_processes(self, present_plane: Backplane) -> None:
        """What a member joined with arrives unchanged; a limit limits."""
        ann = Member(_HERE, "1", "ann", {"name": "Ann ä€😀", "empty": ""})
        bob = Member(_OTHER, "1", None, {})
        async with connected(present_plane, _HERE) as here, connected(present_plane, _OTHER) as other:
            await _beat(here.connection, other.connection)
            await here.connection.enter([("two words: *", ann), ("r2", ann)])
            await other.connection.enter([("two words: *", bob)])
            assert set(map(_key, await here.connection.present("two words: *", 10))) == {_key(ann), _key(bob)}
            (found,) = await other.connection.present("r2", 10)
            assert found == ann
            assert len(await here.connection.present("two words: *", 1)) == 1
            assert await here.connection.count("two words: *") == 2
            assert await other.connection.count("nothing") == 0
            assert await other.connection.present("nothing", 10) == ()
            assert {_HERE, _OTHER} <= set(await here.connection.processes())
            await here.connection.leave([("two words: *", "1"), ("r2", "1")])
            await other.connection.leave([("two words: *", "1")])

    @in_loop
    async def test_presence_enter_twice_is_once(self, present_plane: Backplane) -> None:
        """The second time gives the member new data."""
        async with connected(present_plane, _HERE) as here:
            await _beat(here.connection)
            await here.connection.enter([("r3", Member(_HERE, "1", "ann", {"mood": "old"}))])
            await here.connection.enter([("r3", Member(_HERE, "1", "ann", {"mood": "new"}))])
            assert await here.connection.present("r3", 10) == (Member(_HERE, "1", "ann", {"mood": "new"}),)
            assert await here.connection.count("r3") == 1
            await here.connection.leave([("r3", "1")])

    @in_loop
    async def test_presence_leave_removes_own_members_only(self, present_plane: Backplane) -> None:
        """Another process may have a connection with the same identifier. Leaving twice is allowed."""
        async with connected(present_plane, _HERE) as here, connected(present_plane, _OTHER) as other:
            await _beat(here.connection, other.connection)
            await here.connection.enter([("r4", Member(_HERE, "1", None, {}))])
            await other.connection.enter([("r4", Member(_OTHER, "1", None, {}))])
            await here.connection.leave([("r4", "1"), ("r4", "none")])
            await here.connection.leave([("r4", "1")])
            assert await here.connection.present("r4", 10) == (Member(_OTHER, "1", None, {}),)
            await other.connection.leave([("r4", "1")])

    @in_loop
    async def test_presence_many_members_are_complete(self, present_plane: Backplane) -> None:
        """1,000 members with one call."""
        members = [("r5", Member(_HERE, str(number), None, {})) for number in range(1000)]
        async with connected(present_plane, _HERE) as here:
            await _beat(here.connection)
            await within(here.connection.enter(members), "enter()")
            assert await here.connection.count("r5") == 1000
            assert len(await here.connection.present("r5", 400)) == 400
            await within(here.connection.leave([("r5", str(number)) for number in range(1000)]), "leave()")
            assert await here.connection.count("r5") == 0

    @in_loop
    async def test_presence_silent_process_is_gone(self, present_plane: Backplane) -> None:
        """A process that does not beat vanishes with its members. Its next beat ends the connection."""
        async with connected(present_plane, _HERE) as here, connected(present_plane, _OTHER) as other:
            await _beat(here.connection)
            await other.connection.beat(1.0)
            await other.connection.enter([("r6", Member(_OTHER, "1", None, {}))])
            assert await here.connection.count("r6") == 1
            for _ in range(200):
                if await here.connection.count("r6") == 0:
                    break
                await asyncio.sleep(0.05)
            assert await here.connection.present("r6", 10) == ()
            assert _OTHER not in await here.connection.processes()
            with pytest.raises(BackplaneFailure):
                await other.connection.beat(_ALIVE)
            await other.until_lost()
            async with connected(present_plane, _OTHER) as again:
                await again.connection.beat(_ALIVE)
                await again.connection.enter([("r6", Member(_OTHER, "1", None, {}))])
                assert await here.connection.count("r6") == 1
                await again.connection.leave([("r6", "1")])


async def _beat(*connections: EngineConnection) -> None:
    for connection in connections:
        await connection.beat(_ALIVE)


def _key(member: Member) -> tuple[str, str, str | None]:
    return member.process, member.connection, member.identity

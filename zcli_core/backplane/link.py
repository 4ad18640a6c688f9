"""The link of one event loop to the other processes, through the engine of a backplane.

The plugin knows one life of one connection. The link does the rest: it connects again, subscribes again, limits every
wait and every queue, and does not believe a connection. It believes a message that came back: it publishes a probe on a
channel of its own, and only then is the link up. A connection that does not bring a probe back is dropped as deaf.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import random
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from zcli_core.backplane.calls import PluginCalls, PluginError, first
from zcli_core.backplane.contract import Capability
from zcli_core.backplane.envelope import Envelope, EnvelopeError, Kind, decode
from zcli_core.backplane.wanted import WantedChannels, WantedMembers
from zcli_core.errors import BackplaneFailure, FailureKind
from zcli_core.printable import printable

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from zcli_core.backplane.contract import Backplane, EngineConnection, EngineReport, Member
    from zcli_core.config.sections import Backplane as Settings

_T = TypeVar("_T")

#: Called with a channel and what was published there by another ``zCLI`` object.
Receive = Callable[[str, Envelope], None]
#: Called when the link is up or down, as the hook ``zcli_backplane_changed``.
Changed = Callable[[Literal["up", "down"], BackplaneFailure | None], None]

#: Channel of messages for all clients.
ALL = "all"

#: Seconds that a connection gets to close, and that cancelled calls get to end.
_CLOSE_TIMEOUT = 1.0
#: Channels that the engine confirms in one second, for the timeout of subscribing to very many.
_CHANNELS_A_SECOND = 10_000
#: Most members that are entered or removed with one call.
_MEMBERS_AT_ONCE = 1000
#: Fraction of ``backplane.presence_timeout`` between two heartbeats.
_BEATS = 3
#: Seconds until presence is tried again after a failure.
_PRESENCE_PAUSE = 1.0


def room_channel(room: str) -> str:
    """Return the channel of a room, or of an identity (``@ann``)."""
    return f"r:{room}"


class LinkCounters:
    """What a link has done since it was made."""

    def __init__(self) -> None:
        #: Messages that the engine took.
        self.published = 0
        #: Messages that it did not take, or may not have taken, by :attr:`BackplaneFailure.kind`.
        self.failed: dict[FailureKind, int] = {}
        #: Messages of other processes.
        self.received = 0
        #: Messages of the own ``zCLI`` object, whose clients got them without the engine.
        self.ignored_own = 0
        #: Bytes on our channels that are not an envelope.
        self.ignored_invalid = 0
        #: How often the link was up again after an outage.
        self.reconnects = 0
        #: How often a connection ended, by :attr:`BackplaneFailure.kind`.
        self.lost: dict[FailureKind, int] = {}
        #: How long the latest probe took, in seconds; None before the first.
        self.probe_seconds: float | None = None

    def add(self, other: LinkCounters) -> None:
        """Add what another link has done, except ``probe_seconds``."""
        for name in ("published", "received", "ignored_own", "ignored_invalid", "reconnects"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for counts, others in ((self.failed, other.failed), (self.lost, other.lost)):
            for kind, count in tuple(others.items()):
                counts[kind] = counts.get(kind, 0) + count


class Link:
    """The link of one event loop. Use it in the thread of its event loop only.

    Attributes:
        process: Identifier of this link at the engine, 16 hexadecimal digits.
        counters: What it has done.
        failure: Why it is down; None while it is up, and before the first attempt.
    """

    def __init__(
        self,
        backplane: Backplane,
        settings: Settings,
        *,
        process: str,
        name: str,
        max_message: int,
        origin: bytes,
        receive: Receive | None,
        changed: Changed | None,
        log: logging.Logger,
    ) -> None:
        """Create the link inside its event loop.

        Args:
            backplane: What connects to the engine.
            settings: Timeouts and limits.
            process: Identifier of the link at the engine, 16 hexadecimal digits, which presence shows.
            name: The backplane's name, for errors.
            max_message: Largest message that is published, in bytes.
            origin: The 8 bytes that name the ``zCLI`` object. Its own messages are not received.
            receive: Gets the messages of other processes. None for a link that only publishes.
            changed: Gets the state when it changes.
            log: Where outages are logged.
        """
        self.process = process
        self.counters = LinkCounters()
        self.failure: BackplaneFailure | None = None
        self._backplane = backplane
        self._settings = settings
        self._name = name
        self._max_message = max_message
        self._origin = origin
        self._receive = receive
        self._changed = changed
        self._log = log
        self._loop = asyncio.get_running_loop()
        self._calls = PluginCalls()
        self._task: asyncio.Task[None] | None = None
        self._required = False
        #: What the first attempt to connect came to.
        self._first_attempt: asyncio.Future[BackplaneFailure | None] = self._loop.create_future()
        #: The connection in use; None while there is none.
        self._life: _Life | None = None
        self._up = False
        self._down_since = self._loop.time()
        self._up_since = 0.0
        #: The kinds of failure that were logged since the link was up.
        self._logged: set[FailureKind] = set()
        self._invalid_logged = False
        self._refusal_logged = False
        self._queued = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._probe_channel = f"p:{self.process}"
        self._probes = itertools.count(1)
        self._pending_probe: tuple[int, asyncio.Future[None]] | None = None
        self._own_channels = {self._probe_channel} if receive is None else {self._probe_channel, ALL}
        self._channels = WantedChannels(self._own_channels)
        self._channels_changed = asyncio.Event()
        self._members = WantedMembers()
        self._members_changed = asyncio.Event()

    # --- opening and closing ---

    def start(self, required: bool = False) -> None:
        """Begin to connect, and keep the link until it is closed.

        Args:
            required: Whether :meth:`proven` reports a failure of the first attempt, so that it is not logged.
        """
        self._required = required
        self._task = self._loop.create_task(self._run())

    async def proven(self) -> None:
        """Wait for the end of the first attempt to connect.

        Raises:
            BackplaneFailure: It failed.
        """
        failure = await asyncio.shield(self._first_attempt)
        if failure is not None:
            raise failure

    async def close(self) -> None:
        """End the link. It takes a few seconds at most, also if the engine is frozen or the plugin does not return."""
        if not self._first_attempt.done():
            self._first_attempt.set_result(BackplaneFailure("down", "the link is closed"))
        if self._task is None:
            return
        life = self._life
        if self._up and life is not None:
            with contextlib.suppress(BackplaneFailure):
                await self._calls.call(_CLOSE_TIMEOUT, self._finish, life)
        self._task.cancel()
        await asyncio.wait({self._task})
        self._channels.release()
        if remaining := await self._calls.end(_CLOSE_TIMEOUT):
            calls = "1 call" if remaining == 1 else f"{remaining} calls"
            ignore = "ignores its" if remaining == 1 else "ignore their"
            self._log.warning("%s of the backplane %s %s cancellation", calls, self._name, ignore)

    async def _finish(self, life: _Life) -> None:
        """Remove members that have left, and wait until all is published."""
        await self._send_members(life)
        await self._idle.wait()

    def abort(self) -> None:
        """End the link without waiting. The event loop must still run, so that the connection is closed."""
        if self._task is not None:
            self._task.cancel()

    # --- state ---

    @property
    def is_up(self) -> bool:
        """Whether a probe has come back on the connection in use, and none has failed since."""
        return self._up and self._life is not None and not self._life.is_over

    def located(self, failure: BackplaneFailure) -> str:
        """Return the text of a failure with the address of the engine, which most plugins put in front."""
        address = self._backplane.address
        return str(failure) if address in str(failure) else f"{address}: {failure}"

    @property
    def queued(self) -> int:
        """Bytes that wait to be published."""
        return self._queued

    @property
    def channel_count(self) -> int:
        """Number of channels that the link subscribes to, besides its own."""
        return len(self._channels) - 1

    def is_subscribed(self, channel: str) -> bool:
        """Whether the engine has confirmed the subscription of a channel, on the connection in use."""
        life = self._life
        return life is not None and not life.is_over and channel in self._channels.subscribed

    # --- channels ---

    async def add(self, channel: str) -> bool:
        """Subscribe to a channel. Channels that are added in one iteration of the event loop need one subscription.

        Returns:
            Whether the engine has confirmed it. If not within ``backplane.timeout``, it is still subscribed as soon as
            the link is up.
        """
        waiter = self.want(channel)
        if waiter is None:
            return True
        await asyncio.wait({waiter}, timeout=self._settings.timeout)
        return self.is_subscribed(channel)

    def want(self, channel: str) -> asyncio.Future[None] | None:
        """Subscribe to a channel without waiting. Returns a future of the confirmation; None if there is one."""
        waiter = self._channels.add(channel)
        if waiter is not None:
            self._channels_changed.set()
        return waiter

    def remove(self, channel: str) -> None:
        """Unsubscribe from a channel after ``backplane.linger`` seconds, unless it is added again."""
        expiry = None if self._life is None else self._loop.time() + self._settings.linger
        self._channels.remove(channel, expiry)
        self._channels_changed.set()

    # --- publishing ---

    def publish(self, envelope: Envelope, *channels: str) -> Coroutine[Any, Any, int | None]:
        """Begin to publish once, on one channel or several. It is never tried again.

        Messages are sent in the order of the calls, whenever the result is awaited.

        Returns:
            A coroutine for the result: how many connections took the message, if the engine says so and it is one
            channel; otherwise None. It raises BackplaneFailure if the message was not published, or may not have been
            published (``maybe_delivered``).
        """
        try:
            life = self._usable_life()
            data = self._encode(life, envelope)
            self._check_queue(len(data) * len(channels))
        except BackplaneFailure as failure:
            return self._published(failure, [])
        return self._published(life, [self._begin_publishing(life, channel, data) for channel in channels])

    def _check_queue(self, size: int) -> None:
        if self._queued and self._queued + size > self._settings.max_queue:
            raise BackplaneFailure(
                "full",
                f"{self._queued} bytes wait to be published on the backplane {self._name}, and "
                f"backplane.max_queue is {self._settings.max_queue}",
            )

    def _begin_publishing(self, life: _Life, channel: str, data: bytes) -> asyncio.Task[int | None]:
        size = len(data)
        self._queued += size
        self._idle.clear()

        def ended(_: object) -> None:
            self._queued -= size
            if not self._queued:
                self._idle.set()

        call = self._calls.begin(life.connection.publish, channel, data)
        call.add_done_callback(ended)
        return call

    async def _published(self, life: _Life | BackplaneFailure, calls: list[asyncio.Task[int | None]]) -> int | None:
        """Wait until a message is published on all its channels."""
        try:
            if isinstance(life, BackplaneFailure):
                raise life
            waiting = [self._result(life, call, self._settings.timeout) for call in calls]
            if len(waiting) == 1:
                count = await waiting[0]
            else:
                count = None
                for outcome in await asyncio.gather(*waiting, return_exceptions=True):
                    if isinstance(outcome, BaseException):
                        raise outcome
        except BackplaneFailure as failure:
            _count(self.counters.failed, failure.kind)
            raise
        self.counters.published += 1
        return count if isinstance(count, int) else None

    def _encode(self, life: _Life, envelope: Envelope) -> bytes:
        """Return the bytes of an envelope. Raises BackplaneFailure if they are too many."""
        payload, most = envelope.payload, self._max_message
        data = b"" if len(payload) > most else envelope.encode()
        # The length of the payload matters only if it may be over the limit, so a usual message is encoded once.
        if not data or len(data) > most:
            size = len(payload.encode()) if isinstance(payload, str) else len(payload)
            if size > most:
                key = "websocket.max_size" if self._settings.max_message is None else "backplane.max_message"
                raise BackplaneFailure("too_large", f"the message has {size} bytes; {key} is {most}")
        accepted = life.connection.max_payload
        if accepted is not None and len(data) > accepted:
            raise BackplaneFailure(
                "too_large", f"the message has {len(data)} bytes with its header; the engine accepts {accepted}"
            )
        return data

    def _usable_life(self) -> _Life:
        life = self._life
        if not self._up or life is None or life.is_over:
            why = self._backplane.address if self.failure is None else self.located(self.failure)
            raise BackplaneFailure("down", f"no connection to the backplane {self._name}: {why}")
        return life

    # --- presence ---

    def enter(self, room: str, member: Member) -> None:
        """State that a member is in a room. It is sent when the link is up, and again after each outage."""
        if self._offers(Capability.PRESENCE):
            self._members.enter(room, member)
            self._members_changed.set()

    def leave(self, room: str, connection: str) -> None:
        """State that a member is no longer in a room."""
        if self._offers(Capability.PRESENCE):
            self._members.leave(room, connection)
            self._members_changed.set()

    async def present(self, room: str, limit: int) -> tuple[Member, ...]:
        """Return at most ``limit`` members of a room, of all processes.

        Raises:
            BackplaneFailure: The backplane offers no presence, or the engine did not respond.
        """
        return await self._presence_call("present", room, limit)  # type: ignore[no-any-return]  # of a method by name

    async def count(self, room: str) -> int:
        """Return the number of members of a room, of all processes. Raises as :meth:`present` does."""
        return await self._presence_call("count", room)  # type: ignore[no-any-return]  # of a method by name

    async def processes(self) -> tuple[str, ...]:
        """Return the identifiers of the processes that are alive. Raises as :meth:`present` does."""
        return await self._presence_call("processes")  # type: ignore[no-any-return]  # of a method by name

    async def _presence_call(self, method: str, *arguments: Any) -> Any:
        if not self._offers(Capability.PRESENCE):
            raise unsupported_presence(self._name)
        life = self._usable_life()
        await self._send_members(life)  # so that a client that has just joined is counted
        return await self._call(life, self._settings.timeout, getattr(life.connection, method), *arguments)

    async def report(self) -> EngineReport:
        """Describe the engine and check its configuration. Raises as :meth:`present` does."""
        life = self._usable_life()
        return await self._call(life, self._settings.timeout, life.connection.report, self._max_message)

    def _offers(self, capability: Capability) -> bool:
        return capability in self._backplane.capabilities

    # --- one life of a connection after the other ---

    async def _run(self) -> None:
        attempts = 0
        while True:
            failure = await self._live_once()
            stable = self._up and self._loop.time() - self._up_since >= self._settings.max_retry
            self._went_down(failure)
            attempts = 0 if stable else attempts + 1
            # Full jitter, so that the processes do not all connect at the same moment.
            longest = min(self._settings.max_retry, self._settings.first_retry * 2.0 ** min(max(attempts - 1, 0), 60))
            await asyncio.sleep(random.uniform(0, longest))  # noqa: S311 - not for security

    async def _live_once(self) -> BackplaneFailure:
        """Connect, prove the path, and stay connected as long as possible. Returns why it ended."""
        try:
            await self._live()
        except BackplaneFailure as failure:
            return failure
        except Exception as error:  # noqa: BLE001 - an error of our own must not end the link
            self._log.exception("the link to the backplane %s has failed; it connects again", self._name)
            return BackplaneFailure("protocol", f"{type(error).__name__} in the link")
        return BackplaneFailure("protocol", "the connection has ended")

    async def _live(self) -> None:
        life = _Life(self._loop, self._message)
        life.connection = await self._connect(life)
        self._life = life
        try:
            await first(life.until_lost(), self._set_up(life))
            self._went_up()
            await first(
                life.until_lost(), self._keep_channels(life), self._keep_members(life), self._keep_proving(life)
            )
        finally:
            self._life = None
            life.end()
            await self._close_connection(life.connection)

    async def _connect(self, life: _Life) -> EngineConnection:
        call = self._calls.begin(self._backplane.connect, self.process, life)
        try:
            return await self._calls.result(call, self._settings.connect_timeout)
        except BaseException:
            life.end()
            call.add_done_callback(self._close_late)
            raise

    def _close_late(self, call: asyncio.Task[EngineConnection]) -> None:
        """Close a connection that came when nothing waited for it any longer."""
        if not call.cancelled() and call.exception() is None:
            self._calls.begin_closing(call.result().close)

    async def _close_connection(self, connection: EngineConnection) -> None:
        try:
            await self._calls.result(self._calls.begin_closing(connection.close), _CLOSE_TIMEOUT)
        except BackplaneFailure as failure:
            self._log.warning("the connection to the backplane %s cannot be closed: %s", self._name, failure)

    async def _set_up(self, life: _Life) -> None:
        """Subscribe to all channels, and prove that a message comes back."""
        self._channels.reset()
        self._refusal_logged = False
        self._members.renew()
        await self._subscribe(life)
        await self._prove(life)

    def _went_up(self) -> None:
        now = self._loop.time()
        self._up, self._up_since, self.failure = True, now, None
        outage = now - self._down_since
        if not self._logged:
            self._log.info("connected to the backplane %s at %s", self._name, self._backplane.address)
        else:
            self.counters.reconnects += 1
            self._log.info(
                "the backplane %s is back after %.1f s; %d channels are subscribed again",
                self._name, outage, self.channel_count,
            )  # fmt: skip
        self._logged.clear()
        self._report_change("up", None)
        if not self._first_attempt.done():
            self._first_attempt.set_result(None)

    def _went_down(self, failure: BackplaneFailure) -> None:
        was_up, self._up, self.failure = self._up, False, failure
        _count(self.counters.lost, failure.kind)
        if was_up:
            self._down_since = self._loop.time()
        raised = self._required and not self._first_attempt.done()
        if not raised and failure.kind not in self._logged:
            self._logged.add(failure.kind)
            what = "the connection to the backplane %s is lost" if was_up else "cannot connect to the backplane %s"
            self._log.warning(
                what + ": %s; the clients of other processes are not reached until it is back",
                self._name, self.located(failure),
            )  # fmt: skip
        if not self._first_attempt.done():
            self._first_attempt.set_result(failure)
        if was_up:
            self._report_change("down", failure)

    def _report_change(self, state: Literal["up", "down"], failure: BackplaneFailure | None) -> None:
        if self._changed is not None:
            try:
                self._changed(state, failure)
            except Exception:  # noqa: BLE001 - the link goes on
                self._log.exception("a function that was called because the backplane is %s has failed", state)

    # --- while connected ---

    async def _call(
        self, life: _Life, seconds: float, function: Callable[..., Coroutine[Any, Any, _T]], *arguments: Any
    ) -> _T:
        return await self._result(life, self._calls.begin(function, *arguments), seconds)

    async def _result(self, life: _Life, call: asyncio.Task[_T], seconds: float) -> _T:
        """Wait for a call. A bug of the plugin ends its connection."""
        try:
            return await self._calls.result(call, seconds)
        except PluginError as error:
            life.lost(error)
            raise

    async def _subscribe(self, life: _Life) -> None:
        if channels := tuple(self._channels.missing):
            await self._subscribe_to(life, channels)

    async def _subscribe_to(self, life: _Life, channels: tuple[str, ...]) -> None:
        """Subscribe to channels. A channel that the engine refuses does not keep the others from being subscribed."""
        seconds = self._settings.timeout + len(channels) / _CHANNELS_A_SECOND
        try:
            await self._call(life, seconds, life.connection.subscribe, channels)
        except BackplaneFailure as failure:
            # Without its own channels the link is of no use.
            if failure.kind != "refused" or life.is_over or self._own_channels.issuperset(channels):
                raise
            if len(channels) == 1:
                self._refused(channels[0], failure)
                return
            for part in self._parts(channels):
                await self._subscribe_to(life, part)
        else:
            self._channels.confirm(channels)

    def _parts(self, channels: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Split channels of which the engine refuses some: it does not say which."""
        own = self._own_channels.intersection(channels)
        if own:
            return tuple(own), tuple(set(channels) - own)
        half = len(channels) // 2
        return channels[:half], channels[half:]

    def _refused(self, channel: str, failure: BackplaneFailure) -> None:
        self._channels.give_up(channel)
        if not self._refusal_logged:
            self._refusal_logged = True
            self._log.warning(
                "the backplane %s refuses the channel %s: %s; messages of other processes for it do not arrive. The "
                "server asks again when a client joins, and when it connects again (further ones are not logged)",
                self._name, printable(channel), self.located(failure),
            )  # fmt: skip

    async def _keep_channels(self, life: _Life) -> None:
        """Bring the wanted channels to the engine, all that are due with one call."""
        while True:
            await self._subscribe(life)
            if expired := self._channels.take_expired(self._loop.time()):
                await self._call(life, self._settings.timeout, life.connection.unsubscribe, expired)
            await _wait(self._channels_changed, self._channels.next_expiry)

    async def _keep_members(self, life: _Life) -> None:
        """Beat, and bring the members to the engine. If the engine refuses that, messages still travel."""
        timeout = self._settings.presence_timeout
        beat_at = self._loop.time()
        complained = False
        while self._offers(Capability.PRESENCE):
            try:
                now = self._loop.time()
                if now >= beat_at:
                    await self._call(life, self._settings.timeout, life.connection.beat, timeout)
                    beat_at = now + timeout / _BEATS
                await self._send_members(life)
            except PluginError:
                raise
            except BackplaneFailure as failure:
                if not complained:
                    complained = True
                    self._log.warning("presence does not work on the backplane %s: %s", self._name, failure)
                await asyncio.sleep(_PRESENCE_PAUSE)
            else:
                complained = False
                await _wait(self._members_changed, beat_at)
        await life.until_lost()

    async def _send_members(self, life: _Life) -> None:
        while keys := self._members.next_leaving(_MEMBERS_AT_ONCE):
            await self._call(life, self._settings.timeout, life.connection.leave, keys)
            self._members.left(keys)
        while members := self._members.next_entering(_MEMBERS_AT_ONCE):
            await self._call(life, self._settings.timeout, life.connection.enter, members)
            self._members.entered(members)

    async def _keep_proving(self, life: _Life) -> None:
        while True:
            await asyncio.sleep(self._settings.probe_interval)
            await self._prove(life)

    async def _prove(self, life: _Life) -> None:
        """Publish a probe and wait until it comes back.

        Raises:
            BackplaneFailure: It did not come back within ``backplane.probe_timeout``.
        """
        number = next(self._probes)
        back: asyncio.Future[None] = self._loop.create_future()
        self._pending_probe = number, back
        seconds, began = self._settings.probe_timeout, monotonic()  # the clock of uvloop counts milliseconds
        probe = Envelope(Kind.PROBE, self._origin, number).encode()

        async def round_trip() -> None:
            await life.connection.publish(self._probe_channel, probe)
            await back

        try:
            await self._call(life, seconds, round_trip)
        except PluginError:
            raise
        except BackplaneFailure as failure:
            if failure.kind != "timeout":
                raise
            raise BackplaneFailure("timeout", f"a probe did not come back within {seconds:g} s") from None
        finally:
            self._pending_probe = None
        self.counters.probe_seconds = monotonic() - began

    # --- what arrives ---

    def _message(self, channel: str, data: bytes) -> None:
        try:
            envelope = decode(data)
        except EnvelopeError as error:
            self._ignore_invalid(channel, error)
            return
        if envelope.kind is Kind.PROBE:
            self._probe_is_back(channel, envelope)
        elif envelope.origin == self._origin:
            self.counters.ignored_own += 1
        elif self._receive is not None:
            self.counters.received += 1
            try:
                self._receive(channel, envelope)
            except EnvelopeError as error:
                self._ignore_invalid(channel, error)
            except Exception:  # noqa: BLE001 - the link goes on
                self._log.exception("a message of the backplane %s cannot be delivered", self._name)

    def _probe_is_back(self, channel: str, envelope: Envelope) -> None:
        if channel == self._probe_channel and self._pending_probe is not None:
            number, back = self._pending_probe
            if envelope.number == number and envelope.origin == self._origin and not back.done():
                back.set_result(None)

    def _ignore_invalid(self, channel: str, error: EnvelopeError) -> None:
        self.counters.ignored_invalid += 1
        if not self._invalid_logged:
            self._invalid_logged = True
            self._log.warning(
                "an invalid message on the channel %s of the backplane %s is ignored: %s; another application may use "
                "the same backplane.namespace (further ones are only counted)",
                printable(channel), self._name, error,
            )  # fmt: skip


class _Life:
    """One connection of a link, from connecting to its end. It is the plugin's :class:`Sink`."""

    connection: EngineConnection

    def __init__(self, loop: asyncio.AbstractEventLoop, receive: Callable[[str, bytes], None]) -> None:
        self._receive = receive
        self.is_over = False
        self._lost: asyncio.Future[BackplaneFailure] = loop.create_future()

    def message(self, channel: str, data: bytes) -> None:
        if not self.is_over:
            self._receive(channel, data)

    def lost(self, failure: BackplaneFailure) -> None:
        self.end()
        if not self._lost.done():
            self._lost.set_result(failure)

    def end(self) -> None:
        """Take nothing more from the connection."""
        self.is_over = True

    async def until_lost(self) -> None:
        """Wait until the connection has ended.

        Raises:
            BackplaneFailure: Why it has ended.
        """
        raise await asyncio.shield(self._lost)


def unsupported_presence(name: str) -> BackplaneFailure:
    """Return the failure of a backplane that does not know which clients other processes have."""
    return BackplaneFailure(
        "unsupported",
        f"the backplane {name!r} does not offer presence; choose one that does with websocket.backplane, such as redis",
    )


async def _wait(event: asyncio.Event, until: float | None) -> None:
    """Wait until an event is set or a time of the event loop's clock has come, and clear the event."""
    timer = None if until is None else asyncio.get_running_loop().call_at(until, event.set)
    try:
        await event.wait()
    finally:
        if timer is not None:
            timer.cancel()
    event.clear()


def _count(counts: dict[FailureKind, int], kind: FailureKind) -> None:
    counts[kind] = counts.get(kind, 0) + 1

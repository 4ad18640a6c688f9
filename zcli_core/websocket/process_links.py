"""The links of one ``zCLI`` object to other processes: one for each of its servers, or one that only publishes."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from zcli_core.backplane.contract import Capability
from zcli_core.backplane.envelope import Envelope, Kind
from zcli_core.backplane.link import ALL, Link, LinkCounters, room_channel
from zcli_core.errors import BackplaneFailure, FailureKind
from zcli_core.plugins.contract import Context
from zcli_core.plugins.records import BACKPLANE, SERVICE
from zcli_core.websocket.publisher import Publisher
from zcli_core.websocket.server_link import ServerLink

if TYPE_CHECKING:
    from zcli_core.backplane.contract import Backplane
    from zcli_core.config import Config
    from zcli_core.plugins.host import PluginHost
    from zcli_core.types import BackplaneMetrics
    from zcli_core.websocket.contract import Message
    from zcli_core.websocket.loop_bridge import LoopBridge
    from zcli_core.websocket.recipients import Recipients

_T = TypeVar("_T")

#: Publishes something with a link, and returns how many other processes took it.
Publication = Callable[["Link"], Coroutine[Any, Any, "int | None"]]

#: Most channels on which one message is published. A message for more rooms goes to all servers once.
_MOST_CHANNELS = 32
_KINDS: tuple[FailureKind, ...] = get_args(FailureKind)


def start_advice(host: PluginHost, name: str, kind: FailureKind) -> str:
    """Return what to do about an engine that is down; empty for other failures, and without a service of that name."""
    if kind != "down" or name not in host.providers(SERVICE):
        return ""
    return f"start the engine, for example with 'zcli services start {name}'"


class ProcessLinks:
    """The links of one ``zCLI`` object. Every method may be called from any thread, unless it says otherwise."""

    def __init__(self, config: Config, host: PluginHost, log: logging.Logger) -> None:
        self._config = config
        self._host = host
        self._log = log
        self._made: Backplane | None = None
        self._is_remote: bool | None = None
        self._waiting: dict[str, tuple[Callable[[], None], ...]] = {}
        self.after_fork()

    def after_fork(self) -> None:
        """Forget all links. The child has none of the threads, and its messages must reach the parent's clients."""
        self._lock = threading.RLock()
        self._origin = secrets.token_bytes(8)
        self._numbers = itertools.count(1)
        self._servers: tuple[ServerLink, ...] = ()
        self._publisher: Publisher | None = None
        self._closed = False
        self._ended = LinkCounters()
        #: Whether there was a link.
        self._used = False

    @property
    def name(self) -> str:
        """The name of the backplane."""
        return self._config.websocket.backplane

    @property
    def backplane(self) -> Backplane:
        """The backplane that ``websocket.backplane`` selects.

        Raises:
            ConfigError: It cannot be made.
        """
        with self._lock:
            if self._made is None:
                self._config.refuse_misspelt("backplane")
                self._made = self._host.make(BACKPLANE, Context(self._config, self._log))
            return self._made

    def check(self) -> None:
        """Make the backplane, so that an error is not raised for the first client. Raises as :attr:`backplane` does."""
        self._is_remote = Capability.REMOTE in self.backplane.capabilities

    @property
    def is_remote(self) -> bool:
        """Whether there is a backplane that reaches other processes."""
        if self._is_remote is None:
            self.check()
        return bool(self._is_remote)

    # --- the link of a server ---

    def make_server_link(self, process: str, bridge: LoopBridge) -> ServerLink | None:
        """Make the link of a server, inside its event loop; None without a backplane that reaches other processes.

        Args:
            process: Identifier of the server in presence.
            bridge: Runs coroutines in the event loop.
        """
        if not self.is_remote:
            return None
        link = ServerLink(bridge, self._forget, self._woken)
        link.link = self._make_link(process, link.receive)
        with self._lock:
            self._servers = (*self._servers, link)
        return link

    async def begin(self, link: ServerLink) -> None:
        """Connect the link of a server, and with ``backplane.required`` wait until it is proven.

        Raises:
            BackplaneFailure: The engine cannot be used. The link is closed.
        """
        required = self._config.backplane.required
        link.link.start(required)
        if required:
            await self.prove(link)

    async def prove(self, link: ServerLink) -> None:
        """Wait until the link of a server is proven.

        Raises:
            BackplaneFailure: The engine cannot be used. The link is closed.
        """
        try:
            await link.link.proven()
        except BaseException as error:
            await link.close()
            if isinstance(error, BackplaneFailure):
                raise self._explain(error.kind, link.link.located(error)) from None
            raise

    def _forget(self, link: ServerLink) -> None:
        with self._lock:
            if link in self._servers:
                self._servers = tuple(each for each in self._servers if each is not link)
                self._ended.add(link.link.counters)

    def _make_link(self, process: str, receive: Callable[[str, Envelope], None] | None) -> Link:
        settings = self._config.backplane
        self._used = True
        return Link(
            self.backplane,
            settings,
            process=process,
            name=self.name,
            max_message=settings.max_message or self._config.websocket.max_size,
            origin=self._origin,
            receive=receive,
            changed=self._observer(),
            log=self._log,
        )

    def _observer(self) -> Callable[[Literal["up", "down"], BackplaneFailure | None], None] | None:
        notify = self._host.notifier("zcli_backplane_changed", self._log)
        context = Context(self._config, self._log)
        return notify and (lambda state, failure: notify(state, failure, context))

    def _explain(self, kind: FailureKind, cause: str) -> BackplaneFailure:
        """Return the error of a server that does not start, because ``backplane.required`` is on."""
        advice = start_advice(self._host, self.name, kind)
        start = f"{advice}, or " if advice else ""
        required = self._config.explain("backplane.required")
        where = "the default" if required.layer == "defaults" else required.origin
        return BackplaneFailure(
            kind,
            f"cannot use the backplane {self.name!r} (websocket.backplane, "
            f"{self._config.explain('websocket.backplane').origin}): {cause}; {start}set backplane.required to false, "
            f"which is on ({where}), to start without it",
        )

    # --- publishing ---

    def message(self, message: Message, to: Recipients | None, without: tuple[str, ...]) -> Publication:
        """Return what publishes a message once, for the clients of other processes. Give it to :meth:`run`.

        It returns the number of other processes that took it, None if the engine does not say so, and raises
        BackplaneFailure if it was not published.

        Args:
            message: The message.
            to: Its rooms; None for all clients.
            without: Rooms of identities whose clients do not get it.
        """
        return self._publication(Envelope(Kind.MESSAGE, self._origin, next(self._numbers), message, without), to)

    def disconnection(self, to: Recipients, code: int, reason: str) -> Publication:
        """Return what closes the connections of clients in other processes; see :meth:`message`."""
        return self._publication(Envelope(Kind.DISCONNECT, self._origin, next(self._numbers), reason, code=code), to)

    def waking(self, topic: str) -> Publication:
        """Return what calls the functions of other processes that wait for a topic; see :meth:`message`."""
        return self._publication(Envelope(Kind.WAKE, self._origin, next(self._numbers), topic), None)

    def _publication(self, envelope: Envelope, to: Recipients | None) -> Publication:
        rooms = () if to is None else to.rooms
        if len(rooms) > 1:
            envelope = envelope._replace(rooms=rooms)
        # Each of the messages for several rooms names all of them.
        channels = tuple(map(room_channel, rooms)) if 0 < len(rooms) <= _MOST_CHANNELS else (ALL,)

        async def others(published: Coroutine[Any, Any, int | None]) -> int | None:
            count = await published
            if count is None or len(rooms) > 1:
                return None
            own = sum(server.link.is_subscribed(channels[0]) for server in self._servers)
            return max(count - own, 0)

        # The message is on its way when this returns, so that later ones do not overtake it.
        return lambda link: others(link.publish(envelope, *channels))

    def link_here(self) -> Link | None:
        """Return the link of a server in the running event loop, if it is up; otherwise None."""
        running = asyncio._get_running_loop()
        return next((each.link for each in self._usable() if each.bridge.loop is running and each.link.is_up), None)

    def _usable(self) -> list[ServerLink]:
        """Return the links that are not closing. An event loop that was stopped and not closed would run no call."""
        return [each for each in self._servers if not each.is_closing and each.bridge.loop.is_running()]

    def run(self, call: Callable[[Link], Coroutine[Any, Any, _T]]) -> Future[_T]:
        """Call a coroutine function with the link of a server, or else with the one that only publishes."""
        for server in sorted(self._usable(), key=lambda each: not each.link.is_up):
            future = server.bridge.run(call, server.link)
            if not future.cancelled():
                return future
        with self._lock:
            if self._closed:
                failed: Future[_T] = Future()
                failed.set_exception(BackplaneFailure("down", "this zCLI object is closed"))
                return failed
            if self._publisher is None:
                self._publisher = Publisher(
                    lambda: self._make_link(secrets.token_hex(8), None), self._config, self._log
                )
            return self._publisher.run(call)

    def close(self) -> None:
        """End the link that only publishes, after what waits was published. Servers end their links themselves."""
        with self._lock:
            self._closed = True
            publisher, self._publisher = self._publisher, None
        if publisher is not None:
            publisher.close()

    # --- waking ---

    def wait_for(self, topic: str, function: Callable[[], None]) -> None:
        """Call a function when another process wakes those that wait for a topic."""
        with self._lock:
            self._waiting[topic] = (*self._waiting.get(topic, ()), function)

    def _woken(self, topic: str) -> None:
        for function in self._waiting.get(topic, ()):
            try:
                function()
            except Exception:  # noqa: BLE001 - the link and other plugins go on
                self._log.exception("a function that waits for %r (websocket.on_wake) has failed", topic)

    # --- state ---

    def metrics(self) -> BackplaneMetrics | None:
        """Return what all links have done, also those that have ended; None if there was no link."""
        total = LinkCounters()
        with self._lock:
            links = [server.link for server in self._servers]
            if self._publisher is not None and self._publisher.link is not None:
                links.append(self._publisher.link)
            total.add(self._ended)
        for link in links:
            total.add(link.counters)
        if not self._used:
            return None
        probes = [seconds for link in links if (seconds := link.counters.probe_seconds) is not None]
        return {
            "up": bool(links) and all(link.is_up for link in links),
            "probe_seconds": max(probes, default=None),
            "published": total.published,
            "failed": {kind: total.failed.get(kind, 0) for kind in _KINDS},
            "received": total.received,
            "invalid": total.ignored_invalid,
            "lost": {kind: total.lost.get(kind, 0) for kind in _KINDS},
            "reconnects": total.reconnects,
            "queued_bytes": sum(link.queued for link in links),
        }

"""What clients miss when an engine or the path to it fails: ``python -m tests.benchmarks.faults [FAULT...]``.

Each system runs as two server processes, each with its own relay to the engine. A client of the first publishes 20
messages a second, each in a task of its own, so that no publish delays the next one. A client of the second counts what
arrives. Prints one table in Markdown:

- deaf: longest time without a new message, in seconds, less the normal distance of the messages
- lost: messages that never arrived; twice: messages that arrived again; late: messages that took more than 2 s
- closed: how often the server closed the connections of the two clients, which then connect again
- outage: what the fault itself took, in seconds, as measured

Takes about three minutes. All systems run at the same time, because the load is small.
"""

from __future__ import annotations

import contextlib
import re
import statistics
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from websockets.exceptions import WebSocketException
from websockets.sync.client import ClientConnection, connect

from tests.benchmarks import scale_load as load
from tests.broken_engines import Engine, Relay, engine, url_of

#: The systems: a peer of scale_peers and its engine.
SYSTEMS = (
    ("zcli", "redis"),
    ("zcli", "nats"),
    ("python-socketio", "redis"),
    ("channels_redis core", "redis"),
    ("channels_redis pubsub", "redis"),
)

DISTANCE = 0.05
LATE = 2.0
WARM_UP = 2.0


class Stage:
    """What a fault can act on."""

    def __init__(self, running: Engine, relays: tuple[Relay, Relay], say: Callable[[str], None]) -> None:
        self.engine = running
        self.relays = relays
        self.say = say


def killed(seconds: float) -> Callable[[Stage], None]:
    """The engine is killed, and started again after that time."""

    def act(stage: Stage) -> None:
        stage.engine.kill()
        time.sleep(seconds)
        stage.engine.start()

    return act


def frozen(stage: Stage) -> None:
    """The engine is stopped with SIGSTOP for 12 s."""
    stage.engine.freeze()
    time.sleep(12)
    stage.engine.thaw()


def silent(stage: Stage) -> None:
    """The receiver's connections carry nothing more, and stay open. New connections work."""
    stage.relays[1].silence()


def cut(stage: Stage) -> None:
    """The receiver's path is too slow, so that the engine cuts it off."""
    stage.relays[1].pause()
    for _ in range(40):
        stage.say("Lhall|262144")
        time.sleep(0.02)
    time.sleep(1)
    stage.relays[1].resume()


def huge(stage: Stage) -> None:
    """One message of 33 MB is published: more than Redis' default limit for a subscriber."""
    stage.say("Lhall|34603008")


class Fault(NamedTuple):
    """A fault, and how long the script watches after it."""

    name: str
    act: Callable[[Stage], None]
    watch: float
    small_buffers: bool = False


FAULTS = {
    "killed-2": Fault("killed, back after 2 s", killed(2), 12),
    "killed-12": Fault("killed, back after 12 s", killed(12), 15),
    "frozen-12": Fault("frozen (SIGSTOP) 12 s", frozen, 15),
    "silent": Fault("path silent, new connections work", silent, 30),
    "cut": Fault("cut off for being slow", cut, 12, small_buffers=True),
    "huge": Fault("one message of 33 MB", huge, 15),
}


class Outcome(NamedTuple):
    """What one run measured."""

    outage: float
    deaf: float
    lost: int
    twice: int
    late: int
    closed: int
    ended: bool  #: the observation ended before a message arrived again

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells of the table."""
        deaf = f"> {self.deaf:.1f}" if self.ended else f"{self.deaf:.1f}"
        return f"{self.outage:.1f}", deaf, str(self.lost), str(self.twice), str(self.late), str(self.closed)


class ReconnectingClient:
    """A client that connects again after a pause of 0.2 s, and joins its room again, as a browser's script does."""

    def __init__(self, server: load.Server, room: str | None = None) -> None:
        self.arrivals: list[tuple[int, float]] = []
        self.closed = -1
        self._server = server
        self._dialect = load.dialect_of(server.name)
        self._room = room
        self._connection: ClientConnection | None = None
        self._lock = threading.Lock()
        self._ready = threading.Event()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._live, daemon=True)

    def __enter__(self) -> ReconnectingClient:
        self._thread.start()
        if not self._ready.wait(30):
            raise RuntimeError(f"a client could not connect to {self._server.name}")
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._connection is not None:
            self._connection.close()
        self._thread.join(20)

    def say(self, text: str) -> None:
        """Send a text; it is lost if the client is not connected."""
        with self._lock, contextlib.suppress(WebSocketException, OSError):
            if self._connection is not None and self._ready.is_set():
                self._connection.send(self._dialect.wrap(text))

    def _live(self) -> None:
        while not self._over.is_set():
            with contextlib.suppress(WebSocketException, OSError, TimeoutError):
                self._one_connection()
            self._ready.clear()
            self._over.wait(0.2)

    def _one_connection(self) -> None:
        url = f"ws://{load.LOOPBACK}:{self._server.port}{self._dialect.path}"
        with connect(url, proxy=None, max_size=None, ping_interval=None, compression=None) as connection:
            if self._dialect.hello:
                connection.recv(timeout=20)
                connection.send(self._dialect.hello)
                connection.recv(timeout=20)
            if self._room is not None:
                connection.send(self._dialect.wrap(f"J{self._room}"))
                while "joined" not in str(connection.recv(timeout=60)[:40]):
                    pass
            self._connection = connection
            self.closed += 1
            self._ready.set()
            for message in connection:
                if found := re.search(r"#(\d+)#", str(message[:100])):
                    self.arrivals.append((int(found[1]), time.monotonic()))


def run(name: str, kind: str, fault: Fault) -> Outcome:
    """Run one system through one fault."""
    with contextlib.ExitStack() as stack:
        running = stack.enter_context(engine(kind, fault.small_buffers))
        relays = (stack.enter_context(Relay(running.port)), stack.enter_context(Relay(running.port)))
        urls = [url_of(kind, relay.port) for relay in relays]
        publisher, receiver = (load.start_server(name, url) for url in urls)
        stack.callback(load.end_server, publisher)
        stack.callback(load.end_server, receiver)
        speaker = stack.enter_context(ReconnectingClient(publisher))
        hearer = stack.enter_context(ReconnectingClient(receiver, "hall"))
        done, sent = threading.Event(), dict[int, float]()

        def publish() -> None:
            number, at = 0, time.monotonic()
            while not done.is_set():
                sent[number] = time.monotonic()
                speaker.say(f"Thall|#{number}#")
                number += 1
                at += DISTANCE
                done.wait(max(0.0, at - time.monotonic()))

        threading.Thread(target=publish, daemon=True).start()
        time.sleep(WARM_UP)
        if not hearer.arrivals:
            raise RuntimeError(f"{name} on {kind} delivers nothing, even without a fault")
        began = time.monotonic()
        fault.act(Stage(running, relays, speaker.say))
        outage = time.monotonic() - began
        time.sleep(fault.watch)
        done.set()
        time.sleep(3)
        return measured(sent, hearer.arrivals[:], began, outage, speaker.closed + hearer.closed)


def measured(
    sent: dict[int, float], arrivals: list[tuple[int, float]], began: float, outage: float, closed: int
) -> Outcome:
    """Compare what was published with what arrived."""
    first: dict[int, float] = {}
    for number, at in arrivals:
        first.setdefault(number, at)
    counted = {number: at for number, at in sent.items() if at >= began - 0.5}
    ends = max(sent.values())
    times = sorted({*(at for at in first.values() if at >= began - 0.5), ends})
    gaps = [after - before for before, after in zip([began, *times], times, strict=False)]
    return Outcome(
        outage=outage,
        deaf=max(max(gaps) - DISTANCE, 0.0),
        lost=sum(number not in first for number in counted),
        twice=len(arrivals) - len(first),
        late=sum(first[number] - at > LATE for number, at in counted.items() if number in first),
        closed=closed,
        ended=not any(at > ends - 1 for at in first.values()),
    )


def worst(outcomes: list[Outcome]) -> Outcome:
    """Return the medians of lost and late, and the worst of deaf and twice."""
    return Outcome(
        statistics.median(each.outage for each in outcomes),
        max(each.deaf for each in outcomes),
        round(statistics.median(each.lost for each in outcomes)),
        max(each.twice for each in outcomes),
        round(statistics.median(each.late for each in outcomes)),
        max(each.closed for each in outcomes),
        any(each.ended for each in outcomes),
    )


def main() -> None:
    """Run the faults that the command line names, or all, and print the table."""
    arguments = sys.argv[1:]
    turns = int(arguments.pop(0).removeprefix("x")) if arguments and arguments[0].startswith("x") else 1
    wanted = arguments or list(FAULTS)
    print("| fault | system | outage s | deaf s | lost | twice | late | closed |")
    print("|---|---|---:|---:|---:|---:|---:|---:|", flush=True)
    for key in wanted:
        with ThreadPoolExecutor(len(SYSTEMS)) as pool:
            jobs = [pool.submit(_turns, name, kind, FAULTS[key], turns) for name, kind in SYSTEMS]
            for (name, kind), job in zip(SYSTEMS, jobs, strict=True):
                try:
                    cells = job.result().cells
                except Exception as error:  # the other systems are measured all the same
                    cells = (f"not measured: {error!r}", "", "", "", "", "")
                print("| " + " | ".join([FAULTS[key].name, f"{name}, {kind}", *cells]) + " |", flush=True)


def _turns(name: str, kind: str, fault: Fault, turns: int) -> Outcome:
    return worst([run(name, kind, fault) for _ in range(turns)])


if __name__ == "__main__":
    main()

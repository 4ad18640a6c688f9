"""``zcli doctor`` and the backplane: what it reports of an engine that works, and of one that does not."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from installations import Site
from needs import needs
from service_servers import free_ports, nats, nats_program, redis

Run = Callable[..., Any]

#: A backplane whose engine is in this process: it brings back what is published, and has two processes.
ENGINE = """
from zcli_core.backplane.contract import Backplane, Capability, EngineConnection, EngineReport
from zcli_core.errors import BackplaneFailure

class Connection(EngineConnection):
    def __init__(self, process, sink):
        self.process, self.sink = process, sink
    async def subscribe(self, channels):
        self.channels = set(channels)
    async def unsubscribe(self, channels):
        pass
    async def publish(self, channel, data):
        if {comes_back} and channel in self.channels:
            self.sink.message(channel, data)
    async def close(self):
        pass
    async def report(self, largest_message):
        {report}
    async def beat(self, seconds):
        pass
    async def processes(self):
        return ("a", "b", self.process)

class Engine(Backplane):
    capabilities = {capabilities}
    address = "engine://127.0.0.1:1"
    async def connect(self, process, sink):
        {connect}
        return Connection(process, sink)

@hookimpl
def zcli_backplanes():
    return [Provider("engine", "of a test", lambda context: Engine())]
"""
REMOTE, PRESENCE = "Capability.REMOTE", "Capability.REMOTE | Capability.PRESENCE"
REPORT = 'return EngineReport("Engine 1.2")'


@pytest.fixture
def engine(site: Site, doctor: Run) -> Run:
    """A function that installs the plugin and returns the exit status and the findings about the backplane."""

    def run(
        capabilities: str = REMOTE, report: str = REPORT, connect: str = "", comes_back: bool = True, **variables: str
    ) -> tuple[int, list[tuple[str, str]]]:
        code = ENGINE.format(capabilities=capabilities, report=report, connect=connect or "pass", comes_back=comes_back)
        site.plugin("zcli_engine", code)
        status, found = doctor(WEBSOCKET_BACKPLANE="engine", WEBSOCKET_PORT="0", **variables)
        return status, found["backplane"]

    return run


def test_doctor_backplane_local_has_no_engine(doctor: Run) -> None:
    """There is nothing to reach."""
    assert doctor(WEBSOCKET_PORT="0")[1]["backplane"] == [
        ("ok", "local: no engine; messages reach the clients of one process only")
    ]


@pytest.mark.parametrize(
    ("capabilities", "others"),
    [(PRESENCE, "2 other processes"), (REMOTE, "the number of other processes is unknown")],
)
def test_doctor_backplane_engine_is_described(engine: Run, capabilities: str, others: str) -> None:
    """Engine, version, round trip, namespace and the other processes."""
    status, found = engine(capabilities, ZCLI_BACKPLANE_NAMESPACE="shop")
    assert (status, [state for state, _ in found]) == (0, ["ok"])
    assert re.fullmatch(
        r"engine at engine://127\.0\.0\.1:1: a probe came back after \d+\.\d ms; Engine 1\.2, namespace 'shop', "
        + re.escape(others),
        found[0][1],
    )


@pytest.fixture(params=["redis", "nats"])
def real_engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, int]]:
    """The name of a backplane and the port of its engine."""
    with contextlib.ExitStack() as stack:
        if request.param == "redis":
            yield "redis", stack.enter_context(redis(needs("redis-server", "redis-server"), tmp_path))
        else:
            yield "nats", stack.enter_context(nats(nats_program(), tmp_path))[0]


def test_doctor_backplane_real_engine_is_described(doctor: Run, real_engine: tuple[str, int]) -> None:
    """Its limit is compared with the largest message."""
    name, port = real_engine
    variables = {"WEBSOCKET_BACKPLANE": name, "WEBSOCKET_PORT": "0", f"ZCLI_SERVICES_{name.upper()}_PORT": str(port)}
    for size, states in (("100000", ["ok"]), ("100000000", ["warning", "ok"])):
        status, found = doctor(**variables, WEBSOCKET_MAX_SIZE=size)
        assert (status, [state for state, _ in found["backplane"]]) == (0, states), found["backplane"]
        assert re.search(
            rf"127\.0\.0\.1:{port}: a probe came back after [\d.]+ ms; (Redis|NATS) [\d.]+, namespace 'zcli', "
            "(no other processes|the number of other processes is unknown)",
            found["backplane"][-1][1],
        )


def test_doctor_backplane_engine_that_is_down_is_wrong(doctor: Run) -> None:
    """The finding has the address, once."""
    for name in ("redis", "nats"):
        port = str(free_ports(1)[0])
        status, found = doctor(WEBSOCKET_BACKPLANE=name, **{f"ZCLI_SERVICES_{name.upper()}_PORT": port})
        ((state, detail),) = found["backplane"]
        assert (status, state, detail.count(f"127.0.0.1:{port}")) == (1, "wrong", 1), detail
        assert f"127.0.0.1:{port}: cannot connect: Connection refused; start the engine" in detail
        assert f"'zcli services start {name}'" in detail


def test_doctor_backplane_misspelt_is_one_line(doctor: Run) -> None:
    """The names that are installed follow on the same line."""
    status, found = doctor(ZCLI_WEBSOCKET_BACKPLANE="redsi")
    wrong = [detail for state, detail in found["configuration"] if state == "wrong"]
    assert status == 1
    assert [detail.partition("; did you mean ")[2] for detail in wrong] == ["'redis'?; installed: local, nats, redis"]


def test_doctor_short_variable_misspelt_is_wrong(doctor: Run) -> None:
    """Other software may have set it, so it is a warning at first, but the server does not start."""
    status, found = doctor(WEBSOCKET_BACKPLANE="redsi", WEBSOCKET_TRANSPORT="wsprot", WEBSOCKET_PORT="0")
    assert status == 1
    for check, name in (("backplane", "redsi"), ("providers", "wsprot")):
        for place, state in (("configuration", "warning"), (check, "wrong")):
            assert [each for each, detail in found[place] if repr(name) in detail] == [state], found[place]


def test_doctor_backplane_default_missing_is_a_warning(doctor: Run) -> None:
    """It matters only to a script that serves."""
    status, found = doctor(ZCLI_PLUGINS_DISABLE="zcli_local", WEBSOCKET_PORT="0")
    assert (status, [state for state, _ in found["backplane"]]) == (0, ["warning"])


def test_doctor_backplane_problem_is_a_warning(engine: Run) -> None:
    """The engine's plugin gets the size of the largest message."""
    report = 'return EngineReport("Engine 1.2", (f"the limit is too small for {largest_message} bytes\\x1b[2J",))'
    status, found = engine(report=report, WEBSOCKET_MAX_SIZE="5000")
    assert status == 0
    assert found[0] == ("warning", r"engine at engine://127.0.0.1:1: the limit is too small for 5000 bytes\x1b[2J")
    assert found[1][0] == "ok"


@pytest.mark.parametrize(
    ("required", "status", "state", "consequence"),
    [
        ("yes", 1, "wrong", "does not start without it (backplane.required)"),
        ("no", 0, "warning", "starts without it, and is not ready"),
    ],
)
def test_doctor_backplane_down_is_wrong(engine: Run, required: str, status: int, state: str, consequence: str) -> None:
    """Because the server would not start; without ``backplane.required`` it is a warning."""
    connect = 'raise BackplaneFailure("refused", "wrong password")'
    assert engine(connect=connect, ZCLI_BACKPLANE_REQUIRED=required) == (
        status,
        [(state, f"engine at engine://127.0.0.1:1: wrong password; the WebSocket server {consequence}")],
    )


def test_doctor_backplane_deaf_is_wrong(engine: Run) -> None:
    """An engine that confirms everything and brings nothing back."""
    status, found = engine(comes_back=False, ZCLI_BACKPLANE_PROBE_TIMEOUT="0.05")
    assert (status, found[0][0]) == (1, "wrong")


def test_doctor_backplane_unknown_report_is_a_warning(engine: Run) -> None:
    """Some proxies forbid the commands that it needs."""
    status, found = engine(report='raise BackplaneFailure("refused", "no permission for INFO")')
    assert (status, found[0][0]) == (0, "warning")
    assert "a probe came back" in found[0][1]
    assert "cannot be examined: no permission for INFO" in found[0][1]

"""The contract suite skips the tests of what a transport does not promise, and only these."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from installations import clean_environment

from zcli_core.testing import WebSocketTransportContract
from zcli_core.testing.websocket.suite import missing_capability, requirements, requires
from zcli_core.websocket.contract import Capability

EVERYTHING = frozenset(Capability)
TESTS = {name: getattr(WebSocketTransportContract, name) for name in dir(WebSocketTransportContract) if "test_" in name}

#: A transport that never sends a ping and says so, and one that promises everything.
SUITE = """
import zcli_wsproto
from dataclasses import replace
from zcli_core.testing.websocket.keepalive import KeepaliveTests
from zcli_core.websocket.contract import Capability

class Transport:
    def __init__(self, context):
        self._inner = zcli_wsproto.zcli_websocket_transports()[0].factory(context)

    async def listen(self, endpoint, acceptor, limits):
        return await self._inner.listen(endpoint, acceptor, replace(limits, ping_interval=0))

class Honest(Transport):
    capabilities = frozenset(Capability) - {Capability.PINGS}

class TestHonest(KeepaliveTests):
    transport = Honest

class TestPromisesEverything(KeepaliveTests):
    transport = Transport
"""


@requires(Capability.PINGS)
def pings() -> None:
    """A test that needs pings."""


@requires(Capability.EXACT_LIMITS, size=[1, 2], way=["whole"])
@requires(Capability.INVALID_FRAMES, size=[3])
def some() -> None:
    """A test with parameters."""


@pytest.mark.parametrize("missing", Capability)
def test_missing_capability_skips_only_its_tests(missing: Capability) -> None:
    """A test is skipped if one of its requirements is missing, whatever its parameters are."""
    assert missing_capability(pings, {"x": 1}, EVERYTHING) is None
    expected = missing if missing is Capability.PINGS else None
    assert missing_capability(pings, {}, EVERYTHING - {missing}) is expected


def test_missing_capability_with_cases_skips_these() -> None:
    """Every named parameter has to have one of the values."""
    without = EVERYTHING - {Capability.EXACT_LIMITS}
    assert missing_capability(some, {"size": 2, "way": "whole"}, without) is Capability.EXACT_LIMITS
    assert missing_capability(some, {"size": 2, "way": "bytes"}, without) is None
    assert missing_capability(some, {"size": 3, "way": "whole"}, without) is None
    assert missing_capability(some, {"size": 3}, EVERYTHING - {Capability.INVALID_FRAMES}) is Capability.INVALID_FRAMES


@pytest.mark.parametrize("capability", Capability)
def test_capability_has_tests_in_the_suite(capability: Capability) -> None:
    """No capability is without a test, and most tests need none."""
    needed = [{requirement.capability for requirement in requirements(test)} for test in TESTS.values()]
    assert any(capability in each for each in needed)
    assert sum(not each for each in needed) > len(needed) / 2


@pytest.mark.slow
def test_suite_skips_by_name_or_fails(tmp_path: Path) -> None:
    """Without the promise, the tests are skipped with the reason; with it, a transport without pings fails them."""
    (tmp_path / "test_mine.py").write_text(SUITE)
    environment = clean_environment(os.environ, tmp_path)
    environment["PYTHONPATH"] = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", "-k", "sends_pongs_stays or interval_0"],
        env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert "the transport does not promise pings and latency" in done.stdout, done.stdout + done.stderr
    assert "FAILED test_mine.py::TestPromisesEverything::test_client_that_sends_pongs_stays" in done.stdout
    assert "1 failed, 2 passed, 1 skipped" in done.stdout

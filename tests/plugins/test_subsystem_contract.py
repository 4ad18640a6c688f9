"""The subsystems of zBifrost pass the contract suite; subsystems with a planted fault fail it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from zcli_bifrost import zcli_subsystems

from zcli_core.testing import SubsystemContract

WALKER, BIFROST = zcli_subsystems()


class TestWalker(SubsystemContract):
    """``z.walker``."""

    subsystem = WALKER


class TestBifrost(SubsystemContract):
    """``z.bifrost``."""

    subsystem = BIFROST


#: The test that finds each fault of broken_subsystems.py; other tests may find it as well.
FINDS = {
    "KeepsAThread": "test_close_ends_its_threads",
    "FailsToClose": "test_made_subsystem_can_be_closed",
    "CloseIsACoroutine": "test_made_subsystem_can_be_closed",
    "CannotBeClosed": "test_made_subsystem_can_be_closed",
    "WantsTheMainThread": "test_made_in_any_thread",
    "RunsAnEventLoop": "test_made_in_an_event_loop",
    "ShowsASecret": "test_repr_shows_no_secret",
    "IsShared": "test_applications_have_subsystems_of_their_own",
    "HasATakenName": "test_provider_can_be_an_attribute",
    "SaysNotHowToInstall": "test_provider_can_be_an_attribute",
}


@pytest.mark.slow
def test_subsystem_suite_finds_every_planted_fault() -> None:
    """Each broken subsystem fails its test in a separate pytest run, and the correct one passes."""
    file = Path(__file__).with_name("broken_subsystems.py")
    tests = [f"{file}::Test{name}::{test}" for name, test in FINDS.items()]
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-rf", "--tb=no", "-p", "no:cacheprovider", "-W", "ignore"]
    done = subprocess.run(
        [*command, *tests, f"{file}::TestIsRight"],
        cwd=file.parents[2],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    failed = set(re.findall(r"^FAILED .*::Test(\w+)::(\w+)", done.stdout, re.MULTILINE))
    assert failed == set(FINDS.items()), done.stdout + done.stderr
    assert " error" not in done.stdout

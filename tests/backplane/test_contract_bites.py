"""The contract suite of backplanes finds what is wrong with a backplane."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

#: The test that finds each fault of broken_backplanes.py; other tests may find it as well.
FINDS = {
    "ConfirmsTooEarly": "test_subscribe_confirmed_message_arrives",
    "MatchesPatterns": "test_publish_other_channel_does_not_arrive",
    "KeepsSubscriptions": "test_unsubscribe_ends_a_subscription",
    "StripsMessages": "test_publish_any_bytes_arrive_unchanged",
    "HidesItsOwn": "test_publish_own_messages_come_back",
    "CountsWrong": "test_publish_returns_the_count",
    "SwapsMessages": "test_publish_burst_arrives_in_order",
    "SendsTwice": "test_publish_burst_arrives_in_order",
    "WorksWhenClosed": "test_close_ends_everything",
    "ReportsItsOwnEnd": "test_close_ends_everything",
    "LeavesATask": "test_connect_again_works",
    "LeavesAThread": "test_connect_again_works",
    "ReportsTwice": "test_path_cut_is_lost_once",
    "IsNeverLost": "test_engine_killed_is_lost_once",
    "PublishesAgain": "test_engine_frozen_message_arrives_once",
    "WaitsForTheEngine": "test_close_frozen_engine_returns",
    "RaisesAnotherError": "test_engine_killed_is_lost_once",
    "EntersTwice": "test_presence_enter_twice_is_once",
    "IsAlwaysAlive": "test_presence_silent_process_is_gone",
    "IgnoresTheLimit": "test_presence_many_members_are_complete",
}


@pytest.mark.slow
def test_backplane_suite_finds_every_planted_fault() -> None:
    """Each broken backplane fails its test in a separate pytest run."""
    file = Path(__file__).with_name("broken_backplanes.py")
    tests = [f"{file}::Test{name}::{test}" for name, test in FINDS.items()]
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-rf", "--tb=no", "-p", "no:cacheprovider"]
    command += ["-p", "no:unraisableexception"]  # what a broken backplane leaves behind must not fail the next test
    done = subprocess.run(
        [*command, *tests], cwd=file.parents[2], capture_output=True, text=True, timeout=300, check=False
    )
    failed = set(re.findall(r"^FAILED .*::Test(\w+)::(\w+)", done.stdout, re.MULTILINE))
    assert failed == set(FINDS.items()), done.stdout + done.stderr
    assert " error" not in done.stdout

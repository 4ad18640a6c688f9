"""The builtin strategies keep the auth contract; strategies that are broken on purpose do not get through the suite."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
from zcli_auth import zcli_auth_strategies

from zcli_core.testing.auth import AuthStrategyContract, make_request

TOKEN, ORIGIN = zcli_auth_strategies()


class TestToken(AuthStrategyContract):
    """The strategy ``token``."""

    strategy = TOKEN
    settings: ClassVar = {"websocket": {"token": "the-token-of-all", "tokens": {"alice": "the-token-of-alice"}}}
    accepted = (
        make_request(query="token=the-token-of-all"),
        make_request(query="token=the-token-of-alice"),
        make_request(headers={"Authorization": "Bearer the-token-of-alice"}),
        make_request(subprotocols=["bearer", "the-token-of-alice"]),
    )
    rejected = (
        make_request(query="token=the-token-of-nobody"),
        make_request(headers={"Authorization": "Bearer the-token-of-nobody"}),
        make_request(subprotocols=["bearer", "the-token-of-nobody"]),
    )


class TestOrigin(AuthStrategyContract):
    """The strategy ``origin``, which rejects nobody: the core has judged origins before."""

    strategy = ORIGIN
    settings: ClassVar = {"websocket": {"allowed_origins": ["https://example.com"]}}
    accepted = (make_request(headers={"Origin": "https://example.com"}),)


# --- the suite itself ---

#: What each of broken_strategies.py is found out by; other tests may find it as well.
FINDS = {
    "AdmitsEverybody": "test_who_shows_nothing_is_left_to_the_next_strategy",
    "AdmitsTheEmpty": "test_rubbish_identifies_nobody",
    "AdmitsPrefixes": "test_a_spoilt_credential_identifies_nobody",
    "TakesTheFirstHeader": "test_a_spoilt_credential_identifies_nobody",
    "TakesTheLastParameter": "test_a_spoilt_credential_identifies_nobody",
    "RaisesForWhatIsNotAscii": "test_rubbish_identifies_nobody",
    "QuotesTheCredential": "test_the_credential_is_shown_nowhere",
    "LogsTheCredential": "test_the_credential_is_shown_nowhere",
    "PrintsTheCredential": "test_the_credential_is_shown_nowhere",
    "NamesTheClientByItsCredential": "test_the_credential_is_shown_nowhere",
    "ClaimsTheCredential": "test_a_server_lets_the_right_ones_in",
    "ForgesTheLog": "test_rubbish_identifies_nobody",
    "FillsTheLog": "test_rubbish_identifies_nobody",
    "HasNoCause": "test_who_shows_a_wrong_credential_is_rejected_with_a_cause",
    "DeclinesTheWrong": "test_who_shows_a_wrong_credential_is_rejected_with_a_cause",
    "RejectsWhoShowsNothing": "test_who_shows_nothing_is_left_to_the_next_strategy",
    "AnswersWithABool": "test_who_shows_a_good_credential_is_identified",
    "InventsASubprotocol": "test_a_server_lets_the_right_ones_in",
    "MixesClientsUp": "test_clients_that_ask_at_once_are_kept_apart",
    "MixesTasksUp": "test_clients_that_ask_at_once_are_kept_apart",
    "BelongsToItsFirstLoop": "test_it_can_be_asked_again_after_the_server_was_restarted",
    "BlocksAllTheSame": "test_what_never_blocks_does_not_block",
    "SaysThatACoroutineNeverBlocks": "test_what_never_blocks_does_not_block",
    "Hangs": "test_rubbish_identifies_nobody",
}


@pytest.mark.slow
def test_every_fault_is_found_and_what_is_right_passes() -> None:
    """Strategies that are broken in one way each, run through the suite by a pytest of their own."""
    file = Path(__file__).with_name("broken_strategies.py")
    tests = [f"{file}::Test{name}::{test}" for name, test in FINDS.items()]
    command = [sys.executable, "-m", "pytest", "-q", "-n0", "-rf", "--tb=no", "-p", "no:cacheprovider"]
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

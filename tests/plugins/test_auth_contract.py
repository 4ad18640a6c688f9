"""The builtin strategies pass the auth contract suite; strategies with a planted fault fail it."""

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
        make_request(query="token=an-unknown-token"),
        make_request(headers={"Authorization": "Bearer an-unknown-token"}),
        make_request(subprotocols=["bearer", "an-unknown-token"]),
    )


class TestOrigin(AuthStrategyContract):
    """The strategy ``origin``, which never rejects, because the core checks origins before."""

    strategy = ORIGIN
    settings: ClassVar = {"websocket": {"allowed_origins": ["https://example.com"]}}
    accepted = (make_request(headers={"Origin": "https://example.com"}),)


# --- the suite itself ---

#: The test that finds each fault of broken_strategies.py; other tests may find it as well.
FINDS = {
    "AdmitsEveryClient": "test_authenticate_no_credential_returns_none",
    "AdmitsTheEmpty": "test_authenticate_garbage_is_not_identified",
    "AdmitsPrefixes": "test_authenticate_altered_credential_is_refused",
    "TakesTheFirstHeader": "test_authenticate_altered_credential_is_refused",
    "TakesTheLastParameter": "test_authenticate_altered_credential_is_refused",
    "RaisesForWhatIsNotAscii": "test_authenticate_garbage_is_not_identified",
    "QuotesTheCredential": "test_authenticate_credential_is_not_shown",
    "LogsTheCredential": "test_authenticate_credential_is_not_shown",
    "PrintsTheCredential": "test_authenticate_credential_is_not_shown",
    "NamesTheClientByItsCredential": "test_authenticate_credential_is_not_shown",
    "ClaimsTheCredential": "test_server_accepts_valid_credentials_only",
    "ForgesTheLog": "test_authenticate_garbage_is_not_identified",
    "FillsTheLog": "test_authenticate_garbage_is_not_identified",
    "HasNoCause": "test_authenticate_invalid_credential_is_rejected",
    "DeclinesTheWrong": "test_authenticate_invalid_credential_is_rejected",
    "RejectsWhoShowsNothing": "test_authenticate_no_credential_returns_none",
    "AnswersWithABool": "test_authenticate_valid_credential_is_identified",
    "InventsASubprotocol": "test_server_accepts_valid_credentials_only",
    "MixesClientsUp": "test_authenticate_simultaneous_clients_are_separate",
    "MixesTasksUp": "test_authenticate_simultaneous_clients_are_separate",
    "BelongsToItsFirstLoop": "test_authenticate_in_second_event_loop_works",
    "BlocksAllTheSame": "test_never_blocks_strategy_does_not_block",
    "SaysThatACoroutineNeverBlocks": "test_never_blocks_strategy_does_not_block",
    "ClosesValidClients": "test_watch_keeps_valid_clients",
    "Hangs": "test_authenticate_garbage_is_not_identified",
}


@pytest.mark.slow
def test_auth_suite_finds_every_planted_fault() -> None:
    """Each broken strategy fails its test in a separate pytest run, and the correct one passes."""
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

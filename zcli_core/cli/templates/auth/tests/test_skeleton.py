"""What is Skeleton's own: which keys open the door."""

import pytest
from zcli_core.auth.contract import Identified, Rejected, Verdict
from zcli_core.errors import ConfigError
from zcli_core.testing import make_context, make_request

from zcli_skeleton.strategy import MAX_LENGTH, make_strategy

KEYS = {"alice": "k-alice", "bob": "k-bøb"}


def judge(query: str = "", **headers: str) -> Verdict:
    """What the strategy says to a request; in names of headers ``_`` is a hyphen."""
    request = make_request(query=query, headers={name.replace("_", "-"): value for name, value in headers.items()})
    return make_strategy(make_context(skeleton={"keys": KEYS})).authenticate(request)


def test_a_key_is_taken_from_the_header_or_from_the_url() -> None:
    """Either way it tells whose it is."""
    assert judge(x_api_key="k-alice") == Identified("alice")
    assert judge("room=1&key=k-alice") == Identified("alice")
    assert judge("key=k-b%C3%B8b") == Identified("bob")


def test_without_a_key_the_next_strategy_is_asked() -> None:
    """It is neither identified nor rejected."""
    assert judge("keys=k-alice", Authorization="Bearer k-alice") is None


@pytest.mark.parametrize("key", ["", "k", "K-ALICE", "k-alice2", "a" * (MAX_LENGTH + 1), "%ff%00"])
def test_a_wrong_key_is_rejected_and_not_repeated(key: str) -> None:
    """The cause goes into the log, and a log is no place for a key."""
    verdict = judge(f"key={key}")
    assert isinstance(verdict, Rejected)
    assert len(key) < 2 or key not in verdict.cause


def test_two_keys_are_none() -> None:
    """Even the right one twice: who sends two is trying something."""
    assert isinstance(judge("key=k-alice", X_API_Key="k-alice"), Rejected)


@pytest.mark.parametrize("keys", [{}, {"alice": ""}, {"alice": "same", "bob": "same"}, {"alice": "a" * 5000}])
def test_what_could_let_nobody_in_does_not_start(keys: dict[str, str]) -> None:
    """The error names the setting, who set it, and no key."""
    with pytest.raises(ConfigError, match=r"skeleton\.keys \(") as error:
        make_strategy(make_context(skeleton={"keys": keys}))
    assert "same" not in str(error.value)

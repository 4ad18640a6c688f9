"""Which keys admit a client."""

import pytest
from zcli_core.auth.contract import Identified, Rejected, Verdict
from zcli_core.errors import ConfigError
from zcli_core.testing import make_context, make_request

from zcli_skeleton.strategy import MAX_LENGTH, make_strategy

KEYS = {"alice": "k-alice", "bob": "k-bøb"}


def authenticate(query: str = "", **headers: str) -> Verdict:
    """Return the verdict on a request; ``_`` in the name of a header stands for a hyphen."""
    request = make_request(query=query, headers={name.replace("_", "-"): value for name, value in headers.items()})
    return make_strategy(make_context(skeleton={"keys": KEYS})).authenticate(request)


def test_key_in_header_or_url_identifies() -> None:
    """The identity is the holder of the key."""
    assert authenticate(x_api_key="k-alice") == Identified("alice")
    assert authenticate("room=1&key=k-alice") == Identified("alice")
    assert authenticate("key=k-b%C3%B8b") == Identified("bob")


def test_request_without_key_returns_none() -> None:
    """The next strategy runs."""
    assert authenticate("keys=k-alice", Authorization="Bearer k-alice") is None


@pytest.mark.parametrize("key", ["", "k", "K-ALICE", "k-alice2", "a" * (MAX_LENGTH + 1), "%ff%00"])
def test_wrong_key_is_rejected(key: str) -> None:
    """The cause, which is logged, does not contain the key."""
    verdict = authenticate(f"key={key}")
    assert isinstance(verdict, Rejected)
    assert len(key) < 2 or key not in verdict.cause


def test_two_keys_are_rejected() -> None:
    """That holds for two equal keys, too."""
    assert isinstance(authenticate("key=k-alice", X_API_Key="k-alice"), Rejected)


@pytest.mark.parametrize("keys", [{}, {"alice": ""}, {"alice": "same", "bob": "same"}, {"alice": "a" * 5000}])
def test_invalid_keys_raise(keys: dict[str, str]) -> None:
    """The error names the setting and its origin, and contains no key."""
    with pytest.raises(ConfigError, match=r"skeleton\.keys \(") as error:
        make_strategy(make_context(skeleton={"keys": keys}))
    assert "same" not in str(error.value)

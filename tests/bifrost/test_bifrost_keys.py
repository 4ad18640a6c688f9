"""Keys of application users, and the names that form identities."""

from __future__ import annotations

import pytest
from zcli_bifrost.access.keys import digest_of, has_digest, id_of, is_key_id, make_key
from zcli_bifrost.access.names import name_problem, operator_identity, user_identity


def test_key_new_has_its_id_and_is_not_shown() -> None:
    """A key names its id, differs from every other, and its repr does not contain the secret."""
    key, other = make_key(), make_key()
    assert id_of(key.text.encode()) == key.id
    assert is_key_id(key.id)
    assert key.text != other.text
    assert key.text.split("_", 2)[2] not in repr(key)
    assert key.digest == digest_of(key.text.encode())


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1],
        lambda text: text + "x",
        lambda text: text * 2,
        lambda text: text.upper(),
        lambda text: f" {text}",
        lambda text: f"{text}\n",
        lambda text: text.replace("zb_", "zb__"),
        lambda text: text[3:],
        lambda text: "",
        lambda text: "zb_" + "%" * 10 + "_" + "a" * 43,
    ],
)
def test_key_other_format_has_no_id(change: object) -> None:
    """Only the exact format is looked up in the database."""
    text = change(make_key().text)  # type: ignore[operator]
    assert id_of(text.encode()) is None


def test_key_digest_matches_only_its_key() -> None:
    """A key of the same id with another secret, and a missing hash, do not match."""
    key = make_key()
    text = key.text.encode()
    other = text[:-1] + (b"A" if text[-1:] != b"A" else b"B")
    assert has_digest(text, key.digest)
    assert not has_digest(other, key.digest)
    assert not has_digest(text, None)
    assert not has_digest(text, "ä")


@pytest.mark.parametrize("name", ["alice", "bob@example.com", "o.b-c_d+e", "Łukasz", "王", "अनिल", "7", "a" * 100])
def test_name_usual_is_allowed(name: str) -> None:
    """Letters of any script, digits and the punctuation of an e-mail address."""
    assert name_problem(name) is None


@pytest.mark.parametrize(
    "name",
    [
        "", " ", "a b", "alice ", "shop/alice", "alice\n", "a\0b", "@alice", "-rf", "a:b", "a'b", 'a"b', "a%b", "a*",
        "a\u200bb", "\u202eecila", "a\u00a0b", "\ufb01sh", "A\u030angstrom", "\udc80", "a" * 101, "ä" * 51, "a\x1b[0m",
        "{a}", "a;b", "a\\b", "a\ufe0f", "a\u034fb", "a\u115f", "a\u1160", "a\u3164", "a\U000e0100",
    ],
)  # fmt: skip
def test_name_hostile_is_refused(name: str) -> None:
    """Names that have two meanings, look like another name or forge a line are not allowed."""
    problem = name_problem(name)
    assert problem
    assert problem.isprintable()


def test_identity_of_each_user_is_different() -> None:
    """Operators, and users of equal names in different apps, have identities of their own."""
    identities = [operator_identity("alice"), user_identity("shop", "alice"), user_identity("blog", "alice")]
    assert len(set(identities)) == 3
    assert all(len(user_identity("a" * 100, "b" * 100).encode()) <= 255 for _ in identities)

"""Keys of application users: ``zb_<id>_<secret>``.

The id names the key in the table, in commands and in logs. The secret has 256 random bits. Only a hash of the key is
stored.

The hash is SHA-256, which is fast. A slow hash, as for passwords, protects texts that people choose, because an
attacker who has the table can try the likely ones. No attacker can try 2^256 random secrets, and a slow hash would
let every client with a wrong key occupy the server's processor.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import re
import secrets
from typing import NamedTuple

#: Letters of an id: no capitals and no characters that look alike, because people read ids aloud.
_ID_LETTERS = "abcdefghjkmnpqrstuvwxyz23456789"
_ID_LENGTH = 10
_SECRET_BYTES = 32
PREFIX = "zb_"

_KEY = re.compile(rb"zb_([%b]{%d})_[A-Za-z0-9_-]{43}" % (_ID_LETTERS.encode(), _ID_LENGTH))
_ID = re.compile(f"[{_ID_LETTERS}]{{{_ID_LENGTH}}}")

#: Compared when a key's id is not in the table, so that this takes as long as a wrong secret.
_NO_DIGEST = "0" * 64


class NewKey(NamedTuple):
    """A key that was just made. The ``repr`` does not show the text."""

    id: str
    #: The key itself. It is shown to the user once and stored nowhere.
    text: str

    @property
    def digest(self) -> str:
        """What the table stores."""
        return digest_of(self.text.encode("ascii"))

    def __repr__(self) -> str:
        return f"<NewKey {self.id}>"


def make_key() -> NewKey:
    """Return a new random key."""
    key_id = "".join(secrets.choice(_ID_LETTERS) for _ in range(_ID_LENGTH))
    return NewKey(key_id, f"{PREFIX}{key_id}_{secrets.token_urlsafe(_SECRET_BYTES)}")


def id_of(key: bytes) -> str | None:
    """Return the id of a key that a client has sent; None if the text does not have the format of a key."""
    found = _KEY.fullmatch(key)
    return None if found is None else found[1].decode("ascii")


def is_key_id(text: str) -> bool:
    """Return whether a text has the format of a key's id."""
    return _ID.fullmatch(text) is not None


def digest_of(key: bytes) -> str:
    """Return the hash of a key, in hexadecimal digits."""
    return hashlib.sha256(key).hexdigest()


def has_digest(key: bytes, digest: str | None) -> bool:
    """Return whether a key has the stored hash, in constant time. ``None``: no hash is stored, which takes as long."""
    stored = _NO_DIGEST if digest is None else digest
    matches = hmac.compare_digest(digest_of(key).encode(), stored.encode())
    return matches and digest is not None


class KeyRecord(NamedTuple):
    """One key. Times are seconds since the epoch."""

    id: str
    app: str
    name: str
    role: str
    digest: str
    created_at: float
    expires_at: float | None
    revoked_at: float | None

    def problem(self, now: float) -> str | None:
        """Return why the key is not valid, as the end of a sentence; None if it is valid."""
        if self.revoked_at is not None:
            return f"was revoked at {_utc(self.revoked_at)}"
        if self.expires_at is not None and self.expires_at <= now:
            return f"expired at {_utc(self.expires_at)}"
        return None

    def __repr__(self) -> str:
        return f"<KeyRecord {self.id} of {self.app}/{self.name}>"


def _utc(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).isoformat(timespec="seconds")

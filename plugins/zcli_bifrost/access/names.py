"""Names of users, apps and roles, and the identities that they form.

An identity is the owner of rows and the name of a room, so two users must never have the same one, in no tier.
"""

from __future__ import annotations

import re
import unicodedata

#: The app of a user for whom no app was named.
DEFAULT_APP = "default"
#: Longest name in bytes of UTF-8: an identity with two names must fit into the name of a room (255 bytes).
MAX_BYTES = 100
_PUNCTUATION = frozenset("._-+@")
#: Letters and marks that are invisible: those of Default_Ignorable_Code_Point (Unicode, DerivedCoreProperties.txt).
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]")


def name_problem(name: str) -> str | None:
    """Return why a text cannot be the name of a user, an app or a role, as the end of a sentence; None if it can.

    Without slashes, spaces and invisible characters, names that look the same are the same, and an identity has only
    one meaning.
    """
    if not name:
        return "it is empty"
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return "it contains a character that is not valid Unicode"
    if size > MAX_BYTES:
        return f"it has {size} bytes; at most {MAX_BYTES} are allowed"
    if unicodedata.normalize("NFKC", name) != name:
        return f"it is not in the normal form NFKC; use {unicodedata.normalize('NFKC', name)!r}"
    if not name[0].isalnum():
        return "it must begin with a letter or a digit"
    wrong = next((char for char in name if not _is_allowed(char)), "")
    return f"it contains {wrong!a}; letters, digits and {' '.join(sorted(_PUNCTUATION))} are allowed" if wrong else None


def _is_allowed(char: str) -> bool:
    return char in _PUNCTUATION or (unicodedata.category(char)[0] in "LMN" and not _INVISIBLE.match(char))


def operator_identity(name: str) -> str:
    """Return the identity of an operator, who is the holder of a token in ``websocket.tokens``."""
    return f"zSession:{name}"


def user_identity(app: str, name: str) -> str:
    """Return the identity of an application's user."""
    return f"application:{app}/{name}"

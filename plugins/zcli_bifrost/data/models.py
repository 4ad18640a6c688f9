"""Models: what a table holds, what its values must be, and who may do what with its rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from zcli_bifrost.data.patterns import Pattern

#: Types of fields. A ``datetime`` is an instant: a text in RFC 3339 with an offset for clients, UTC in the database.
TYPES = ("int", "float", "text", "bool", "datetime", "json")
#: What an actor can do with rows.
ACTIONS = ("create", "read", "update", "delete")
#: In a list of roles: every client that the server has admitted, with a role or without.
EVERY_CLIENT = "*"
#: Default of a ``datetime``: the time of the request.
NOW = "now"
#: Highest length of a text that is a key or unique, in characters. PostgreSQL limits an index entry to 2704 bytes.
MAX_KEY_LENGTH = 600
#: Highest length of a text without ``max_length``, and of a ``json`` value as JSON, in characters.
MAX_LENGTH = 65_536


class Field(NamedTuple):
    """One field of a model.

    Attributes:
        name: Name of the field, and of its column.
        type: One of :data:`TYPES`.
        pk: Whether it is the key. The database makes an ``int`` key; a ``text`` key is a random one by default.
        required: Whether it always has a value. True for the key and for the owner.
        unique: Whether no two rows may have the same value: in the whole table, or among the rows of one owner.
        default: Value of a new row that does not give one, as JSON has it; None if there is none.
        minimum: Lowest value, for ``int``, ``float`` and ``datetime``.
        maximum: Highest value.
        min_length: Lowest number of characters of a text.
        max_length: Highest number of characters of a text, or of a ``json`` value as JSON.
        pattern: What the whole text must match.
        enum: The valid values.
        references: Name of the model whose key it holds.
    """

    name: str
    type: str
    pk: bool = False
    required: bool = False
    unique: Literal[False, "table", "owner"] = False
    default: Any = None
    minimum: Any = None
    maximum: Any = None
    min_length: int | None = None
    max_length: int | None = None
    pattern: Pattern | None = None
    enum: tuple[Any, ...] | None = None
    references: str | None = None


class Model(NamedTuple):
    """One model.

    Attributes:
        name: Name of the model, and of its table.
        fields: Fields by name, the key first.
        pk: Name of the key.
        access: Roles by action. None: every client may do everything. An action that is not in it is for no client.
        owner: Name of the field that holds the identity of the client that made the row. Other clients neither see nor
            change the row.
        all_rows: Roles that see and change the rows of all owners.
    """

    name: str
    fields: Mapping[str, Field]
    pk: str
    access: Mapping[str, frozenset[str]] | None = None
    owner: str | None = None
    all_rows: frozenset[str] = frozenset()


#: Models by name.
Models = Mapping[str, Model]

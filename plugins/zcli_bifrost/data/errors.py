"""The error that a client gets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

#: ``"not_found"``: there is no such model. ``"invalid"``: the request is wrong. ``"forbidden"``: the actor may not do
#: it. ``"conflict"``: another row stands in the way. ``"too_many"``: a limit is reached. ``"failed"``: the database
#: could not do it; the request may be sent again later.
ErrorCode = Literal["not_found", "invalid", "forbidden", "conflict", "too_many", "failed"]


class DataError(Exception):
    """A request that cannot be done. Code, text and fields are meant for the client.

    Attributes:
        code: Kind of the error.
        text: What is wrong, in one sentence.
        fields: What is wrong with each field of the request, by its name.
    """

    def __init__(self, code: ErrorCode, text: str, fields: Mapping[str, str] | None = None) -> None:
        super().__init__(code, text)
        self.code: ErrorCode = code
        self.text = text
        self.fields = dict(fields or {})

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"DataError({self.code!r}, {self.text!r}, {self.fields!r})"

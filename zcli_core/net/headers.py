"""Header fields, of requests and responses, HTTP's and the WebSocket server's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

# Fields of a response that have one value (RFC 9110, section 5.5), by their names in lower case. Those whose second
# value would be an attack on a server, such as Host and Origin, are not among them: there both must be seen.
_SINGLE = frozenset({
    "age",
    "content-disposition",
    "content-length",
    "content-location",
    "content-range",
    "content-type",
    "date",
    "etag",
    "expires",
    "last-modified",
    "location",
    "retry-after",
})  # fmt: skip


class Headers(Mapping[str, str]):
    """Header fields: names compare without regard to case, a name may occur more than once, order is kept.

    ``headers["name"]`` joins several values of a name with a comma (RFC 9110, section 5.3). A field that has one value,
    such as Location, is not joined: the last value counts, as section 8.3 has it for Content-Type. :meth:`get_all`
    gives the values one by one, as ``Set-Cookie`` needs, and a check for which a second value would be an attack.
    :meth:`items` gives every field, so that a name may come up twice. Values are decoded as Latin-1.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: Iterable[tuple[str, str]] = ()) -> None:
        self._fields: list[tuple[str, str]] = list(fields)

    def __getitem__(self, name: str) -> str:
        values = self.get_all(name)
        if not values:
            raise KeyError(name)
        return values[-1] if name.lower() in _SINGLE else ", ".join(values)

    def get_all(self, name: str) -> list[str]:
        """Every value of a name, in order; an empty list if there is none."""
        lowered, length = name.lower(), len(name)
        return [value for field, value in self._fields if len(field) == length and field.lower() == lowered]

    def __setitem__(self, name: str, value: str) -> None:
        """Set a name to one value, in place of any it had. Raises ValueError if it could not be sent."""
        check_header(name, value)
        self.pop(name)
        self._fields.append((name, value))

    def pop(self, name: str) -> list[str]:
        """Take a name out; the values that it had, none if it was not there."""
        values = self.get_all(name)
        if values:
            lowered = name.lower()
            self._fields = [field for field in self._fields if field[0].lower() != lowered]
        return values

    def add(self, name: str, value: str) -> None:
        """Add a field besides any of the same name. Raises ValueError if it could not be sent."""
        check_header(name, value)
        self._fields.append((name, value))

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and bool(self.get_all(name))

    def __iter__(self) -> Iterator[str]:
        names: dict[str, str] = {}
        for name, _ in self._fields:
            names.setdefault(name.lower(), name)
        return iter(names.values())

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self._fields})

    def items(self) -> list[tuple[str, str]]:  # type: ignore[override]
        """Every field in order."""
        return self._fields.copy()

    def copy(self) -> Headers:
        """An independent copy."""
        return Headers(self._fields)

    def __repr__(self) -> str:
        # Names only: values may be credentials or cookies.
        return f"<Headers {', '.join(self) or '(none)'}>"


def check_header(name: str, value: str) -> None:
    """Raise ValueError if this field cannot go into a request (RFC 9110, sections 5.1 and 5.5).

    The value is not repeated in the message: it may be a credential.
    """
    if not (isinstance(name, str) and name.isascii() and name) or not _TOKEN_CHARACTERS.issuperset(name):
        raise ValueError(f"invalid header name {name!r}: it may have letters, digits and !#$%&'*+-.^_`|~ only")
    if not isinstance(value, str):
        raise TypeError(f"the value of header {name} must be str, got {type(value).__name__}")
    if value.isascii() and value.isprintable():  # as most are
        return
    for position, character in enumerate(value):
        if (character < " " and character != "\t") or character == "\x7f":
            raise ValueError(
                f"the value of header {name} contains the control character {character!r} at position {position}"
            )
    try:
        value.encode("latin-1")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the value of header {name} contains {value[error.start]!r} at position {error.start}, "
            "which a header cannot carry: only Latin-1 characters can be sent"
        ) from None


_TOKEN_CHARACTERS = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")

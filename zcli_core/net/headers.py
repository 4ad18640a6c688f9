"""Header fields of requests and responses, for HTTP and WebSocket."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

# Response fields with a single value (RFC 9110, section 5.5), in lower case. Host and Origin are not listed: a second
# value of these may be an attack on a server, so a check must see both.
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
    """Header fields in order. Names are compared without case, and a name may occur more than once.

    ``headers["name"]`` joins several values of a name with a comma (RFC 9110, section 5.3). For fields with a single
    value, such as Location, it is the last value instead. :meth:`get_all` returns the values one by one, for
    ``Set-Cookie`` and for checks in which a second value may be an attack. :meth:`items` returns every field, so that a
    name may occur twice. Values are decoded as Latin-1.
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
        """Return every value of a name, in order."""
        lowered, length = name.lower(), len(name)
        return [value for field, value in self._fields if len(field) == length and field.lower() == lowered]

    def __setitem__(self, name: str, value: str) -> None:
        """Set a name to one value, which replaces all others. Raises as :func:`check_header` does."""
        check_header(name, value)
        self.pop(name)
        self._fields.append((name, value))

    def pop(self, name: str) -> list[str]:
        """Remove a name; return the values that it had."""
        values = self.get_all(name)
        if values:
            lowered = name.lower()
            self._fields = [field for field in self._fields if field[0].lower() != lowered]
        return values

    def add(self, name: str, value: str) -> None:
        """Add a field and keep others of the same name. Raises as :func:`check_header` does."""
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
        """Return every field in order."""
        return self._fields.copy()

    def copy(self) -> Headers:
        """Return an independent copy."""
        return Headers(self._fields)

    def __repr__(self) -> str:
        # Names only: values may be credentials or cookies.
        return f"<Headers {', '.join(self) or '(none)'}>"


def check_header(name: str, value: str) -> None:
    """Check that a field can be sent (RFC 9110, sections 5.1 and 5.5).

    Raises:
        ValueError: The name or the value has invalid characters. The message does not repeat the value, which may be a
            credential.
        TypeError: The value is not a str.
    """
    if not (isinstance(name, str) and name.isascii() and name) or not _TOKEN_CHARACTERS.issuperset(name):
        raise ValueError(f"invalid header name {name!r}: only letters, digits and !#$%&'*+-.^_`|~ are allowed")
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
            "which cannot be sent: a header may contain only Latin-1 characters"
        ) from None


_TOKEN_CHARACTERS = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")

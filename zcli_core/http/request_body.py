"""The body of a request and its Content-Type, from the arguments ``data``, ``json``, ``form`` and ``files``."""

from __future__ import annotations

import json as _json
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import IO, Any, Final

from zcli_core.http.contract import Body
from zcli_core.http.streamed_body import StreamedBody
from zcli_core.http.urls import encode_pairs
from zcli_core.http.values import Pairs

#: What may be given as ``data``. A mapping, list or tuple is sent as JSON; a str as UTF-8 text; bytes, a file opened
#: in binary mode, or an iterable of bytes as they are.
Data = (
    Mapping[str, Any] | list[Any] | tuple[Any, ...] | str | bytes | bytearray | memoryview | IO[bytes] | Iterable[bytes]
)


class Missing(Enum):
    """The default of an argument for which None is a value."""

    MISSING = "not given"

    def __repr__(self) -> str:
        return "<not given>"


#: ``json=None`` sends ``null``; without ``json`` there is no JSON body.
MISSING: Final = Missing.MISSING


def encode_body(data: Data | None, json: Any, form: Pairs | None, files: Any) -> tuple[Body, str | None]:
    """Return the body to send, and its Content-Type or None.

    Raises:
        ValueError: More than one kind of body is given, or a value cannot be encoded.
        TypeError: A value has a type that cannot be sent.
        OSError: A file cannot be read.
    """
    if data is None and json is MISSING and form is None and files is None:
        return None, None
    kinds = {
        "data": data is not None,
        "json": json is not MISSING,
        "form": form is not None,
        "files": files is not None,
    }
    given = [name for name, is_given in kinds.items() if is_given]
    if len(given) > 1 and given != ["form", "files"]:
        raise ValueError(
            f"{' and '.join(given)} were given: a request has only one body (form and files can be combined)"
        )
    if files is not None:
        from zcli_core.http.multipart import encode_files

        body = encode_files(form, files)
        return body, body.content_type
    if form is not None:
        return encode_pairs(form, "form").encode("ascii"), "application/x-www-form-urlencoded"
    if json is not MISSING:
        return _encode_json(json, "json"), "application/json"
    assert data is not None  # the only kind that is left
    return _encode_data(data)


def _encode_json(value: Any, argument: str) -> bytes:
    try:
        # NaN and Infinity are not JSON (RFC 8259, section 6): json.dumps raises ValueError for them.
        return _json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except RecursionError:
        raise ValueError(f"{argument} is nested too deeply to be encoded as JSON") from None
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{argument} cannot be encoded as JSON: {error}") from error


def _encode_data(data: Data) -> tuple[Body, str | None]:
    if isinstance(data, Mapping):
        return _encode_json(dict(data), "data"), "application/json"
    if isinstance(data, (list, tuple)):
        return _encode_json(data, "data"), "application/json"
    if isinstance(data, str):
        try:
            return data.encode(), "text/plain; charset=utf-8"
        except UnicodeEncodeError:
            raise ValueError("data contains a lone surrogate, which cannot be encoded as UTF-8") from None
    if isinstance(data, bytes):
        return data, None
    if isinstance(data, (bytearray, memoryview)):
        return bytes(data), None
    # An enum class and a set are iterable too, but are not a body.
    is_source = hasattr(data, "read") or isinstance(data, Iterable)
    if is_source and not isinstance(data, (type, set, frozenset)):
        return StreamedBody(data), None
    raise TypeError(
        f"data must be a dict or list (sent as JSON), str, bytes, a file opened in binary mode or an iterable of "
        f"bytes, got {type(data).__name__}; give any other value as json="
    )

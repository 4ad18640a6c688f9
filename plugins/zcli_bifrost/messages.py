"""The messages between a client and the server, as JSON.

A request is ``{"event": NAME, "_requestId": ID, ...}``, a response ``{"_requestId": ID, "result": ...}`` or
``{"_requestId": ID, "error": TEXT, "code": CODE, "fields": {...}}``, and everything else that the server sends
``{"event": NAME, "data": ...}``. A request without ``_requestId`` gets a response only if it fails.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import json
import math
import uuid
from collections.abc import Mapping
from typing import Any, NamedTuple

#: Largest number that JavaScript represents exactly, and the longest text, that a ``_requestId`` may be.
MAX_ID = 2**53 - 1
MAX_ID_LENGTH = 64
MAX_EVENT_LENGTH = 100

RequestId = int | str


class InvalidMessage(Exception):  # noqa: N818 - the client gets it as a response
    """A message that is not a request.

    Attributes:
        request_id: Its ``_requestId``, if that could be read; None otherwise.
    """

    def __init__(self, text: str, request_id: RequestId | None = None) -> None:
        super().__init__(text)
        self.request_id = request_id


class Request(NamedTuple):
    """A request of a client.

    Attributes:
        event: Its name.
        request_id: What its response must have; None for a request that wants no response.
        data: The other keys.
    """

    event: str
    request_id: RequestId | None
    data: dict[str, Any]


class Result(NamedTuple):
    """The result of a request.

    Attributes:
        text: The result as JSON.
        version: Version of the data that it shows, or None.
        cached: Whether it comes from a cache.
    """

    text: str
    version: int | None = None
    cached: bool = False


def parse_request(message: str | bytes) -> Request:
    """Return the request in a message.

    Raises:
        InvalidMessage: It is not a request; the text says what it must be.
    """
    if isinstance(message, bytes):
        raise InvalidMessage("a request must be a text message with a JSON object, got a binary message")
    try:
        found = _decode(message)
    except RecursionError:
        raise InvalidMessage("the message is nested too deeply") from None
    except ValueError:  # also a number with too many digits
        raise InvalidMessage("the message must be a JSON object, and is not valid JSON") from None
    if type(found) is not dict:
        raise InvalidMessage("the message must be a JSON object")
    request_id = found.pop("_requestId", None) if "_requestId" not in found else _id(found.pop("_requestId"))
    event = found.pop("event", None)
    if not isinstance(event, str) or not 0 < len(event) <= MAX_EVENT_LENGTH:
        raise InvalidMessage(f"'event' must be a text of 1 to {MAX_EVENT_LENGTH} characters", request_id)
    return Request(event, request_id, found)


def _id(value: Any) -> RequestId:
    if type(value) is int and -MAX_ID <= value <= MAX_ID:
        return value
    if type(value) is str and 0 < len(value) <= MAX_ID_LENGTH:
        return value
    raise InvalidMessage(
        f"'_requestId' must be an integer of at most 53 bits, or a text of 1 to {MAX_ID_LENGTH} characters"
    )


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError("the number is too large")
    return number


_decode = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_finite).decode


def encode(value: Any) -> str:
    """Return a value as JSON.

    Besides what JSON has, it takes tuples (a list), dates and times (ISO 8601), UUIDs and Decimals (a text), and enum
    members (their value).

    Raises:
        TypeError, ValueError, RecursionError: JSON cannot hold it: bytes, sets, NaN, cycles, objects, and keys that are
            neither text nor numbers.
    """
    text = _encode(value)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can hold only as an escape
        return json.dumps(value, allow_nan=False, default=_plain, separators=(",", ":"))
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, (uuid.UUID, decimal.Decimal)):
        return str(value)
    if isinstance(value, enum.Enum):
        return value.value
    raise TypeError(f"JSON cannot hold a {type(value).__name__}")


_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_plain, separators=(",", ":")).encode


def result_message(request_id: RequestId, result: Result) -> str:
    """Return the response with a result."""
    version = "" if result.version is None else f',"_version":{result.version}'
    cached = ',"_cached":true' if result.cached else ""
    name = request_id if type(request_id) is int else encode(request_id)
    return f'{{"_requestId":{name},"result":{result.text}{version}{cached}}}'


def error_message(request_id: RequestId | None, text: str, code: str, fields: Mapping[str, str]) -> str:
    """Return the response with an error; without an id if the request had none."""
    response: dict[str, Any] = {} if request_id is None else {"_requestId": request_id}
    response |= {"error": text, "code": code}
    if fields:
        response["fields"] = dict(fields)
    return encode(response)


def event_message(event: str, text: str) -> str:
    """Return a message of the server; ``text`` is its data as JSON."""
    return f'{{"event":{encode(event)},"data":{text}}}'

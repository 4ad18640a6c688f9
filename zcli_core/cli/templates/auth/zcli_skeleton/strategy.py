"""The strategy: a client with a configured API key is identified as its holder."""

from __future__ import annotations

import hmac
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from zcli_core.auth.contract import Identified, Rejected, Verdict
from zcli_core.errors import ConfigError
from zcli_core.plugins.contract import Context

from zcli_skeleton.settings import Skeleton

if TYPE_CHECKING:
    from zcli_core.websocket.contract import Request

#: The longest key, in bytes.
MAX_LENGTH = 4096


class SkeletonStrategy:
    """Identifies a client by its API key. A request with two keys, even equal ones, is rejected."""

    never_blocks = True  # so it runs in the event loop's thread; without this, in another thread

    def __init__(self, keys: Mapping[str, str], header: str, parameter: str) -> None:
        self._keys = [(holder, key.encode()) for holder, key in keys.items()]
        self._header = header
        self._parameter = parameter.encode()

    def authenticate(self, request: Request) -> Verdict:
        """Compare the key of the request with all keys, in constant time."""
        shown = list(self._shown(request))
        if not shown:
            return None  # no API key; the next strategy runs
        if len(shown) > 1:
            return Rejected("more than one key was given")
        (key,) = shown
        if not 0 < len(key) <= MAX_LENGTH:
            return Rejected(f"a key must have 1 to {MAX_LENGTH} bytes, got {len(key)}")
        found = None
        for holder, known in self._keys:  # compare all, also after a match
            if hmac.compare_digest(key, known):
                found = holder
        if found is None:
            return Rejected("the key is not configured")  # a cause never contains a key
        return Identified(found)

    def _shown(self, request: Request) -> Iterator[bytes]:
        for value in request.headers.get_all(self._header):
            yield value.strip().encode("latin-1")  # the bytes that the client sent
        for part in request.query.split("&"):
            name, _, value = part.partition("=")
            if unquote_to_bytes(name) == self._parameter:
                yield unquote_to_bytes(value)

    def __repr__(self) -> str:
        return f"<SkeletonStrategy: {len(self._keys)} keys>"


def make_strategy(context: Context) -> SkeletonStrategy:
    """Return the configured strategy.

    Raises:
        ConfigError: There is no key, a key is empty or too long, or two keys are equal.
    """
    settings = context.config.section(Skeleton)
    where = f"skeleton.keys ({context.config.explain('skeleton.keys').origin})"
    if not settings.keys:
        raise ConfigError(
            f"websocket.auth ({context.config.explain('websocket.auth').origin}) requires an API key, "
            f"but {where} is empty. Set ZCLI_SKELETON_KEYS=alice=<a key>; "
            "the command 'zcli token' makes one"
        )
    problems = [
        f"{where}: the key of {holder!r} must have 1 to {MAX_LENGTH} bytes, got {len(key.encode())}"
        for holder, key in settings.keys.items()
        if not 0 < len(key.encode()) <= MAX_LENGTH
    ]
    if len(set(settings.keys.values())) < len(settings.keys):
        problems.append(f"{where}: two holders share a key")
    if problems:
        raise ConfigError(problems)
    return SkeletonStrategy(settings.keys, settings.header, settings.parameter)

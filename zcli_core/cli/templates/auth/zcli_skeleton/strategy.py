"""The strategy: whoever shows a configured API key is its holder."""

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

#: A longer key is neither configured nor compared.
MAX_LENGTH = 4096


class SkeletonStrategy:
    """Identifies a client by the one key that it shows. Two keys, even the same one twice, are none."""

    never_blocks = True  # so it is asked in the event loop's thread; without this, in a thread of its own

    def __init__(self, keys: Mapping[str, str], header: str, parameter: str) -> None:
        self._keys = [(holder, key.encode()) for holder, key in keys.items()]
        self._header = header
        self._parameter = parameter.encode()

    def authenticate(self, request: Request) -> Verdict:
        """Compare what the request shows with every key, in a time that tells nothing about them."""
        shown = list(self._shown(request))
        if not shown:
            return None  # nothing of ours; the next strategy is asked
        if len(shown) > 1:
            return Rejected("more than one key was given")
        (key,) = shown
        if not 0 < len(key) <= MAX_LENGTH:
            return Rejected(f"the key has {len(key)} bytes; one has 1 to {MAX_LENGTH}")
        found = None
        for holder, known in self._keys:  # every one of them, found or not
            if hmac.compare_digest(key, known):
                found = holder
        if found is None:
            return Rejected("the key is not a configured one")  # a cause never quotes what was shown
        return Identified(found)

    def _shown(self, request: Request) -> Iterator[bytes]:
        for value in request.headers.get_all(self._header):
            yield value.strip().encode("latin-1")  # the bytes as they came
        for part in request.query.split("&"):
            name, _, value = part.partition("=")
            if unquote_to_bytes(name) == self._parameter:
                yield unquote_to_bytes(value)

    def __repr__(self) -> str:
        return f"<SkeletonStrategy: {len(self._keys)} keys>"


def make_strategy(context: Context) -> SkeletonStrategy:
    """The strategy, as it is configured.

    :raises ConfigError: nobody could ever get in: there is no key, one is empty or too long, or two are the same.
    """
    settings = context.config.section(Skeleton)
    where = f"skeleton.keys ({context.config.explain('skeleton.keys').origin})"
    if not settings.keys:
        raise ConfigError(
            f"websocket.auth ({context.config.explain('websocket.auth').origin}) asks for an API key, "
            f"but {where} holds none. Set ZCLI_SKELETON_KEYS=alice=<a key>; "
            "the command 'zcli token' makes one"
        )
    problems = [
        f"{where}: the key of {holder!r} has {len(key.encode())} bytes; one has 1 to {MAX_LENGTH}"
        for holder, key in settings.keys.items()
        if not 0 < len(key.encode()) <= MAX_LENGTH
    ]
    if len(set(settings.keys.values())) < len(settings.keys):
        problems.append(f"{where}: two holders share a key, so nobody could tell which of them came")
    if problems:
        raise ConfigError(problems)
    return SkeletonStrategy(settings.keys, settings.header, settings.parameter)

"""The events of models: from the keys of a request to the data library, and back to a result."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from zcli_bifrost.data.values import shown_name
from zcli_bifrost.messages import Result, encode
from zcli_core.errors import EventError
from zcli_core.suggestions import suggestion

if TYPE_CHECKING:
    from zcli_bifrost.client import BifrostClient, EventHandler
    from zcli_bifrost.data.service import DataService

_OF_MODELS = (
    "create", "read", "update", "delete", "subscribe", "unsubscribe", "discover", "get_schema", "cache_stats",
    "clear_cache", "set_cache_ttl",
)  # fmt: skip
#: The events that zBifrost handles itself.
BUILTIN = frozenset({"connection_info", *_OF_MODELS})
#: The keys of a read that the data library checks.
_READ_OPTIONS = ("fields", "order_by", "limit", "offset", "cache_ttl", "no_cache", "seen")
#: The keys of requests for rows. Others are refused: without a misspelt filter, a request would concern all rows.
_KEYS = {
    "create": ("model", "data"),
    "read": ("model", "filters", *_READ_OPTIONS),
    "update": ("model", "filters", "data"),
    "delete": ("model", "filters"),
    "subscribe": ("model", "filters"),
    "unsubscribe": ("model", "filters"),
}
#: A client may send it with every request.
_ALWAYS = "seen"


def without_models() -> dict[str, EventHandler]:
    """Return the handlers of a server that has no models: each says so."""

    async def refuse(client: BifrostClient, data: dict[str, Any]) -> Result:
        if find_spec("sqlalchemy") is None:
            text = "this server has no models; they need SQLAlchemy (pip install 'sqlalchemy>=2.0') and bifrost.models"
            raise EventError(text, "not_found")
        raise EventError("this server has no models (bifrost.models is not set)", "not_found")

    return dict.fromkeys(_OF_MODELS, refuse)


class DataEvents:
    """Handles the events of models with a data service."""

    def __init__(self, data: DataService, admin_role: str) -> None:
        """Make the handlers.

        Args:
            data: The models.
            admin_role: The role that may change the cache.
        """
        self._data = data
        self._admin_role = admin_role

    def handlers(self) -> dict[str, EventHandler]:
        """Return the handler of each event."""
        return {event: _checked(event, getattr(self, f"_{event}")) for event in _OF_MODELS}

    async def _create(self, client: BifrostClient, data: dict[str, Any]) -> Result:
        written = await self._data.create(client.actor, _model(data), data.get("data"))
        return Result(encode(written.rows), written.version)

    async def _read(self, client: BifrostClient, data: dict[str, Any]) -> Result:
        options = {name: data[name] for name in _READ_OPTIONS if name in data}
        found = await self._data.read(client.actor, _model(data), data.get("filters"), **options)
        return Result(found.text, found.version, found.cached)

    async def _update(self, client: BifrostClient, data: dict[str, Any]) -> Result:
        written = await self._data.update(client.actor, _model(data), data.get("filters"), data.get("data"))
        return Result(str(written.count), written.version)

    async def _delete(self, client: BifrostClient, data: dict[str, Any]) -> Result:
        written = await self._data.delete(client.actor, _model(data), data.get("filters"))
        return Result(str(written.count), written.version)

    async def _subscribe(self, client: BifrostClient, data: dict[str, Any]) -> Result:
        name, version = await self._data.subscribe(
            client.actor, _model(data), data.get("filters"), subscriber=client.connection
        )
        return Result(encode({"subscription": name}), version)

    async def _unsubscribe(self, client: BifrostClient, data: dict[str, Any]) -> Result:
        self._data.unsubscribe(client.actor, _model(data), data.get("filters"), subscriber=client.connection)
        return Result("null")

    async def _discover(self, client: BifrostClient, data: dict[str, Any]) -> Result:
        return Result(encode(self._data.models(client.actor)))

    async def _get_schema(self, client: BifrostClient, data: dict[str, Any]) -> Result:
        return Result(encode(self._data.describe(client.actor, _model(data))))

    async def _cache_stats(self, client: BifrostClient, data: dict[str, Any]) -> Result:
        stats = dict(self._data.cache_stats())
        if client.actor.role != self._admin_role:  # how large the results of others are
            del stats["entries"], stats["bytes"]
        return Result(encode(stats))

    async def _clear_cache(self, client: BifrostClient, data: dict[str, Any]) -> Result:
        self._require_admin(client)
        self._data.clear_cache()
        return Result("null")

    async def _set_cache_ttl(self, client: BifrostClient, data: dict[str, Any]) -> Result:
        self._require_admin(client)
        self._data.set_cache_ttl(data.get("ttl"))
        return Result("null")

    def _require_admin(self, client: BifrostClient) -> None:
        if client.actor.role != self._admin_role:
            raise EventError("this needs another role", "forbidden")


def _checked(event: str, handler: EventHandler) -> EventHandler:
    """Return a handler that refuses unknown keys first."""
    known = _KEYS.get(event)
    if known is None:
        return handler
    allowed = {*known, _ALWAYS}

    async def checked(client: BifrostClient, data: dict[str, Any]) -> Result:
        if not allowed.issuperset(data):
            unknown = next(key for key in data if key not in allowed)
            text = f"unknown key {shown_name(unknown)!r}{suggestion(shown_name(unknown), known)}"
            raise EventError(text, "invalid")
        return await handler(client, data)

    return checked


def _model(data: dict[str, Any]) -> str:
    model = data.get("model")
    if not isinstance(model, str):
        raise EventError("'model' must be the name of a model", "invalid", {"model": "must be a text"})
    return model

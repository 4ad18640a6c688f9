"""What an actor may do with a model, and the rules of its fields, ready for JSON."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from zcli_bifrost.data.access import actions_of
from zcli_bifrost.data.actor import Actor
from zcli_bifrost.data.models import Field, Model
from zcli_bifrost.data.values import TO_JSON

_RULES = {
    "minimum": "min",
    "maximum": "max",
    "min_length": "min_length",
    "max_length": "max_length",
    "default": "default",
    "references": "references",
}


def describe_model(model: Model, actor: Actor) -> dict[str, Any]:
    """Return a model as an actor may know it.

    Returns:
        ``{"name", "key", "owner", "actions", "fields"}``. A field has its type, ``required``, ``read_only`` for what
        the server fills, and the rules that it has, by the names of the file of models.
    """
    return {
        "name": model.name,
        "key": model.pk,
        "owner": model.owner,
        "actions": actions_of(actor, model),
        "fields": {field.name: _describe_field(field, model) for field in model.fields.values()},
    }


def _describe_field(field: Field, model: Model) -> dict[str, Any]:
    found: dict[str, Any] = {"type": field.type, "required": field.required}
    if field.name == model.owner or (field.pk and field.type == "int"):
        found["read_only"] = True
    if field.unique or field.pk:
        found["unique"] = True
    for attribute, name in _RULES.items():
        value = getattr(field, attribute)
        if value is not None:
            found[name] = TO_JSON["datetime"](value) if isinstance(value, datetime) else value
    if field.pattern is not None:
        found["pattern"] = field.pattern.text
    if field.enum is not None:
        found["enum"] = list(field.enum)
    return found

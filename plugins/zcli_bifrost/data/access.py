"""What an actor may do with a model, and which rows it may see."""

from __future__ import annotations

from typing import NamedTuple

from zcli_bifrost.data.actor import Actor
from zcli_bifrost.data.errors import DataError
from zcli_bifrost.data.models import ACTIONS, EVERY_CLIENT, Model


class Sight(NamedTuple):
    """The rows of a model that an actor may see and change.

    Attributes:
        owner: Only the rows of this identity; None stands for all rows.
    """

    owner: str | None


ALL_ROWS = Sight(None)


def sight_of(actor: Actor, model: Model) -> Sight | None:
    """Return which rows of a model an actor may see; None if the rows belong to identities and it has none."""
    if model.owner is None or actor.role in model.all_rows or EVERY_CLIENT in model.all_rows:
        return ALL_ROWS
    return Sight(actor.identity) if actor.identity else None


def may(actor: Actor, model: Model, action: str) -> bool:
    """Return whether an actor may do something with the rows that it sees."""
    if sight_of(actor, model) is None or (action == "create" and model.owner is not None and not actor.identity):
        return False
    if model.access is None:
        return True
    roles = model.access.get(action, frozenset())
    return EVERY_CLIENT in roles or actor.role in roles


def actions_of(actor: Actor, model: Model) -> list[str]:
    """Return what an actor may do with a model."""
    return [action for action in ACTIONS if may(actor, model, action)]


def require(actor: Actor, model: Model, action: str) -> Sight:
    """Return the rows that an actor may see, if it may do something with them.

    Raises:
        DataError: ``forbidden``; ``not_found`` if it may do nothing with the model, as for a model that does not exist.
    """
    sight = sight_of(actor, model)
    if sight is not None and may(actor, model, action):
        return sight
    if not actions_of(actor, model):
        raise unknown_model(model.name)
    raise DataError("forbidden", f"you may not {action} rows of {model.name!r}")


def unknown_model(name: object) -> DataError:
    """Return the error for a model that does not exist, or that the actor may not know."""
    return DataError("not_found", f"unknown model {str(name)[:60]!r}")

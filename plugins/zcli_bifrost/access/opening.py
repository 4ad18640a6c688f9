"""From the settings to the keys of users, and to the auth strategy of a tier."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zcli_bifrost.access.tier_layer import OPERATORS, TIER, WITH_OPERATORS
from zcli_bifrost.settings import Bifrost
from zcli_core.auth.parts import StaticTokens, configured_tokens
from zcli_core.errors import ConfigError

if TYPE_CHECKING:
    from zcli_bifrost.access.key_table import KeyTable
    from zcli_bifrost.access.strategy import BifrostStrategy, Operators
    from zcli_core.plugins.contract import Context


def make_strategy(context: Context) -> BifrostStrategy:
    """Make the strategy of the tier in force.

    Raises:
        ConfigError: No client could be identified, or the database cannot be used.
    """
    config = context.config
    tier = config.section(Bifrost).auth_tier
    if tier == "none":
        raise ConfigError(
            f"the auth strategy bifrost needs a tier, but {TIER} is 'none' ({config.explain(TIER).origin})"
        )
    from zcli_bifrost.access.strategy import BifrostStrategy, Users

    operators = _operators(context) if tier in WITH_OPERATORS else None
    users = None if tier == "zSession" else Users(_keys_of_server(context))
    return BifrostStrategy(operators, users, config.websocket.token_cookie)


def _operators(context: Context) -> Operators:
    from zcli_bifrost.access.strategy import Operators

    config = context.config
    roles = config.section(Bifrost).operators
    tokens = configured_tokens(context)
    origin = config.explain(OPERATORS).origin
    problems = [
        f"{OPERATORS} ({origin}) gives {name!r} a role, but websocket.tokens has no token of that name; add one, "
        "which the command 'zcli token' prints"
        for name in roles
        if name not in tokens
    ]
    problems += [f"{OPERATORS} ({origin}): the role of {name!r} is empty" for name, role in roles.items() if not role]
    if problems:
        raise ConfigError(problems)
    others = [name for name in tokens if name not in roles]
    if others:
        text = "the tokens of %s admit no client, because %s (%s) gives them no role"
        context.log.warning(text, ", ".join(others), OPERATORS, origin)
    return Operators(StaticTokens(tokens), roles)


def open_keys(context: Context) -> KeyTable:
    """Return the keys in the database of the settings. Nothing is connected yet.

    Raises:
        ConfigError: The database's URL cannot be used, or a package is not installed.
    """
    from zcli_bifrost.data.opening import open_database

    database = open_database(context.config, context.log, context.config.log_file)
    from zcli_bifrost.access.key_table import KeyTable

    return KeyTable(database)


def _keys_of_server(context: Context) -> KeyTable:
    keys = open_keys(context)
    keys.create()
    return keys

"""What ``bifrost.auth_tier`` means for the settings of the WebSocket server.

The first layer sets ``websocket.require_auth`` and ``websocket.auth``, so that one setting selects a tier and
``zcli config`` shows where the values come from. Every other layer may set them too; the second layer then refuses what
contradicts the tier, because otherwise clients without a credential might be served.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from zcli_core.config.contract import Entry, LayerProblem
from zcli_core.config.settings import UnusableValue

if TYPE_CHECKING:
    from zcli_core.config.contract import LayerContext

#: The name of the auth strategy of all tiers. Claims of other strategies may have the same names and another meaning.
STRATEGY = "bifrost"
TIER, OPERATORS = "bifrost.auth_tier", "bifrost.operators"
REQUIRE, STRATEGIES = "websocket.require_auth", "websocket.auth"
#: The tiers that have operators.
WITH_OPERATORS = ("zSession", "dual")


class TierLayer:
    """Turns authentication on for the tiers that need it. Every other layer wins over it."""

    name = "bifrost"
    order = 10
    needs = (TIER,)

    def read(self, context: LayerContext) -> Iterator[Entry]:
        """Yield the settings of the tier in force."""
        tier = context.value(TIER)
        if tier not in (None, "none"):
            origin = f"{TIER} is {tier!r}, {context.origin(TIER)}"
            yield Entry(REQUIRE, True, origin)
            yield Entry(STRATEGIES, [STRATEGY], origin)


class TierCheckLayer:
    """Sets nothing; refuses settings that contradict the tier."""

    name = "bifrost tiers"
    order = 11
    needs = (TIER, OPERATORS, REQUIRE, STRATEGIES)
    only_checks = True

    def read(self, context: LayerContext) -> list[Entry]:
        """Check the settings in force."""
        found = [context.needed[key] for key in (REQUIRE, STRATEGIES)]
        if any(each is not None and isinstance(each.value, UnusableValue) for each in found):
            return []  # an error when the server starts
        tier = context.value(TIER)
        if tier is not None:
            problem = _problem(
                tier, context.value(OPERATORS), context.value(REQUIRE), context.value(STRATEGIES), context
            )
            if problem:
                raise LayerProblem(problem)
        return []


def _problem(tier: str, operators: Any, required: bool, strategies: tuple[str, ...], context: LayerContext) -> str:
    def said(key: str, value: str) -> str:
        found = context.needed[key]
        is_default = found is None or found.layer == "defaults"
        return f"{key} is {value} ({'the default' if is_default else context.origin(key)})"

    in_force = said(TIER, repr(tier))
    shown = ", ".join(strategies)
    if tier == "none":
        if STRATEGY in strategies:
            return f"{said(STRATEGIES, shown)}, but {in_force}; set {TIER}, and remove {STRATEGIES}"
    elif not required:
        return (
            f"{in_force}, so that every client must authenticate, but {said(REQUIRE, 'off')}; "
            f"remove {REQUIRE}, or set {TIER} to 'none'"
        )
    elif tuple(dict.fromkeys(strategies)) != (STRATEGY,):
        return (
            f"{in_force}, which selects the auth strategy {STRATEGY}, but {said(STRATEGIES, shown or 'empty')}; "
            f"remove {STRATEGIES}, or set {TIER} to 'none'"
        )
    if operators and tier not in WITH_OPERATORS:
        named = ", ".join(operators)
        return (
            f"{said(OPERATORS, named)}, but {in_force}, which admits no operators; set {TIER} to 'dual' or 'zSession'"
        )
    if not operators and tier in WITH_OPERATORS:
        return (
            f"{in_force}, but {OPERATORS} names no operator, so none could connect; give the holders of "
            "websocket.tokens a role, for example in .zEnv: ZCLI_BIFROST_OPERATORS=alice=admin"
        )
    return ""

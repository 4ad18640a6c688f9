"""The builtin auth strategies: ``token`` and ``origin``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zcli_core import hookimpl
from zcli_core.plugins.contract import Context, Provider

if TYPE_CHECKING:
    from zcli_core.auth.contract import AuthStrategy

ZCLI_CONTRACT = 1


@hookimpl
def zcli_auth_strategies() -> list[Provider[AuthStrategy]]:
    """Declare the strategies; each is imported when configuration selects it."""
    return [
        Provider("token", "a shared token, in the URL, a header, a subprotocol or a cookie", _token),
        Provider("origin", "the page's origin, if allowed_origins names it; no other credential", _origin),
    ]


def _token(context: Context) -> AuthStrategy:
    from zcli_auth.token import make_token_strategy

    return make_token_strategy(context)


def _origin(context: Context) -> AuthStrategy:
    from zcli_auth.origin import make_origin_strategy

    return make_origin_strategy(context)

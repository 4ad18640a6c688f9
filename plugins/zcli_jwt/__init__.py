"""An auth strategy that admits clients with a signed JSON Web Token (RFC 7519). It needs the extra ``jwt``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from zcli_core import hookimpl
from zcli_core.plugins.contract import Context, Provider

if TYPE_CHECKING:
    from zcli_core.auth.contract import AuthStrategy
    from zcli_core.config.settings import Section

ZCLI_CONTRACT = 1


def _strategy(context: Context) -> AuthStrategy:
    from zcli_jwt.strategy import make_strategy

    return make_strategy(context)


@hookimpl
def zcli_settings() -> Iterable[type[Section]]:
    """Declare the section ``jwt``."""
    from zcli_jwt.settings import Jwt

    return [Jwt]


@hookimpl
def zcli_auth_strategies() -> Iterable[Provider[AuthStrategy]]:
    """Offer the strategy ``jwt``."""
    return [
        Provider(
            "jwt", "a JSON Web Token, signed", _strategy, needs=("jwt", "cryptography"), install="pyjwt[crypto]>=2.10.1"
        )
    ]

"""The backplane ``local``, which carries messages within one process only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from zcli_core import hookimpl
from zcli_core.plugins.contract import Context, Provider

if TYPE_CHECKING:
    from zcli_core.backplane.contract import Backplane

ZCLI_CONTRACT = 1


def _backplane(context: Context) -> Backplane:
    from zcli_local.backplane import LocalBackplane

    return LocalBackplane()


@hookimpl
def zcli_backplanes() -> Iterable[Provider[Backplane]]:
    """Offer the backplane ``local``."""
    return [Provider("local", "the clients of this process only", _backplane)]

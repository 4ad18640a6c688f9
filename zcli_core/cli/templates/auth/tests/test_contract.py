"""What zCLI asks of every auth strategy, under fault too, held against this one."""

from typing import ClassVar

from zcli_core.testing import AuthStrategyContract

from zcli_skeleton import zcli_auth_strategies


class TestSkeleton(AuthStrategyContract):
    """The provider is the one that the hook offers."""

    strategy = zcli_auth_strategies()[0]
    settings: ClassVar = {"skeleton": {"keys": {"alice": "a-key-of-hers"}}}

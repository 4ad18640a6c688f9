"""What zCLI asks of every auth strategy, under fault too, held against this one."""

from typing import ClassVar

from zcli_core.testing import AuthStrategyContract, make_request

from zcli_skeleton import zcli_auth_strategies


class TestSkeleton(AuthStrategyContract):
    """The provider is the one that the hook offers; requests show a key in either place."""

    strategy = zcli_auth_strategies()[0]
    settings: ClassVar = {"skeleton": {"keys": {"alice": "a-key-of-hers"}}}
    accepted = (make_request(headers={"X-API-Key": "a-key-of-hers"}), make_request(query="key=a-key-of-hers"))
    rejected = (make_request(headers={"X-API-Key": "a-key-of-nobody"}), make_request(query="key=a-key-of-nobody"))

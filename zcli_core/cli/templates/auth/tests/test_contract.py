"""zCLI's contract suite for auth strategies, faults included."""

from typing import ClassVar

from zcli_core.testing import AuthStrategyContract, make_request

from zcli_skeleton import zcli_auth_strategies


class TestSkeleton(AuthStrategyContract):
    """Tests the provider that the hook returns, with keys in the header and in the URL."""

    strategy = zcli_auth_strategies()[0]
    settings: ClassVar = {"skeleton": {"keys": {"alice": "a-key-of-hers"}}}
    accepted = (make_request(headers={"X-API-Key": "a-key-of-hers"}), make_request(query="key=a-key-of-hers"))
    rejected = (make_request(headers={"X-API-Key": "an-unknown-key"}), make_request(query="key=an-unknown-key"))

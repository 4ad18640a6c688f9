"""The strategy ``jwt`` passes the contract suite of auth strategies, with each kind of key."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jwt_issuer import SECRET, KeyServer, ec_key, jwks, public_pem, rsa_key, token
from zcli_jwt import zcli_auth_strategies

from zcli_core.testing.auth import AuthStrategyContract, make_request


class Contract(AuthStrategyContract):
    """The common part: valid and invalid tokens, in each place where a client can send one."""

    __test__ = False
    strategy = zcli_auth_strategies()[0]

    def show(self, settings: dict[str, Any], good: str, wrong: list[str]) -> None:
        self.settings = {"jwt": settings}
        self.accepted = [
            make_request(query=f"token={good}"),
            make_request(headers={"Authorization": f"Bearer {good}"}),
            make_request(subprotocols=["bearer", good]),
        ]
        self.rejected = [make_request(query=f"token={each}") for each in wrong]


class TestSecret(Contract):
    """HS256 with a shared secret."""

    __test__ = True

    @pytest.fixture(autouse=True)
    def _shown(self) -> None:
        self.show(
            {"secret": SECRET}, token(role="admin"), [token("another-secret-that-is-as-long-as-it"), token(exp=1)]
        )

    def credentials(self) -> set[str]:
        return super().credentials() | {SECRET}


class TestPublicKey(Contract):
    """RS256 with a PEM file."""

    __test__ = True

    @pytest.fixture(autouse=True)
    def _shown(self, tmp_path: Path) -> None:
        (tmp_path / "key.pem").write_bytes(public_pem(rsa_key()))
        wrong = [token(rsa_key("second"), "RS256"), token()]
        self.show({"public_key_file": tmp_path / "key.pem"}, token(rsa_key(), "RS256"), wrong)


class TestKeySetInAFile(Contract):
    """ES256 with a key set in a file."""

    __test__ = True

    @pytest.fixture(autouse=True)
    def _shown(self, tmp_path: Path) -> None:
        (tmp_path / "jwks.json").write_bytes(jwks(one=rsa_key(), two=ec_key()))
        wrong = [token(ec_key("second"), "ES256", "two"), token(ec_key(), "ES256", "three")]
        self.show({"jwks_file": tmp_path / "jwks.json"}, token(ec_key(), "ES256", "two"), wrong)


class TestKeySetAtAUrl(Contract):
    """RS256 with a key set that is fetched."""

    __test__ = True

    @pytest.fixture(autouse=True)
    def _shown(self) -> Iterator[None]:
        wrong = [token(rsa_key("second"), "RS256", "one"), token(rsa_key(), "RS256", "none")]
        with KeyServer(jwks(one=rsa_key(), two=ec_key())) as server:
            self.show({"jwks_url": server.url}, token(rsa_key(), "RS256", "one"), wrong)
            yield

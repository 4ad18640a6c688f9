"""``bifrost.auth_tier`` turns authentication on, and what contradicts it is an error that names both settings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zCLI import zCLI
from zcli_core.errors import ConfigError

OPERATORS = {"alice": "admin"}
TOKENS = {"alice": "a-long-token-of-alice"}


def config_of(folder: Path, **settings: Any) -> Any:
    """Return the configuration of a script with these settings."""
    quiet = {"deployment": "Testing", "logger": "PROD", "logger_path": str(folder / "logs")}
    with zCLI({**quiet, **settings}) as z:
        return z.config


def test_tier_none_leaves_the_server_open(isolated: Path) -> None:
    """Without a tier the settings of the WebSocket server have their defaults."""
    config = config_of(isolated)
    assert config.websocket.require_auth is False
    assert config.websocket.auth == ("token",)
    assert config.explain("websocket.auth").layer == "defaults"


@pytest.mark.parametrize("tier", ["zSession", "application", "dual"])
def test_tier_requires_authentication(isolated: Path, tier: str) -> None:
    """The tier alone is enough, and the explanation of a setting names the tier and its origin."""
    operators = {} if tier == "application" else OPERATORS
    config = config_of(isolated, bifrost={"auth_tier": tier, "operators": operators})
    assert config.websocket.require_auth is True
    assert config.websocket.auth == ("bifrost",)
    assert config.explain("websocket.require_auth").origin == f"bifrost.auth_tier is {tier!r}, zSpark"


def test_tier_of_a_deployment_requires_authentication(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tier that a lower layer sets for one deployment is in force there."""
    (isolated / ".zEnv").write_text("ZCLI_BIFROST_AUTH_TIER=application\n")
    assert config_of(isolated).websocket.require_auth is True
    overlay = {"deployments": {"Testing": {"bifrost": {"auth_tier": "none"}}}}
    assert config_of(isolated, **overlay).websocket.require_auth is False


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"bifrost": {"auth_tier": "application"}, "websocket": {"require_auth": False}},
            ("bifrost.auth_tier is 'application' (zSpark)", "websocket.require_auth is off (zSpark)"),
        ),
        (
            {"bifrost": {"auth_tier": "application"}, "websocket": {"auth": ["token"]}},
            ("bifrost.auth_tier is 'application' (zSpark)", "websocket.auth is token (zSpark)"),
        ),
        (
            {"bifrost": {"auth_tier": "dual", "operators": OPERATORS}, "websocket": {"auth": ["bifrost", "origin"]}},
            ("bifrost.auth_tier is 'dual' (zSpark)", "websocket.auth is bifrost, origin (zSpark)"),
        ),
        (
            {"bifrost": {"auth_tier": "application"}, "websocket": {"auth": []}},
            ("bifrost.auth_tier is 'application' (zSpark)", "websocket.auth is empty (zSpark)"),
        ),
        (
            {"websocket": {"require_auth": True, "auth": ["bifrost"]}},
            ("websocket.auth is bifrost (zSpark)", "bifrost.auth_tier is 'none' (the default)"),
        ),
        (
            {"bifrost": {"auth_tier": "zSession"}},
            ("bifrost.auth_tier is 'zSession' (zSpark)", "in .zEnv: ZCLI_BIFROST_OPERATORS=alice=admin"),
        ),
        ({"bifrost": {"auth_tier": "dual"}}, ("'dual' (zSpark)", "bifrost.operators names no operator")),
        (
            {"bifrost": {"auth_tier": "application", "operators": OPERATORS}},
            ("bifrost.operators is alice (zSpark)", "bifrost.auth_tier is 'application' (zSpark)"),
        ),
        ({"bifrost": {"operators": OPERATORS}}, ("bifrost.operators is alice (zSpark)", "'none' (the default)")),
    ],
)
def test_tier_contradiction_is_an_error(isolated: Path, settings: dict[str, Any], words: tuple[str, ...]) -> None:
    """The object is not made, and the error has both settings and their origins."""
    with pytest.raises(ConfigError) as failed:
        config_of(isolated, **settings)
    (problem,) = failed.value.problems
    assert all(word in problem for word in words), problem


def test_tier_contradiction_of_the_environment_is_an_error(isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable cannot turn off what the script asks for."""
    monkeypatch.setenv("WEBSOCKET_REQUIRE_AUTH", "false")
    with pytest.raises(ConfigError, match="WEBSOCKET_REQUIRE_AUTH"):
        config_of(isolated, bifrost={"auth_tier": "application"})


@pytest.mark.parametrize("name", ["auth_teir", "auth-tier", "auth_tiers"])
def test_tier_misspelt_is_an_error(isolated: Path, name: str) -> None:
    """A misspelt tier would leave the server open."""
    with pytest.raises(ConfigError, match=r"bifrost\.auth_tier"):
        config_of(isolated, bifrost={name: "application"})


def test_tier_unknown_is_an_error(isolated: Path) -> None:
    """The tier must be one of four words."""
    with pytest.raises(ConfigError, match=r"bifrost\.auth_tier must be"):
        config_of(isolated, bifrost={"auth_tier": "app"})


def start(folder: Path, **settings: Any) -> None:
    quiet = {"deployment": "Testing", "logger": "PROD", "logger_path": str(folder / "logs")}
    with zCLI({**quiet, **settings}) as z:
        z.comm.websocket.start_background(port=0).stop()


def test_operator_without_token_is_an_error(isolated: Path) -> None:
    """The server does not start if a named operator could not connect."""
    with pytest.raises(ConfigError, match=r"bifrost\.operators \(zSpark\) gives 'bob' a role, but websocket\.tokens"):
        start(
            isolated,
            bifrost={"auth_tier": "zSession", "operators": {**OPERATORS, "bob": "x"}},
            websocket={"tokens": TOKENS},
        )


def test_operator_with_empty_role_is_an_error(isolated: Path) -> None:
    """An operator must have a role."""
    with pytest.raises(ConfigError, match="the role of 'alice' is empty"):
        start(
            isolated,
            bifrost={"auth_tier": "zSession", "operators": {"alice": ""}},
            websocket={"tokens": TOKENS},
        )

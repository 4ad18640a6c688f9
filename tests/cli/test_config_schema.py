"""``zcli config --schema``: the JSON Schema of the machine file."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from zcli_core.cli.config import make_schema
from zcli_core.cli.reference import own_plugins_and_settings

RIGHT = """
deployment: Production
title: my-computer
logger_path:
http: {timeout: 2.5, retries: 3, client_cert_hosts: [api.example]}
websocket:
  port: 8080
  tokens: {alice: secret}
services:
  start_timeout: 10
  redis: {port: 6380}
plugins: {prefer: {redis: zcli_redis}}
http.max_redirects: 3
deployments:
  Testing:
    http: {timeout: 1}
"""

WRONG = {
    "deployment: Prodution": "deployment",
    "http: {tiemout: 5}": "http",
    "http: {timeout: 0}": "http.timeout",
    "http: {retries: 11}": "http.retries",
    "http: {timeout: soon}": "http.timeout",
    "websocket: {port: 70000}": "websocket.port",
    "websocket: {allowed_origins: [1]}": "websocket.allowed_origins.0",
    "services: {redis: {port: 0}}": "services.redis.port",
    "sevices: {}": "",
    "deployments: {Prodution: {}}": "deployments",
    "deployments: {Production: {http: {timeout: -1}}}": "deployments.Production.http.timeout",
}


@pytest.fixture(scope="module")
def schema() -> Any:
    return make_schema(own_plugins_and_settings()[1].values())


def test_schema_command_prints_the_schema(run_here: Callable[..., Any]) -> None:
    """The command prints JSON with the settings of the installed plugins, and no default of a secret."""
    printed = json.loads(run_here("config", "--schema").out)
    timeout = printed["properties"]["http"]["properties"]["timeout"]
    assert timeout.pop("description")
    assert timeout == {
        "type": ["number", "null"],
        "exclusiveMinimum": 0,
        "default": 10.0,
    }
    tokens = printed["properties"]["websocket"]["properties"]["tokens"]
    assert (tokens["writeOnly"], "default" in tokens) == (True, False)
    done = run_here("config", "--schema", "http")
    assert (done.status, "--schema takes no KEY" in done.err) == (2, True)


def test_schema_accepts_a_right_file(schema: Any) -> None:
    """The schema is valid itself, and accepts every form that the file may have."""
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(yaml.safe_load(RIGHT))


@pytest.mark.parametrize("text", WRONG)
def test_schema_finds_a_mistake(schema: Any, text: str) -> None:
    """Each mistake is found at its key."""
    (error,) = Draft202012Validator(schema).iter_errors(yaml.safe_load(text))
    assert ".".join(map(str, error.absolute_path)) == WRONG[text]

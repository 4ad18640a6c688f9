"""Explanations of values, the error that lists all mistakes, and the configuration object."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zcli_core.app import zCLI
from zcli_core.config.sections import Application, Http, WebSocket
from zcli_core.errors import ConfigError, ZCLIError

Start = Callable[..., zCLI]
Write = Callable[[Any], Path]


def test_explain_default_names_its_plugin(start: Start) -> None:
    """The core, or a plugin."""
    found = start().config.explain("websocket.port")
    assert found == ("websocket.port", 8765, "defaults", "zcli-core", ())
    assert str(found) == "websocket.port = 8765\n  from defaults: zcli-core"


def test_explain_unset_default_names_its_plugin(start: Start) -> None:
    """A default of None is in no layer."""
    assert start().config.explain("http.ca_file") == ("http.ca_file", None, "defaults", "zcli-core", ())


def test_explain_text_has_value_origin_and_shadowed(start: Start, zenv: Write) -> None:
    """The text names value, layer, origin and shadowed values."""
    zenv("WEBSOCKET_PORT=1\n")
    assert str(start({"websocket": {"port": 2}}).config.explain("websocket.port")) == (
        "websocket.port = 2\n  from zSpark: zSpark\n  shadows 1 from .zEnv: .zEnv:1 (WEBSOCKET_PORT)\n"
        "  shadows 8765 from defaults: zcli-core"
    )


def test_error_invalid_port_names_file_and_shadowed(start: Start, zenv: Write, machine: Write) -> None:
    """The error has the key, the expected value, the origin and the shadowed value."""
    machine("websocket:\n  port: 9000\n")
    zenv("# settings\n\nWEBSOCKET_PORT=abc\n")
    with pytest.raises(ConfigError) as caught:
        start()
    assert str(caught.value) == (
        "websocket.port must be an integer between 0 and 65535, got 'abc' from .zEnv:3 (WEBSOCKET_PORT); "
        "without it, 9000 from machine (zConfig.machine.yaml:2) applies"
    )


def test_error_lists_all_mistakes_of_all_layers(
    start: Start, zenv: Write, machine: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One start shows all mistakes."""
    machine("websocket:\n  port: 99999\nhttp:\n  timeout: never\n")
    monkeypatch.setenv("ZCLI_HTTP_RETRIES", "-1")
    zenv("WEBSOCKET_PORT=abc\nWEBSOCKET_REQUIRE_AUTH=perhaps\n")
    zspark = {"logger": "LOUD", "deployment": "Prod", "http": {"transport": "carrier-pigeon"}, "plugins": 5}
    with pytest.raises(ConfigError) as caught:
        start(zspark)
    wrong = [problem.splitlines()[0].partition(" must be")[0] for problem in caught.value.problems]
    assert wrong == [
        "websocket.port",
        "http.timeout",
        "http.retries",
        "websocket.port",
        "websocket.require_auth",
        "deployment",
        "logger",
        "plugins",
        "no plugin provides the HTTP transport 'carrier-pigeon', which http.transport (zSpark) selects",
    ]
    lines = str(caught.value).splitlines()
    assert lines[0] == "the configuration has 9 mistakes:"
    assert lines[4] == (
        "  4. websocket.port must be an integer between 0 and 65535, got 'abc' from .zEnv:1 (WEBSOCKET_PORT); "
        "without it, 8765 from defaults (zcli-core) applies"
    )
    assert isinstance(caught.value, ZCLIError)


def test_error_lists_files_and_values(start: Start, zenv: Write, machine: Write) -> None:
    """A file that cannot be read at all does not hide the rest."""
    machine("http: [\n")
    zenv("WEBSOCKET_PORT=abc\n")
    with pytest.raises(ConfigError) as caught:
        start({"logger": "LOUD"})
    assert len(caught.value.problems) == 3


def test_error_lists_shadowed_mistakes(start: Start, zenv: Write) -> None:
    """It would be an error when the higher layer is removed."""
    zenv("WEBSOCKET_PORT=abc\n")
    with pytest.raises(ConfigError, match=r"'abc' from .zEnv:1"):
        start({"websocket": {"port": 5}})


def test_config_value_by_attribute_key_and_section(start: Start) -> None:
    """All three are the same."""
    config = start({"websocket": {"port": 5}}).config
    assert config.websocket.port == config.get("websocket.port") == config.section(WebSocket).port == 5
    assert config.get("websocket") is config.websocket
    assert config.title == config.get("title") == config.section(Application).title == "test"
    assert config.websocket.allowed_origins is None


@pytest.mark.parametrize("key", ["websocket.prot", "websockt", 5, None, "websocket.", ".", ("websocket", "port")])
def test_config_unknown_key_is_a_value_error(start: Start, key: Any) -> None:
    """None could be a value, so it raises."""
    config = start().config
    with pytest.raises(ValueError, match="unknown setting"):
        config.get(key)
    with pytest.raises(ValueError, match="unknown setting"):
        config.explain(key)


def test_config_misspelt_key_gets_a_suggestion(start: Start) -> None:
    """The suggestion is in each of the errors."""
    config = start().config
    with pytest.raises(ValueError, match=r"^unknown setting 'websocket.prot'; did you mean 'websocket.port'\?$"):
        config.get("websocket.prot")
    with pytest.raises(AttributeError, match=r"^unknown setting or section 'websockt'; did you mean 'websocket'\?$"):
        _ = config.websockt
    assert not hasattr(config, "nothing_like_it")


def test_config_is_read_only(start: Start) -> None:
    """A changed value would have no origin."""
    config = start({"plugins": {"prefer": {"a": "b"}}}).config
    with pytest.raises(AttributeError, match=r"read only; set websocket\.port in a configuration layer"):
        config.websocket.port = 5
    with pytest.raises(AttributeError, match="read only; set title in a configuration layer"):
        config.title = "x"
    with pytest.raises(AttributeError, match="read only; set title in a configuration layer"):
        config.section(Application).title = "x"
    with pytest.raises(TypeError):
        config.plugins.prefer["a"] = "c"  # type: ignore[index]


def test_section_can_be_made_by_hand(start: Start) -> None:
    """Tests and programs that use a part alone need it."""
    assert Http(timeout=3.0).timeout == 3.0
    assert Http().retries == 0
    with pytest.raises(TypeError, match="unknown settings of Http: timeot"):
        Http(timeot=3)


def test_config_can_be_copied(start: Start) -> None:
    """Debuggers and test tools copy objects."""
    config = start({"http": {"timeout": 3}}).config
    assert copy.copy(config).http.timeout == 3
    assert repr(config).startswith("<Config: ")


def test_env_file_in_use_is_named_by_its_path(isolated: Path) -> None:
    """An error about a missing value tells which file was read: perhaps not the one that the user has in mind."""
    settings = {"websocket": {"require_auth": True}, "logger_path": "logs"}

    def missing() -> str:
        with pytest.raises(ConfigError) as raised, zCLI(settings) as z:
            z.comm.websocket.start_background(port=0)
        return str(raised.value)

    assert "into .zEnv (no such file was found) or the environment" in missing()
    (isolated / ".zEnv").write_text("OTHER=1\n")
    assert f"into {isolated / '.zEnv'} or the environment" in missing()

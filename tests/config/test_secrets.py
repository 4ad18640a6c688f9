"""Secrets are never shown, printed or logged, in whatever layer they are."""

from __future__ import annotations

import io
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from installations import Site

from zcli_core.app import zCLI
from zcli_core.errors import ConfigError

#: Any printable characters, and in the middle what stands in no message by chance.
secrets = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=40).map(
    lambda text: f"{text[:4]}Zx7{text[4:]}"
)


def _in_zspark(secret: str) -> dict[str, Any]:
    return {"websocket": {"token": secret, "tokens": {"alice": secret}}}


def _of_a_wrong_type(secret: str) -> dict[str, Any]:
    return {"websocket": {"token": [secret], "tokens": {"alice": [secret]}}}


def _as_a_mapping(secret: str) -> dict[str, Any]:
    return {"websocket": {"token": {"value": secret}, "tokens": secret}}


def _as_the_section(secret: str) -> dict[str, Any]:
    return {"websocket": secret, "deployments": {"Production": {"websocket": secret}}}


def _in_an_overlay(secret: str) -> dict[str, Any]:
    return {"deployments": {"Production": {"websocket": {"token": secret, "tokens": [secret]}}}}


def _in_overlays_of_a_variable(secret: str) -> dict[str, Any]:
    os.environ["ZCLI_DEPLOYMENTS"] = json.dumps({"Production": {"websocket": {"token": secret}}})
    return {}


def _in_broken_overlays_of_a_variable(secret: str) -> dict[str, Any]:
    os.environ["ZCLI_DEPLOYMENTS"] = secret
    return {}


def _in_the_environment(secret: str) -> dict[str, Any]:
    os.environ["WEBSOCKET_TOKEN"] = secret
    os.environ["WEBSOCKET_TOKENS"] = secret
    return {"websocket": {"token": ["wrong"]}}


def _under_a_misspelt_name(secret: str) -> dict[str, Any]:
    os.environ["WEBSOCKET_TOKE"] = secret
    os.environ["ZCLI_WEBSOCKET_TOKE"] = secret
    return {"websocket": {"tokn": secret, "token.x": secret}, "websockets": {"token": secret}}


def _in_zenv(secret: str) -> dict[str, Any]:
    Path(".zEnv").write_text(f"WEBSOCKET_TOKEN={secret}\nWEBSOCKET_TOKENS='{secret}'\n")
    return {}


def _in_a_broken_zenv(secret: str) -> dict[str, Any]:
    Path(".zEnv").write_text(f"WEBSOCKET_TOKEN '{secret}\n{secret}\n")
    return {}


def _in_the_machine_file(secret: str) -> dict[str, Any]:
    _machine_file(f"websocket:\n  token: {json.dumps(secret)}\n  tokens: [{json.dumps(secret)}]\n")
    return {}


def _in_the_machine_file_without_quotes(secret: str) -> dict[str, Any]:
    _machine_file(f"websocket:\n  token: {secret}\n")
    return {}


def _in_a_machine_file_with_a_tag(secret: str) -> dict[str, Any]:
    _machine_file(f"websocket:\n  token: !{secret}\n  tokens: !!bool {secret}\n")
    return {}


def _in_a_machine_file_as_an_alias(secret: str) -> dict[str, Any]:
    _machine_file(f"websocket:\n  token: *{secret}\n")
    return {}


def _machine_file(text: str) -> None:
    folder = Path(os.environ["ZCLI_CONFIG_DIR"])
    folder.mkdir()
    (folder / "zConfig.machine.yaml").write_text(text)


WAYS = [value for name, value in list(globals().items()) if name.startswith(("_in_", "_of_", "_as_", "_under_"))]


@contextmanager
def _fresh_folder() -> Iterator[None]:
    """A working directory and an environment of its own for each example."""
    before, variables = os.getcwd(), dict(os.environ)
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    os.environ.update(HOME=folder, ZCLI_CONFIG_DIR=str(Path(folder, "machine")))
    try:
        yield
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(variables)
        shutil.rmtree(folder)


def _everything_shown(zspark: dict[str, Any]) -> str:
    """What a start with this zSpark prints, logs and raises, and what its objects say of themselves."""
    shown = io.StringIO()
    with redirect_stdout(shown), redirect_stderr(shown):
        try:
            with zCLI(
                {"title": "t", "deployment": "Production", "logger": "DEBUG", "logger_path": "logs", **zspark}
            ) as z:
                config = z.config
                objects = [z, config, config.websocket, config.get("websocket"), config._resolution, z.plugins]
                explanations = [config.explain(key) for key in config.settings]
                shown.writelines(f"{thing} {thing!r}\n" for thing in (*objects, *explanations))
        except ConfigError as error:
            shown.writelines((str(error), repr(error), repr(error.problems), *map(str, error.args)))
            while error.__context__ is not None:
                error = error.__context__  # type: ignore[assignment]
                shown.writelines((str(error), repr(error)))
    shown.writelines(file.read_text() for file in Path.cwd().glob("logs/*"))
    return shown.getvalue()


@pytest.mark.parametrize("put", WAYS, ids=lambda put: put.__name__.strip("_"))
@given(secret=secrets)
@settings(max_examples=10, deadline=None)
def test_secret_in_any_layer_is_never_shown(put: Callable[[str], dict[str, Any]], secret: str) -> None:
    """Not by str or repr of anything, not in an error, not in the log, not on the console."""
    with _fresh_folder():
        shown = _everything_shown(put(secret))
        assert any(word in shown for word in ("websocket", "deployments", ".zEnv", "zConfig.machine.yaml"))
        assert secret not in shown


def test_secret_can_be_read_by_the_script(start: Callable[..., zCLI]) -> None:
    """The value itself is not changed."""
    config = start({"websocket": {"token": "s", "tokens": {"alice": "t"}}}).config
    assert (config.websocket.token, config.websocket.tokens["alice"]) == ("s", "t")


def test_explain_secret_shows_names_only(start: Callable[..., zCLI]) -> None:
    """The names of a mapping stay; a secret that is not set is None."""
    config = start({"websocket": {"tokens": {"alice": "t"}}}).config
    assert config.explain("websocket.token").value is None
    assert config.explain("websocket.tokens").value == {"alice": "<secret>"}
    assert "tokens={'alice': '<secret>'}" in repr(config.websocket)


def test_layer_that_fails_shows_no_value(site: Site) -> None:
    """The error has the type and the place, but not the message."""
    site.plugin(
        "vault",
        """
        class Vault:
            name, order = "vault", 250
            def read(self, context):
                raise KeyError("hunter2-hunter2")
        @hookimpl
        def zcli_config_layers(): return [Vault()]
        """,
    )
    with pytest.raises(ConfigError) as caught:
        zCLI({"logger": "PROD"})
    assert str(caught.value) == "the configuration layer 'vault' failed: KeyError in vault.py, line 8"


def test_secret_of_plugin_is_never_shown(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """The declaration ``secret=True`` is enough."""
    site.plugin(
        "keeper",
        """
        from zcli_core.config.settings import Section, setting
        class Keeper(Section, name="keeper"):
            '''Of a test.'''
            password: str | None = setting(None, "the password", secret=True)
            attempts: int = setting(3, "how often")
        @hookimpl
        def zcli_settings(): return [Keeper]
        """,
    )
    with zCLI({"title": "t", "logger": "DEBUG", "keeper": {"password": "hunter2-hunter2"}}) as z:
        print(z.config.keeper, z.config.explain("keeper.password"))
        assert z.config.keeper.password == "hunter2-hunter2"
    with pytest.raises(ConfigError) as caught:
        zCLI({"keeper": {"password": 5, "attempts": "hunter"}})
    assert caught.value.problems[0] == "keeper.password must be a string, got an invalid value (not shown) from zSpark"
    shown = "".join(capsys.readouterr())
    assert "hunter2" not in shown
    assert "<secret>" in shown

"""The contract suite of layers: the built-in ones pass it, and it finds what is wrong with others."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from zcli_layers.machine import MachineLayer
from zcli_layers.plain import DefaultsLayer, EnvironmentLayer, ZSparkLayer
from zcli_layers.zenv import ZEnvLayer
from zcli_secrets_dir.layer import SecretsDirLayer

from zcli_core.config.contract import Entry, LayerContext, LayerProblem
from zcli_core.errors import ConfigError
from zcli_core.testing import ConfigLayerContract
from zcli_core.testing.layers import LayerSource


class TestMachine(ConfigLayerContract):
    layer = MachineLayer

    def fill(self, source: LayerSource) -> None:
        source.environ["ZCLI_CONFIG_DIR"] = str(source.folder)
        lines = (f"{key}: {json.dumps(value)}\n" for key, value in source.values.items())
        (source.folder / "zConfig.machine.yaml").write_text("".join(lines))


class TestEnvironment(ConfigLayerContract):
    layer = EnvironmentLayer

    def fill(self, source: LayerSource) -> None:
        source.environ.update(source.variables)


class TestZEnv(ConfigLayerContract):
    layer = ZEnvLayer

    def fill(self, source: LayerSource) -> None:
        lines = (f"{name}={value}\n" for name, value in source.variables.items())
        (source.folder / ".zEnv").write_text("".join(lines))


class TestZSpark(ConfigLayerContract):
    layer = ZSparkLayer

    def fill(self, source: LayerSource) -> None:
        source.zspark.update(source.values)


class TestSecretsDir(ConfigLayerContract):
    layer = SecretsDirLayer

    def fill(self, source: LayerSource) -> None:
        source.environ["ZCLI_SECRETS_DIR_FOLDER"] = str(source.folder)
        for old in source.files:
            old.unlink()
        for name, value in source.values.items():
            (source.folder / name).write_text(f"{value}\n")


class TestSecretsDirWithVariables(TestSecretsDir):
    """The same folder with names as environments have them, and named by zSpark."""

    def fill(self, source: LayerSource) -> None:
        source.zspark["secrets_dir"] = {"folder": "secrets"}
        folder = source.folder / "secrets"
        folder.mkdir(exist_ok=True)
        for old in source.files:
            old.unlink()
        for name, value in source.variables.items():
            (folder / name.lower()).write_text(value)


# --- the suite finds what is wrong ---


class _Json:
    """A correct layer: settings from a JSON file in the working directory."""

    name: Any = "json"
    order: Any = 150

    def read(self, context: LayerContext) -> Any:
        file = Path(context.working_directory, "settings.json")
        if file.exists():
            try:
                found = json.loads(file.read_text(encoding="utf-8"))
            except ValueError as error:
                raise LayerProblem(f"{file}: no JSON") from error
            yield from (self.entry(key, value, file) for key, value in found.items())

    def entry(self, key: str, value: Any, file: Path) -> Entry:
        return Entry(key, value, f"{file.name}")


class _Nameless(_Json):
    name = " "


class _Unranked(_Json):
    order = float("nan")


class _Insisting(_Json):
    def read(self, context: LayerContext) -> Any:
        if not Path(context.working_directory, "settings.json").exists():
            raise LayerProblem("there is no settings.json")
        return super().read(context)


class _Inventive(_Json):
    def read(self, context: LayerContext) -> Any:
        yield Entry("http.timeout", 3, "nothing")
        yield from super().read(context)


class _Originless(_Json):
    def entry(self, key: str, value: Any, file: Path) -> Entry:
        return Entry(key, value, "")


class _Chatty(_Json):
    def entry(self, key: str, value: Any, file: Path) -> Entry:
        return Entry(key, value, f"{file.name}: {key}={value}")


class _Sticky(_Json):
    def __init__(self) -> None:
        self.kept: list[Entry] | None = None

    def read(self, context: LayerContext) -> Any:
        self.kept = self.kept or list(super().read(context))
        return self.kept


class _Shared(_Json):
    def read(self, context: LayerContext) -> Any:
        self.folder = context.working_directory
        file = Path(self.folder, "settings.json")
        for key in json.loads(file.read_text()) if file.exists() else ():
            yield Entry(key, json.loads(Path(self.folder, "settings.json").read_text())[key], "settings.json")


class _Exporting(_Json):
    def entry(self, key: str, value: Any, file: Path) -> Entry:
        os.environ["ZCLI_OF_A_TEST"] = "1"
        return super().entry(key, value, file)


class _Strict(_Json):
    def read(self, context: LayerContext) -> Any:
        for entry in super().read(context):
            if entry.name not in context.settings:
                raise LayerProblem(f"settings.json: {entry.name} is unknown")
            yield entry


class _Guessing(_Json):
    def entry(self, key: str, value: Any, file: Path) -> Entry:
        return Entry(key, None if value == "no-port" else value, file.name)


class _Raw(_Json):
    def read(self, context: LayerContext) -> Any:
        file = Path(context.working_directory, "settings.json")
        if file.exists():
            found = json.loads(file.read_text(encoding="utf-8"))
            yield from (self.entry(key, value, file) for key, value in found.items())


class _Quoting(_Json):
    def read(self, context: LayerContext) -> Any:
        try:
            yield from super().read(context)
        except LayerProblem as error:
            text = Path(context.working_directory, "settings.json").read_text(encoding="latin-1")
            raise LayerProblem(f"settings.json: {text!r}") from error


class _Vague(_Json):
    def read(self, context: LayerContext) -> Any:
        try:
            yield from super().read(context)
        except LayerProblem as error:
            raise LayerProblem("the file is not JSON") from error


class _Lax(_Json):
    def read(self, context: LayerContext) -> Any:
        try:
            yield from super().read(context)
        except LayerProblem:
            return


class _Converting(_Json):
    def entry(self, key: str, value: Any, file: Path) -> Entry:
        return Entry(key, {"value": value} if key == "http.timeout" else value, file.name)


BROKEN = {
    _Nameless: "test_layer_has_name_and_order",
    _Unranked: "test_layer_has_name_and_order",
    _Insisting: "test_layer_without_source_sets_nothing",
    _Inventive: "test_layer_without_source_sets_nothing",
    _Originless: "test_entry_has_an_origin",
    _Chatty: "test_entry_has_an_origin",
    _Converting: "test_values_are_converted_and_explained",
    _Sticky: "test_layer_read_again_gives_current_values",
    _Shared: "test_layer_read_twice_at_once_is_independent",
    _Exporting: "test_layer_reading_changes_nothing",
    _Strict: "test_unknown_name_is_not_an_error",
    _Guessing: "test_invalid_value_is_an_error_with_origin",
    _Raw: "test_invalid_source_is_named_and_not_shown",
    _Quoting: "test_invalid_source_is_named_and_not_shown",
    _Vague: "test_invalid_source_is_named_and_not_shown",
    _Lax: "test_invalid_source_is_named_and_not_shown",
}
TESTS = [name for name in vars(ConfigLayerContract) if name.startswith("test_")]


def _run(layer: Any, test: str, folder: Path) -> None:
    """One test of the suite for one layer, as pytest would run it."""

    class Suite(ConfigLayerContract):
        def fill(self, source: LayerSource) -> None:
            (source.folder / "settings.json").write_text(json.dumps(source.values))

    Suite.layer = layer
    suite = Suite()
    ConfigLayerContract.prepare.__wrapped__(suite, folder)  # type: ignore[attr-defined]
    getattr(suite, test)()


@pytest.mark.parametrize("test", ["test_layer_has_name_and_order", "test_layer_without_source_sets_nothing"])
def test_suite_of_defaults_layer_passes(test: str, tmp_path: Path) -> None:
    """Its source is the declarations, so most tests do not apply."""
    _run(DefaultsLayer(), test, tmp_path)


@pytest.mark.parametrize("test", TESTS)
def test_suite_of_correct_layer_passes(test: str, tmp_path: Path) -> None:
    _run(_Json, test, tmp_path)


@pytest.mark.parametrize("layer", BROKEN, ids=lambda layer: layer.__name__)
def test_suite_finds_each_fault(layer: type[_Json], tmp_path: Path) -> None:
    with pytest.raises((AssertionError, ConfigError, pytest.fail.Exception)):
        _run(layer, BROKEN[layer], tmp_path)


def test_suite_finds_a_wrong_order(tmp_path: Path) -> None:
    class Wandering(_Json):
        @property
        def order(self) -> Any:
            self.asked = getattr(self, "asked", 0) + 1
            return 150 if self.asked == 1 else 50

        name = "wandering"

    with pytest.raises(AssertionError):
        _run(Wandering, "test_layer_is_ranked_by_its_order", tmp_path)


def test_suite_each_test_finds_a_fault() -> None:
    assert {*BROKEN.values(), "test_layer_is_ranked_by_its_order"} == set(TESTS)


def test_suite_without_fill_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="must set the class attribute 'layer' to a provider of your plugin"):
        _run(None, TESTS[0], tmp_path)

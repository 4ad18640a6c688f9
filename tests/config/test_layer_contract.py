"""Every layer of ours keeps the contract of layers, and the suite finds those that do not."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from zcli_layers.machine import MachineLayer
from zcli_layers.plain import DefaultsLayer, EnvironmentLayer, ZSparkLayer
from zcli_layers.zenv import ZEnvLayer

from zcli_core.config.conversion import convert
from zcli_core.contracts.config_layer import Entry, LayerProblem
from zcli_core.testing.layers import VALUES, ConfigLayerContract, Place


def variable(key: str) -> str:
    """The environment variable of a setting."""
    return "ZCLI_" + key.replace(".", "_").upper()


class TestDefaults(ConfigLayerContract):
    layer = DefaultsLayer
    holds_unknown_names = False

    def write(self, place: Place, values: Mapping[str, str]) -> None:
        place.settings = {key: setting for key, setting in place.settings.items() if key in VALUES}
        for key, value in values.items():
            place.settings[key] = copy.copy(place.settings[key])
            place.settings[key].declaration = copy.copy(place.settings[key].declaration)
            place.settings[key].declaration.default = convert(value, place.settings[key])

    # A declaration is the author's own, and is of its type.
    test_a_value_that_cannot_be_used_is_told_with_its_origin = None  # type: ignore[assignment]


class TestMachine(ConfigLayerContract):
    layer = MachineLayer

    def write(self, place: Place, values: Mapping[str, str]) -> None:
        nested: dict[str, Any] = {}
        for key, value in values.items():
            section, _, name = key.partition(".")
            nested.setdefault(section, {})[name] = value
        place.environ["ZCLI_CONFIG_DIR"] = str(place.script_directory)
        (place.script_directory / "zConfig.machine.yaml").write_text(json.dumps(nested))  # JSON is YAML

    def break_source(self, place: Place) -> str:
        self.write(place, VALUES)
        with (place.script_directory / "zConfig.machine.yaml").open("a") as file:
            file.write("\n]")
        return "zConfig.machine.yaml"


class TestEnvironment(ConfigLayerContract):
    layer = EnvironmentLayer

    def write(self, place: Place, values: Mapping[str, str]) -> None:
        place.environ = {variable(key): value for key, value in values.items()}


class TestZEnv(ConfigLayerContract):
    layer = ZEnvLayer()

    def write(self, place: Place, values: Mapping[str, str]) -> None:
        lines = [f"{variable(key)}={value}" for key, value in values.items()]
        (place.working_directory / ".zEnv").write_text("\n".join(lines))

    def break_source(self, place: Place) -> str:
        (place.working_directory / ".zEnv").write_bytes(
            f"WEBSOCKET_TOKEN={VALUES['websocket.token']}\xff".encode("latin-1")
        )
        return ".zEnv"


class TestZSpark(ConfigLayerContract):
    layer = ZSparkLayer

    def write(self, place: Place, values: Mapping[str, str]) -> None:
        place.zspark = dict(values)


# Layers that are not right --------------------------------------------------------------------------------------------


class Forgetful(ZSparkLayer):
    def read(self, context):  # type: ignore[no-untyped-def]
        return [Entry(key, value, "") for key, value in context.zspark.items()]


class Chatty(ZSparkLayer):
    def read(self, context):  # type: ignore[no-untyped-def]
        return [Entry(key, value, f"zSpark: {value}") for key, value in context.zspark.items()]


class Hoarder(ZSparkLayer):
    def __init__(self) -> None:
        self.known: dict[str, Any] = {}

    def read(self, context):  # type: ignore[no-untyped-def]
        for key, value in context.zspark.items():
            self.known.setdefault(key, value)
        return [Entry(key, value, "zSpark") for key, value in self.known.items()]


class Meddler(ZSparkLayer):
    def read(self, context):  # type: ignore[no-untyped-def]
        found = list(super().read(context))
        context.zspark.clear()
        return found


class Leaky(ZEnvLayer):
    def read(self, context):  # type: ignore[no-untyped-def]
        file = Path(context.working_directory, ".zEnv")
        if file.exists():
            raise LayerProblem(f"{file}: {file.read_text('latin-1')}")
        return []


class Crashing(ZEnvLayer):
    def read(self, context):  # type: ignore[no-untyped-def]
        file = Path(context.working_directory, ".zEnv")
        return [Entry("title", file.read_text(), ".zEnv")] if file.exists() else []


@pytest.mark.parametrize(
    ("layer", "suite", "test"),
    [
        (Forgetful(), TestZSpark, "test_every_entry_says_where_it_is_from"),
        (Chatty(), TestZSpark, "test_every_entry_says_where_it_is_from"),
        (Hoarder(), TestZSpark, "test_reading_again_gives_the_same_and_sees_what_has_changed"),
        (Hoarder(), TestZSpark, "test_two_places_do_not_see_each_other"),
        (Meddler(), TestZSpark, "test_it_leaves_everything_as_it_was"),
        (Leaky(), TestZEnv, "test_a_source_that_cannot_be_read_is_named_without_its_values"),
        (Crashing(), TestZEnv, "test_a_source_that_cannot_be_read_is_named_without_its_values"),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__) if not isinstance(value, str) else value,
)
def test_the_suite_finds_a_layer_that_is_not_right(layer: Any, suite: Any, test: str, tmp_path: Path) -> None:
    places = {"place": Place(tmp_path / "here"), "elsewhere": Place(tmp_path / "there")}
    method = getattr(suite(), test)
    wanted = {
        name: place
        for name, place in places.items()
        if name in method.__code__.co_varnames[: method.__code__.co_argcount]
    }
    with pytest.raises((AssertionError, UnicodeDecodeError)):
        method(made=layer, **wanted)


def test_a_suite_that_names_no_layer_says_so(tmp_path: Path) -> None:
    class Nameless(ConfigLayerContract):
        pass

    with pytest.raises(NotImplementedError, match="how its source comes to hold values"):
        Nameless().write(Place(tmp_path), VALUES)

"""Merging layers gives the result of ``dict.update`` in the order of the layers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from zcli_core.config.config import Config
from zcli_core.config.contract import Entry, LayerContext
from zcli_core.config.layering import resolve
from zcli_core.config.reading import read_layer
from zcli_core.config.resolution import Resolution
from zcli_core.config.sections import CORE_SECTIONS
from zcli_core.config.settings import Setting, declared_settings

SETTINGS: dict[str, Setting] = {s.key: s for section in CORE_SECTIONS for s in declared_settings(section, "core")}
#: Values that are right for a setting, in the form that they come out in.
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "title": st.sampled_from(["a", "b", "c"]),
    "logger": st.sampled_from(["DEBUG", "INFO", "PROD"]),
    "websocket.port": st.integers(0, 65535),
    "websocket.host": st.sampled_from(["127.0.0.1", "0.0.0.0", "::1"]),
    "websocket.require_auth": st.booleans(),
    "websocket.token": st.text(min_size=1, max_size=5),
    "http.timeout": st.floats(0.1, 100),
    "http.retries": st.integers(0, 10),
    "plugins.prefer": st.dictionaries(st.sampled_from("xyz"), st.sampled_from("pqr"), min_size=1),
}
DEPLOYMENTS = ("Development", "Testing", "Production")

flat = st.fixed_dictionaries({}, optional={key: st.none() | value for key, value in VALUES.items()})


class _Layer:
    def __init__(self, name: str, order: float, entries: Iterable[Entry]) -> None:
        self.name = name
        self.order = order
        self.entries = entries

    def read(self, context: LayerContext) -> Iterable[Entry]:
        return self.entries


def _resolve(*layers: Any) -> Resolution:
    context = LayerContext({}, {}, Path("/nowhere"), None, SETTINGS)
    return resolve([read_layer(layer, context) for layer in layers], SETTINGS, context)


def _nested(flat_values: Mapping[str, Any]) -> dict[str, Any]:
    """``{"websocket.port": 1}`` as ``{"websocket": {"port": 1}}``."""
    found: dict[str, Any] = {}
    for key, value in flat_values.items():
        section, _, name = key.rpartition(".")
        (found.setdefault(section, {}) if section else found)[name] = value
    return found


def _entries(values: Mapping[str, Any], layer: int, form: str) -> list[Entry]:
    """The values as a layer may give them: by key, as nested mappings, as variables."""
    if form == "keys":
        return [Entry(key, value, f"L{layer}") for key, value in values.items()]
    if form == "nested":
        return [Entry(key, value, f"L{layer}") for key, value in _nested(values).items()]
    return [
        Entry(SETTINGS[key].variables[0], _as_text(value), f"L{layer}", is_variable=True)
        for key, value in values.items()
    ]


def _as_text(value: Any) -> str | None:
    if isinstance(value, dict):
        return ",".join(f"{k}={v}" for k, v in value.items())
    return None if value is None else str(value)


@given(st.lists(st.tuples(flat, st.sampled_from(["keys", "nested", "variables"])), max_size=5), st.randoms())
def test_layering_is_dict_update_in_order(layers: list[tuple[dict[str, Any], str]], random: Any) -> None:
    """Whatever form each layer gives its values in and in whatever order the layers are found; None sets nothing."""
    model: dict[str, Any] = {}
    history: dict[str, list[tuple[Any, str]]] = {}
    for number, (values, _) in enumerate(layers):
        set_here = {key: value for key, value in values.items() if value is not None}
        model.update(set_here)
        for key, value in set_here.items():
            history.setdefault(key, []).append((value, f"L{9 - number}"))
    # By name, the layers would be in the opposite order.
    found = [_Layer(f"L{9 - n}", n * 100, _entries(values, n, form)) for n, (values, form) in enumerate(layers)]
    random.shuffle(found)
    resolution = _resolve(*found)
    assert resolution.problems == []
    assert resolution.warnings == []
    config = Config(SETTINGS, resolution)
    for key in VALUES:
        assert config.get(key) == model.get(key, SETTINGS[key].default)
        assert [(v.value, v.layer) for v in resolution.values.get(key, [])] == history.get(key, [])


overlaid = st.fixed_dictionaries(
    {"base": flat, "overlays": st.dictionaries(st.sampled_from(DEPLOYMENTS), flat, max_size=3)}
)


@given(st.lists(overlaid, max_size=4), st.sampled_from(DEPLOYMENTS), st.booleans())
def test_overlay_wins_over_its_layer_only(layers: list[dict[str, Any]], deployment: str, upper: bool) -> None:
    """The overlays of other deployments change nothing; the name's case does not matter."""
    model: dict[str, Any] = {}
    found: list[Any] = [_Layer("deployment", 10_000, [Entry("deployment", deployment, "top")])]
    for number, layer in enumerate(layers):
        for part in (layer["base"], layer["overlays"].get(deployment, {})):
            model.update({key: value for key, value in part.items() if value is not None})
        overlays = {(k.upper() if upper else k): _nested(v) for k, v in layer["overlays"].items()}
        entries = [Entry("deployments", overlays, f"L{number}"), *_entries(layer["base"], number, "nested")]
        found.append(_Layer(f"L{number}", number, entries))
    resolution = _resolve(*found)
    assert resolution.problems == []
    assert resolution.warnings == []
    assert resolution.deployment == deployment
    config = Config(SETTINGS, resolution)
    assert {key: config.get(key) for key in VALUES} == {key: model.get(key, SETTINGS[key].default) for key in VALUES}


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["port", "token", "Production", "websocket", "a.b", ""]) | st.text(), inner)
    ),
    max_leaves=12,
)
some_keys = st.sampled_from(
    [*SETTINGS, "websocket", "http", "plugins", "deployments", "", ".", "websocket.", "websocket.port.x", "x.y.z"]
)


@given(st.lists(st.tuples(some_keys | st.text(), anything, st.just("here")).map(lambda e: Entry(*e)), max_size=6))
def test_layering_any_entries_never_raises(entries: list[Entry]) -> None:
    """No input raises, and each value in force has its setting's type."""
    resolution = _resolve(_Layer("wild", 1, entries))
    assert all(isinstance(line, str) for line in (*resolution.problems, *resolution.warnings))
    for key in ("websocket.port", "http.retries"):
        assert type(resolution.top(key, 0)) is int
    tops = {key.partition(".")[0] for key in SETTINGS} | {"deployments"}
    unknown = [e for e in entries if e.value is not None and e.name.partition(".")[0] not in tops]
    if any(not isinstance(entry.value, dict) for entry in unknown):
        assert resolution.warnings


@given(
    st.lists(
        st.builds(
            Entry,
            st.sampled_from(
                [n for s in SETTINGS.values() for n in s.variables] + ["ZCLI_DEPLOYMENTS", "ZCLI_X", "FOO"]
            ),
            st.none() | st.text() | st.sampled_from(["{}", "[]", '{"Production": 5}', "[" * 5000]),
            st.just("here"),
            st.just(True),
        ),
        max_size=6,
    )
)
def test_layering_any_variables_never_raises(entries: list[Entry]) -> None:
    """No text raises."""
    resolution = _resolve(_Layer("wild", 1, entries))
    assert all(isinstance(line, str) for line in (*resolution.problems, *resolution.warnings))
    assert all(isinstance(value, str) for value in resolution.variables.values())

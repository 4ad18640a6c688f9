"""The contract suite of configuration layers: derive a class, name the layer, fill its source, and run pytest.

::

    from zcli_core.testing import ConfigLayerContract
    from zcli_vault.layer import VaultLayer

    class TestVault(ConfigLayerContract):
        layer = VaultLayer

        def fill(self, source):
            (source.folder / "vault.json").write_text(json.dumps(source.values))

If a setting says where the layer reads, ``fill`` adds it to ``source.zspark`` or ``source.environ``. If the layer needs
settings of its own plugin, the plugin must be installed (``pip install -e .``).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from math import isfinite
from pathlib import Path
from typing import Any

import pytest

from zcli_core.assembly import add_plugins_settings, check_layer, core_settings
from zcli_core.config.config import Config
from zcli_core.config.contract import ConfigLayer, Entry, LayerContext
from zcli_core.config.layering import resolve
from zcli_core.config.reading import LayerReader, Reading
from zcli_core.config.settings import Setting
from zcli_core.errors import ConfigError
from zcli_core.plugins.host import PluginHost
from zcli_core.testing.contract import Contract

#: Part of every value that must not be shown. It occurs in no message by chance.
MARK = "hunter2-Zx7"
#: Settings of several types, as texts.
VALUES = {"websocket.port": "4711", "http.timeout": "7.5", "http.trust_env": "no", "websocket.token": MARK}
_CONVERTED = {"websocket.port": 4711, "http.timeout": 7.5, "http.trust_env": False, "websocket.token": MARK}
_OTHERS = {"websocket.port": "4712", "http.timeout": "8.5", "http.trust_env": "on", "websocket.token": f"{MARK}8"}


@dataclass
class LayerSource:
    """What a layer must read, and where it may look for it.

    Attributes:
        folder: The working directory.
        values: Texts by the keys of settings.
        settings: Declared settings by key.
        environ: The environment.
        zspark: The mapping of the script.
    """

    folder: Path
    values: Mapping[str, str]
    settings: Mapping[str, Setting]
    environ: dict[str, str] = field(default_factory=dict)
    zspark: dict[str, Any] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, str]:
        """The values by the names of environment variables: ``{"ZCLI_HTTP_TIMEOUT": "7.5"}``."""
        return {f"ZCLI_{key.replace('.', '_').upper()}": value for key, value in self.values.items()}

    @property
    def files(self) -> list[Path]:
        """Every file in the folder, at any depth."""
        return sorted(file for file in self.folder.rglob("*") if file.is_file())

    def context(self) -> LayerContext:
        """Return the context that the layer gets."""
        nowhere = {"ZCLI_CONFIG_DIR": str(self.folder / "no-machine-settings")}
        return LayerContext(dict(self.zspark), {**nowhere, **self.environ}, str(self.folder), None, self.settings)


class ConfigLayerContract(Contract):
    """Tests that every configuration layer must pass.

    Override :meth:`fill`; without it, only tests that need no source run. Override :meth:`spoil` too if the source is
    not a file.

    Attributes:
        layer: The layer, or a callable without arguments that returns it, such as its class.
        settings: zSpark in all tests; it may say where the layer reads.
    """

    layer: Any = None

    def fill(self, source: LayerSource) -> None:
        """Write ``source.values`` to the source of the layer, in place of all earlier values."""
        raise NotImplementedError

    def spoil(self, source: LayerSource) -> None:
        """Make the source invalid. The default writes garbage into every file of the folder."""
        if not source.files:
            pytest.skip("the source is not a file in the folder; override spoil(source) to test the layer with garbage")
        for file in source.files:
            file.write_bytes(b"\xff\xfe\0{[<" + MARK.encode() + b"\n\x80 = : \0")

    @pytest.fixture(autouse=True)
    def prepare(self, tmp_path: Path) -> None:
        """Make the layer; find the layers and the settings of installed plugins."""
        offered = self.offered("layer")
        is_maker = isinstance(offered, type) or not hasattr(offered, "read")
        self._layer: Any = offered() if is_maker else offered
        self._folders = tmp_path
        host = PluginHost()
        host.load()
        self._settings = core_settings()
        add_plugins_settings(host, self._settings)
        installed: list[ConfigLayer] = [layer for _, layer in host.collect("zcli_config_layers", check_layer)]
        self._others = [layer for layer in installed if layer.name != self._layer.name]

    # --- helpers ---

    def _source(self, values: Mapping[str, str], name: str = "project") -> LayerSource:
        """Return an empty source with its working directory."""
        folder = self._folders / name
        folder.mkdir(exist_ok=True)
        return LayerSource(folder, values, self._settings, zspark=dict(self.settings))

    def _filled(self, values: Mapping[str, str], name: str = "project") -> LayerSource:
        if type(self).fill is ConfigLayerContract.fill:
            pytest.skip(f"{type(self).__name__} does not fill the source of the layer; override fill(source)")
        source = self._source(values, name)
        self.fill(source)
        return source

    def _readings(self, source: LayerSource, more: Iterable[ConfigLayer] = ()) -> tuple[list[Reading], LayerContext]:
        reader = LayerReader(source.context())
        readings = reader.read([*self._others, self._layer, *more])
        return readings, reader.context_for(self._layer)

    def _read(self, source: LayerSource) -> Reading:
        """Read the layer as zCLI does: after the others, if it needs settings."""
        return next(reading for reading in self._readings(source)[0] if reading.layer is self._layer)

    def _entries(self, source: LayerSource) -> list[Entry]:
        reading = self._read(source)
        assert reading.problem is None, reading.problem
        return reading.entries

    def _config(self, source: LayerSource, more: Iterable[ConfigLayer] = ()) -> Config:
        """Return the configuration of all layers.

        Raises:
            ConfigError: The configuration has mistakes.
        """
        readings, context = self._readings(source, more)
        resolution = resolve(readings, self._settings, context)
        if resolution.problems:
            raise ConfigError(resolution.problems)
        return Config(self._settings, resolution)

    # --- the layer itself ---

    def test_layer_has_name_and_order(self) -> None:
        """The name has no spaces around it, and the order is a finite number."""
        check_layer(self._layer)
        assert self._layer.name.strip() == self._layer.name != ""
        assert isfinite(self._layer.order)

    def test_layer_without_source_sets_nothing(self) -> None:
        """With an empty folder and environment, every setting has its default."""
        source = self._source({})
        self._entries(source)
        config = self._config(source)
        expected = {key: setting.default for key, setting in self._settings.items() if key not in source.zspark}
        assert {key: config.get(key) for key in expected} == expected

    # --- what it reads ---

    def test_entry_has_an_origin(self) -> None:
        """Every entry has an origin, which shows no value."""
        entries = self._entries(self._filled(VALUES))
        assert entries
        for entry in entries:
            assert isinstance(entry.origin, str)
            assert entry.origin.strip(), f"{entry.name} has no origin"
            assert not any(value in entry.origin for value in (MARK, "7.5")), (
                f"the origin of {entry.name} shows a value"
            )

    def test_values_are_converted_and_explained(self) -> None:
        """The configuration has the converted values with layer and origin, and shows no secret."""
        config = self._config(self._filled(VALUES))
        assert {key: config.get(key) for key in VALUES} == _CONVERTED
        for key in VALUES:
            found = config.explain(key)
            assert found.layer == self._layer.name
            assert found.origin.strip()
            assert MARK not in f"{found} {found!r}"
        assert MARK not in repr(config.websocket)

    def test_layer_read_again_gives_current_values(self) -> None:
        """The layer keeps nothing from one reading to the next."""
        source = self._filled(VALUES)
        once = self._entries(source)
        assert self._entries(source) == once
        changed = self._config(self._filled(_OTHERS))
        assert (changed.get("websocket.port"), changed.get("http.trust_env")) == (4712, True)

    def test_layer_read_twice_at_once_is_independent(self) -> None:
        """Reading two contexts at the same time gives each its own entries."""
        sources = self._filled(VALUES, "one"), self._filled(_OTHERS, "other")
        expected = [self._entries(source) for source in sources]
        contexts = [self._readings(source)[1] for source in sources]
        one, other = (iter(self._layer.read(context)) for context in contexts)
        pairs = list(zip_longest(one, other))
        assert [[entry for entry in found if entry is not None] for found in zip(*pairs, strict=True)] == expected

    def test_layer_reading_changes_nothing(self) -> None:
        """Reading changes neither the process's environment nor the context."""
        source = self._filled(VALUES)
        before = dict(os.environ)
        context = self._readings(source)[1]
        shown = dict(context.environ), dict(context.zspark)
        list(self._layer.read(context))
        assert dict(os.environ) == before
        assert (dict(context.environ), dict(context.zspark)) == shown
        assert (shown[0].items() >= source.environ.items(), shown[1]) == (True, source.zspark)

    def test_unknown_name_is_not_an_error(self) -> None:
        """An unknown name does not affect the other values, because it may belong to a plugin that is not installed."""
        config = self._config(self._filled({"nobodys_section.thing": "1", "http.timeout": "7.5"}))
        assert config.get("http.timeout") == 7.5

    # --- what it reads wrongly ---

    def test_invalid_value_is_an_error_with_origin(self) -> None:
        """The error says what the value must be and where it is set, and shows no secret."""
        values = {"websocket.port": "no-port", "websocket.tokens": f"{MARK}-is-no-mapping"}
        with pytest.raises(ConfigError) as caught:
            self._config(self._filled(values))
        origins = {entry.origin for entry in self._entries(self._filled(values))}
        for key in values:
            said = [problem for problem in caught.value.problems if problem.startswith(f"{key} ")]
            assert len(said) == 1, f"{key} is not reported once: {caught.value}"
            assert any(origin in said[0] for origin in origins)
            assert "must be" in said[0]
        assert MARK not in str(caught.value)

    def test_invalid_source_is_named_and_not_shown(self) -> None:
        """An invalid source is a LayerProblem that names the source."""
        source = self._filled(VALUES)
        self.spoil(source)
        reading = self._read(source)
        assert reading.problem is not None, "the layer accepted garbage"
        assert not reading.problem.startswith("the configuration layer"), f"not a LayerProblem: {reading.problem}"
        places = {file.name for file in source.files} | {*source.environ, *source.environ.values()}
        assert any(place in reading.problem for place in places), f"the source is not named: {reading.problem}"
        assert MARK not in reading.problem

    # --- among other layers ---

    def test_layer_is_ranked_by_its_order(self) -> None:
        """A layer with a higher order wins over it, and it shadows a layer with a lower order."""
        rank = self._layer.order
        below = _Fixed("below", rank - 0.001, {"http.timeout": 1, "websocket.port": 1})
        above = _Fixed("above", rank + 0.001, {"http.timeout": 3})
        config = self._config(self._filled(VALUES), (above, below))
        timeout, port = config.explain("http.timeout"), config.explain("websocket.port")
        assert (timeout.value, timeout.layer) == (3.0, "above")
        assert [value.layer for value in timeout.shadowed[:2]] == [self._layer.name, "below"]
        assert (config.get("websocket.port"), port.layer, port.shadowed[0].layer) == (4711, self._layer.name, "below")


class _Fixed:
    """A layer with fixed values."""

    def __init__(self, name: str, order: float, values: Mapping[str, Any]) -> None:
        self.name = name
        self.order: Any = order
        self._values = values

    def read(self, _: LayerContext) -> Iterator[Entry]:
        for key, value in self._values.items():
            yield Entry(key, value, self.name)

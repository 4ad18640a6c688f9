"""The contract of a configuration layer, as tests: derive a class, say which layer, fill its source, and run pytest.

::

    from zcli_core.testing import ConfigLayerContract
    from zcli_vault.layer import VaultLayer

    class TestVault(ConfigLayerContract):
        layer = VaultLayer

        def fill(self, source):
            (source.folder / "vault.json").write_text(json.dumps(source.values))

A layer that is told where to read finds it in ``source.zspark`` or ``source.environ``, which ``fill`` may add to. The
plugin has to be installed (``pip install -e .``) where the layer needs settings of its own.
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

#: Stands in every value that nobody may be shown, and in no message by chance.
MARK = "hunter2-Zx7"
#: Settings of several types, as texts.
VALUES = {"websocket.port": "4711", "http.timeout": "7.5", "http.trust_env": "no", "websocket.token": MARK}
_CONVERTED = {"websocket.port": 4711, "http.timeout": 7.5, "http.trust_env": False, "websocket.token": MARK}
_OTHERS = {"websocket.port": "4712", "http.timeout": "8.5", "http.trust_env": "on", "websocket.token": f"{MARK}8"}


@dataclass
class LayerSource:
    """What a layer is to read, and what it may look at to find it.

    ``values`` are texts by the keys of settings, ``variables`` the same by the names of their variables.
    ``folder`` is the working directory, ``environ`` the environment, ``zspark`` what the script says.
    """

    folder: Path
    values: Mapping[str, str]
    settings: Mapping[str, Setting]
    environ: dict[str, str] = field(default_factory=dict)
    zspark: dict[str, Any] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, str]:
        """The values by the environment variables that set them: ``{"ZCLI_HTTP_TIMEOUT": "7.5"}``."""
        return {f"ZCLI_{key.replace('.', '_').upper()}": value for key, value in self.values.items()}

    @property
    def files(self) -> list[Path]:
        """Every file in the folder, at any depth."""
        return sorted(file for file in self.folder.rglob("*") if file.is_file())

    def context(self) -> LayerContext:
        """What the layer is given to read."""
        nowhere = {"ZCLI_CONFIG_DIR": str(self.folder / "no-machine-settings")}
        return LayerContext(dict(self.zspark), {**nowhere, **self.environ}, str(self.folder), None, self.settings)


class ConfigLayerContract(Contract):
    """What holds for every configuration layer.

    ``layer`` is the layer, or what gives one without arguments, its class, say. :meth:`fill` is yours to write;
    without it, only what needs no source is tested. Write :meth:`spoil` too where the source is no file. ``settings``
    is what zSpark says in all tests, such as where the layer is to read.
    """

    layer: Any = None

    def fill(self, source: LayerSource) -> None:
        """Have the layer's source say exactly ``source.values``, in place of whatever it said before."""
        raise NotImplementedError

    def spoil(self, source: LayerSource) -> None:
        """Make the source one that is there and cannot be used. Here: garbage in every file of the folder."""
        if not source.files:
            pytest.skip(
                "the source is no file in the folder: write spoil(source) to test what the layer makes of garbage"
            )
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

    # --- what the tests are made of ---

    def _source(self, values: Mapping[str, str], name: str = "project") -> LayerSource:
        """An empty source, the working directory and all."""
        folder = self._folders / name
        folder.mkdir(exist_ok=True)
        return LayerSource(folder, values, self._settings, zspark=dict(self.settings))

    def _filled(self, values: Mapping[str, str], name: str = "project") -> LayerSource:
        if type(self).fill is ConfigLayerContract.fill:
            pytest.skip(f"{type(self).__name__} does not say how to fill the layer's source: write fill(source)")
        source = self._source(values, name)
        self.fill(source)
        return source

    def _readings(self, source: LayerSource, more: Iterable[ConfigLayer] = ()) -> tuple[list[Reading], LayerContext]:
        reader = LayerReader(source.context())
        readings = reader.read([*self._others, self._layer, *more])
        return readings, reader.context_for(self._layer)

    def _read(self, source: LayerSource) -> Reading:
        """What the layer gives, read as zCLI reads it: after the others, if it needs settings."""
        return next(reading for reading in self._readings(source)[0] if reading.layer is self._layer)

    def _entries(self, source: LayerSource) -> list[Entry]:
        reading = self._read(source)
        assert reading.problem is None, reading.problem
        return reading.entries

    def _config(self, source: LayerSource, more: Iterable[ConfigLayer] = ()) -> Config:
        """The configuration of all layers.

        :raises ConfigError: as ``zCLI`` does.
        """
        readings, context = self._readings(source, more)
        resolution = resolve(readings, self._settings, context)
        if resolution.problems:
            raise ConfigError(resolution.problems)
        return Config(self._settings, resolution)

    # --- the layer itself ---

    def test_it_has_a_name_and_an_order(self) -> None:
        """A name for people and a rank that can be compared; the same each time."""
        check_layer(self._layer)
        assert self._layer.name.strip() == self._layer.name != ""
        assert isfinite(self._layer.order)

    def test_nothing_to_read_is_no_error(self) -> None:
        """In an empty folder, with an empty environment, every setting keeps its default."""
        source = self._source({})
        self._entries(source)
        config = self._config(source)
        expected = {key: setting.default for key, setting in self._settings.items() if key not in source.zspark}
        assert {key: config.get(key) for key in expected} == expected

    # --- what it reads ---

    def test_every_entry_says_where_it_comes_from(self) -> None:
        """The origin is for people, and shows no value."""
        entries = self._entries(self._filled(VALUES))
        assert entries
        for entry in entries:
            assert isinstance(entry.origin, str)
            assert entry.origin.strip(), f"{entry.name} has no origin"
            assert not any(value in entry.origin for value in (MARK, "7.5")), (
                f"the origin of {entry.name} shows a value"
            )

    def test_the_values_arrive_converted_and_explained(self) -> None:
        """Through a whole configuration, each with the layer's name and its origin; a secret is not shown."""
        config = self._config(self._filled(VALUES))
        assert {key: config.get(key) for key in VALUES} == _CONVERTED
        for key in VALUES:
            found = config.explain(key)
            assert found.layer == self._layer.name
            assert found.origin.strip()
            assert MARK not in f"{found} {found!r}"
        assert MARK not in repr(config.websocket)

    def test_reading_again_gives_the_same_and_then_what_has_changed(self) -> None:
        """Nothing is kept from one reading to the next."""
        source = self._filled(VALUES)
        once = self._entries(source)
        assert self._entries(source) == once
        changed = self._config(self._filled(_OTHERS))
        assert (changed.get("websocket.port"), changed.get("http.trust_env")) == (4712, True)

    def test_two_contexts_do_not_see_each_other(self) -> None:
        """Not even while both are being read."""
        sources = self._filled(VALUES, "one"), self._filled(_OTHERS, "other")
        expected = [self._entries(source) for source in sources]
        contexts = [self._readings(source)[1] for source in sources]
        one, other = (iter(self._layer.read(context)) for context in contexts)
        pairs = list(zip_longest(one, other))
        assert [[entry for entry in found if entry is not None] for found in zip(*pairs, strict=True)] == expected

    def test_reading_changes_nothing(self) -> None:
        """Neither the process's environment nor what the script said nor the environment that it is shown."""
        source = self._filled(VALUES)
        before = dict(os.environ)
        context = self._readings(source)[1]
        shown = dict(context.environ), dict(context.zspark)
        list(self._layer.read(context))
        assert dict(os.environ) == before
        assert (dict(context.environ), dict(context.zspark)) == shown
        assert (shown[0].items() >= source.environ.items(), shown[1]) == (True, source.zspark)

    def test_a_name_that_nobody_declares_is_no_error(self) -> None:
        """It may be for a plugin that is not installed; what else is there counts."""
        config = self._config(self._filled({"nobodys_section.thing": "1", "http.timeout": "7.5"}))
        assert config.get("http.timeout") == 7.5

    # --- what it reads wrongly ---

    def test_a_value_that_will_not_do_is_an_error_with_its_origin(self) -> None:
        """It says what was expected; a secret value is not shown."""
        values = {"websocket.port": "no-port", "websocket.tokens": f"{MARK}-is-no-mapping"}
        with pytest.raises(ConfigError) as caught:
            self._config(self._filled(values))
        origins = {entry.origin for entry in self._entries(self._filled(values))}
        for key in values:
            said = [problem for problem in caught.value.problems if problem.startswith(f"{key} ")]
            assert len(said) == 1, f"not one complaint of {key}: {caught.value}"
            assert any(origin in said[0] for origin in origins)
            assert "must be" in said[0]
        assert MARK not in str(caught.value)

    def test_a_source_that_cannot_be_used_is_named_and_not_shown(self) -> None:
        """As a LayerProblem, which stops the start together with all other mistakes."""
        source = self._filled(VALUES)
        self.spoil(source)
        reading = self._read(source)
        assert reading.problem is not None, "garbage was taken for values"
        assert not reading.problem.startswith("the configuration layer"), f"no LayerProblem: {reading.problem}"
        places = {file.name for file in source.files} | {*source.environ, *source.environ.values()}
        assert any(place in reading.problem for place in places), f"the source is not named: {reading.problem}"
        assert MARK not in reading.problem

    # --- among other layers ---

    def test_it_stands_where_its_order_says(self) -> None:
        """A layer above wins over it, and it shadows one below."""
        rank = self._layer.order
        below = _Fixed("below", rank - 0.001, {"http.timeout": 1, "websocket.port": 1})
        above = _Fixed("above", rank + 0.001, {"http.timeout": 3})
        config = self._config(self._filled(VALUES), (above, below))
        timeout, port = config.explain("http.timeout"), config.explain("websocket.port")
        assert (timeout.value, timeout.layer) == (3.0, "above")
        assert [value.layer for value in timeout.shadowed[:2]] == [self._layer.name, "below"]
        assert (config.get("websocket.port"), port.layer, port.shadowed[0].layer) == (4711, self._layer.name, "below")


class _Fixed:
    """A layer of these values."""

    def __init__(self, name: str, order: float, values: Mapping[str, Any]) -> None:
        self.name = name
        self.order: Any = order
        self._values = values

    def read(self, _: LayerContext) -> Iterator[Entry]:
        for key, value in self._values.items():
            yield Entry(key, value, self.name)

"""The contract of a configuration layer, as tests: say which layer, and how its source comes to hold something.

::

    from zcli_core.testing import ConfigLayerContract
    from zcli_notes.layer import NotesLayer

    class TestNotes(ConfigLayerContract):
        layer = NotesLayer

        def write(self, place, values):
            lines = [f"{key}: {value}" for key, value in values.items()]
            (place.working_directory / "notes.txt").write_text("\\n".join(lines))

That is enough; ``break_source`` and ``where`` make the tests of faults and of origins run too.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from zcli_core.config.assembly import core_settings
from zcli_core.config.config import Config
from zcli_core.config.layering import read_layer, resolve
from zcli_core.contracts.config_layer import ConfigLayer, Entry, LayerContext, LayerProblem
from zcli_core.errors import ConfigError

#: What the suite sets: a number, a text, a list and a secret, as text, for most sources know nothing else.
VALUES: Mapping[str, str] = {
    "http.timeout": "7.5",
    "websocket.host": "127.0.0.9",
    "websocket.subprotocols": "chat,news",
    "websocket.token": "S3cret-of-the-layer-suite",
}
_CONVERTED = {"http.timeout": 7.5, "websocket.host": "127.0.0.9", "websocket.subprotocols": ("chat", "news")}
_SECRET = VALUES["websocket.token"]


class Place:
    """Where a layer finds itself in one test: two empty folders, an environment and a zSpark of its own.

    ``settings`` are the declared settings by key. Nothing in it is this process's own.
    """

    def __init__(self, folder: Path) -> None:
        self.working_directory = folder / "work"
        self.script_directory = folder / "script"
        for each in (self.working_directory, self.script_directory):
            each.mkdir(parents=True)
        self.environ: dict[str, str] = {}
        self.zspark: dict[str, Any] = {}
        self.settings = core_settings()

    def context(self) -> LayerContext:
        """What a layer that reads here is given."""
        return LayerContext(
            zspark=self.zspark,
            environ=self.environ,
            working_directory=str(self.working_directory),
            script_directory=str(self.script_directory),
            settings=self.settings,
        )


class FakeLayer:
    """A layer that holds a few values, to stand above or below the one under test."""

    def __init__(self, name: str, order: int, values: Mapping[str, Any]) -> None:
        self.name = name
        self.order = order
        self._values = values

    def read(self, context: LayerContext) -> Iterator[Entry]:
        """Yield the values."""
        for key, value in self._values.items():
            yield Entry(key, value, f"the layer {self.name}")


class ConfigLayerContract:
    """What holds for every layer."""

    #: The layer, or what makes it, without arguments.
    layer: ClassVar[ConfigLayer | Callable[[], ConfigLayer]]
    #: Whether the source can name settings that nobody declares.
    holds_unknown_names: ClassVar[bool] = True

    def write(self, place: Place, values: Mapping[str, str]) -> None:
        """Make the source at that place hold these values, by setting's key, and no others."""
        raise NotImplementedError(f"{type(self).__name__} must say how its source comes to hold values: write()")

    def break_source(self, place: Place) -> str:
        """Make the source one that cannot be read, holding the secret of ``VALUES`` if it can.

        :returns: what the complaint must name: the file, say. ``""``: this source cannot be broken.
        """
        return ""

    # --- fixtures ---

    @pytest.fixture
    def place(self, tmp_path: Path) -> Place:
        """Where the layer reads."""
        return Place(tmp_path / "here")

    @pytest.fixture
    def elsewhere(self, tmp_path: Path) -> Place:
        """Another place."""
        return Place(tmp_path / "there")

    @pytest.fixture
    def made(self) -> ConfigLayer:
        """The layer under test."""
        offered = inspect.getattr_static(type(self), "layer", None)
        if offered is None:
            raise TypeError(f"{type(self).__name__} must say what it tests: layer = your layer, or its class")
        layer: ConfigLayer = offered() if isinstance(offered, type) or not hasattr(offered, "read") else offered
        return layer

    # --- what it is ---

    def test_it_has_a_name_and_an_order(self, made: ConfigLayer) -> None:
        """A name for people, and a rank among the others."""
        assert isinstance(made.name, str)
        assert made.name.strip()
        assert isinstance(made.order, int)

    # --- reading ---

    def test_nothing_to_read_is_no_error(self, made: ConfigLayer, place: Place) -> None:
        """A source that is not there sets nothing."""
        place.settings.clear()
        assert list(made.read(place.context())) == []

    def test_every_entry_says_where_it_is_from(self, made: ConfigLayer, place: Place) -> None:
        """Each has a name and an origin, and no origin has a value in it, for origins are shown."""
        self.write(place, VALUES)
        entries = list(made.read(place.context()))
        assert len(entries) >= len(VALUES)
        for entry in entries:
            assert isinstance(entry, Entry)
            assert isinstance(entry.name, str)
            assert isinstance(entry.origin, str)
            assert entry.origin.strip()
            assert _SECRET not in entry.origin

    def test_what_it_reads_arrives_converted_with_its_origin(self, made: ConfigLayer, place: Place) -> None:
        """Every value has its declared type, and explain() names this layer."""
        self.write(place, VALUES)
        config = laid(place, made).config
        assert {key: config.get(key) for key in _CONVERTED} == _CONVERTED
        assert config.get("websocket.token") == _SECRET
        for key in VALUES:
            assert config.explain(key).layer == made.name
            assert config.explain(key).origin

    def test_reading_again_gives_the_same_and_sees_what_has_changed(self, made: ConfigLayer, place: Place) -> None:
        """A layer keeps nothing from one reading to the next."""
        self.write(place, VALUES)
        before = list(made.read(place.context()))
        assert list(made.read(place.context())) == before
        self.write(place, {**VALUES, "http.timeout": "9.25"})
        assert laid(place, made).config.get("http.timeout") == 9.25

    def test_two_places_do_not_see_each_other(self, made: ConfigLayer, place: Place, elsewhere: Place) -> None:
        """Two zCLI objects of one process may be configured differently, at the same time."""
        self.write(place, VALUES)
        self.write(elsewhere, {"http.timeout": "2.5"})
        readings = [iter(made.read(each.context())) for each in (place, elsewhere)]
        assert all(next(reading, None) for reading in readings)  # both have begun
        assert laid(elsewhere, made).config.get("http.timeout") == 2.5
        assert laid(place, made).config.get("http.timeout") == 7.5
        assert laid(elsewhere, made).config.get("websocket.host") != VALUES["websocket.host"]

    def test_it_leaves_everything_as_it_was(self, made: ConfigLayer, place: Place) -> None:
        """The process's environment, zSpark and the working directory are somebody else's."""
        self.write(place, VALUES)
        before = (dict(os.environ), dict(place.environ), dict(place.zspark), os.getcwd(), _files(place))
        list(made.read(place.context()))
        assert (dict(os.environ), dict(place.environ), dict(place.zspark), os.getcwd(), _files(place)) == before

    # --- among others ---

    def test_it_wins_over_what_is_below_and_yields_to_what_is_above(self, made: ConfigLayer, place: Place) -> None:
        """By its order alone; what it shadows is told."""
        self.write(place, VALUES)
        below = FakeLayer("below", made.order - 1, {"http.timeout": 1.5, "http.retries": 3})
        above = FakeLayer("above", made.order + 1, {"websocket.host": "127.0.0.3"})
        config = laid(place, above, made, below).config
        assert config.get("http.timeout") == 7.5
        assert [value.layer for value in config.explain("http.timeout").shadowed] == ["below"]
        assert config.get("websocket.host") == "127.0.0.3"
        assert made.name in [value.layer for value in config.explain("websocket.host").shadowed]
        if made.name != "defaults":
            assert config.get("http.retries") == 3

    # --- faults ---

    def test_a_value_that_cannot_be_used_is_told_with_its_origin(self, made: ConfigLayer, place: Place) -> None:
        """The complaint names the key and where it stands."""
        self.write(place, {**VALUES, "http.timeout": "soon"})
        origin = next(e.origin for e in made.read(place.context()) if _is_timeout(e))
        (problem,) = laid(place, made).problems
        assert "http.timeout" in problem
        assert origin in problem
        assert _SECRET not in problem

    def test_a_name_that_nobody_declares_is_a_warning(self, made: ConfigLayer, place: Place) -> None:
        """With a suggestion, and the rest is used."""
        if not self.holds_unknown_names:
            pytest.skip("this source names declared settings only")
        self.write(place, {**VALUES, "http.timeuot": "3"})
        result = laid(place, made)
        assert result.config.get("http.timeout") == 7.5
        assert any("timeuot" in warning.lower() and "timeout" in warning.lower() for warning in result.warnings)

    def test_a_source_that_cannot_be_read_is_named_without_its_values(self, made: ConfigLayer, place: Place) -> None:
        """Reading raises LayerProblem and nothing else, and the configuration cannot be used."""
        named = self.break_source(place)
        if not named:
            pytest.skip("this source cannot be broken")
        with pytest.raises(LayerProblem) as complaint:
            list(made.read(place.context()))
        assert named in str(complaint.value)
        assert _SECRET not in str(complaint.value)
        assert read_layer(made, place.context()).problem == str(complaint.value)

    def test_a_secret_is_shown_nowhere(self, made: ConfigLayer, place: Place) -> None:
        """Not in the configuration's repr, nor where it is explained."""
        self.write(place, VALUES)
        config = laid(place, made).config
        assert _SECRET not in repr(config)
        assert _SECRET not in repr(config.websocket)
        assert _SECRET not in str(config.explain("websocket.token"))
        assert _SECRET not in str(ConfigError(laid(place, made).problems or ["none"]))


class Laid:
    """What came of laying layers over each other."""

    def __init__(self, place: Place, layers: tuple[ConfigLayer, ...]) -> None:
        context = place.context()
        resolution = resolve([read_layer(layer, context) for layer in layers], place.settings, context)
        self.config = Config(place.settings, resolution)
        self.problems = resolution.problems
        self.warnings = resolution.warnings


def laid(place: Place, *layers: ConfigLayer) -> Laid:
    """Lay layers over each other, as zCLI does."""
    return Laid(place, layers)


def _is_timeout(entry: Entry) -> bool:
    name = entry.name.lower().replace("_", ".")
    return name.endswith("http.timeout") or (entry.name == "http" and "timeout" in entry.value)


def _files(place: Place) -> set[Path]:
    return {*place.working_directory.rglob("*"), *place.script_directory.rglob("*")}

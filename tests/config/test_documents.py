"""Settings that are a document: the path of a file, or a nested mapping."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from zcli_core.config.config import Config
from zcli_core.config.contract import Entry, LayerContext
from zcli_core.config.layering import resolve
from zcli_core.config.reading import read_layer
from zcli_core.config.settings import Section, declared_settings, setting, verify_types


class _Sample(Section, name="sample"):
    """A document, and a setting beside it."""

    models: Path | Mapping[str, Any] | None = setting(None, "")
    other: int = setting(0, "")


SETTINGS = {each.key: each for each in declared_settings(_Sample, "test")}


class _Layer:
    def __init__(self, name: str, order: int, *entries: Entry) -> None:
        self.name, self.order, self.entries = name, order, entries

    def read(self, context: LayerContext) -> Iterable[Entry]:
        return self.entries


def _config(folder: Path, *layers: Any) -> tuple[Config, list[str]]:
    context = LayerContext({}, {}, str(folder), None, SETTINGS)
    found = resolve([read_layer(layer, context) for layer in layers], SETTINGS, context)
    return Config(SETTINGS, found), found.problems


def test_document_nested_in_a_file_keeps_types(tmp_path: Path) -> None:
    """A layer that gives leaves with texts: the values are used, in their places."""
    layer = _Layer(
        "machine",
        100,
        Entry("sample.models.tasks.fields.stars.max", 5, "m.yaml:4", text="5"),
        Entry("sample.models.tasks.fields.stars.type", "int", "m.yaml:5", text="int"),
        Entry("sample.models.tasks.fields.state.enum", ["a", "b"], "m.yaml:6"),
        Entry("sample.models.tasks.access", {}, "m.yaml:7"),
        Entry("sample.models.notes", {"access": {"read": []}, "fields": None}, "m.yaml:7"),
        Entry("sample.models.notes.owner", None, "m.yaml:7"),
        Entry("sample.other", 3, "m.yaml:8", text="3"),
    )
    config, problems = _config(tmp_path, layer)
    assert problems == []
    assert config.get("sample.models") == {
        "tasks": {"fields": {"stars": {"max": 5, "type": "int"}, "state": {"enum": ["a", "b"]}}, "access": {}},
        "notes": {"access": {"read": []}, "fields": None, "owner": None},
    }
    assert (config.get("sample.other"), config.explain("sample.models").origin) == (3, "m.yaml:4")


def test_document_of_the_script_is_a_copy(tmp_path: Path) -> None:
    """It wins as a whole over that of a lower layer, and later changes of the script's mapping have no effect."""
    mapping: dict[str, Any] = {"models": {"new": {"fields": {"a": None, "b.c": 1}}}}
    low = _Layer("machine", 100, Entry("sample.models.old.fields.a", "int", "m.yaml:4", text="int"))
    config, problems = _config(tmp_path, low, _Layer("zSpark", 400, Entry("sample", mapping, "zSpark")))
    mapping["models"]["new"]["fields"]["a"] = "changed"
    assert problems == []
    assert config.get("sample.models") == {"new": {"fields": {"a": None, "b.c": 1}}}
    assert isinstance(config.get("sample.models"), MappingProxyType)


def test_document_path_is_looked_up_in_trusted_folders(tmp_path: Path) -> None:
    """A relative path becomes absolute; a folder that every user may write is not trusted."""
    (tmp_path / "models.yaml").write_text("{}")
    layer = _Layer("zSpark", 400, Entry("sample.models", "models.yaml", "zSpark"))
    config, problems = _config(tmp_path, layer)
    assert (config.get("sample.models"), problems) == (tmp_path / "models.yaml", [])
    tmp_path.chmod(0o777)
    _, problems = _config(tmp_path, layer)
    assert "sample.models: the path 'models.yaml'" in problems[0] or "is not read, because" in problems[0]
    assert "set sample.models to an absolute path" in problems[0]


def test_document_that_is_secret_is_hidden_in_the_log(tmp_path: Path) -> None:
    """A layer that marks the document as a secret hides the texts in it, however deep."""
    secret = Entry("sample.models", {"a": {"b": ["deep", {"c": "deeper"}]}, "n": 1}, "vault", secret=True)
    config, _ = _config(tmp_path, _Layer("vault", 150, secret))
    assert config.secret_texts() == {"deep", "deeper"}
    assert "deep" not in repr(config.section(_Sample))


def test_document_other_value_is_refused(tmp_path: Path) -> None:
    """A list or a number is neither a path nor a mapping."""
    verify_types(list(SETTINGS.values()))
    for value in (5, ["a"], "", True):
        _, problems = _config(tmp_path, _Layer("zSpark", 400, Entry("sample.models", value, "zSpark")))
        assert problems[0].startswith("sample.models must be the path of a file, or a mapping, got")

"""Models: what a file of models may say, and the errors for what it may not."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zcli_bifrost.data.model_file import load_models, parse_models
from zcli_bifrost.data.patterns import Pattern, PatternError

from zcli_core.errors import ConfigError

GOOD = """
projects:
  fields:
    slug: {type: text, pk: true}
tasks:
  fields:
    title: {type: text, required: true, max_length: 200, pattern: "[^<>]+"}
    state: {type: text, enum: [open, done], default: open}
    due: datetime
    project: {references: projects, required: true}
    author: text
  owner: author
  all_rows: admin
  access: {read: [user, admin], create: ["*"]}
"""


def test_models_file_is_read(tmp_path: Path) -> None:
    """Short forms, the key that is added, and the type of a reference."""
    file = tmp_path / "models.yaml"
    file.write_text(GOOD)
    models = load_models(file, "zSpark")
    tasks = models["tasks"]
    assert list(tasks.fields) == ["id", "title", "state", "due", "project", "author"]
    assert (tasks.pk, tasks.owner, tasks.all_rows) == ("id", "author", frozenset({"admin"}))
    assert (tasks.fields["project"].type, tasks.fields["author"].required) == ("text", True)
    assert tasks.access == {"read": frozenset({"user", "admin"}), "create": frozenset({"*"})}
    assert models["projects"].fields["slug"].max_length == 600


def _fields(**fields: Any) -> dict[str, Any]:
    return {"m": {"fields": {"ok": "text", **fields}}}


BAD: list[tuple[Any, str]] = [
    (None, "must be a mapping of model names"),
    ([], "must be a mapping of model names"),
    ({}, "must be a mapping of model names"),
    ({"m": None}, "with 'fields'"),
    ({"m": {"fields": {}}}, "with 'fields'"),
    ({"m": {"fields": ["a"]}}, "with 'fields'"),
    ({'a"; DROP TABLE x': {"fields": {"a": "int"}}}, "must begin with a letter"),
    ({"1a": {"fields": {"a": "int"}}}, "must begin with a letter"),
    ({5: {"fields": {"a": "int"}}}, "must begin with a letter"),
    ({"é": {"fields": {"a": "int"}}}, "must begin with a letter"),
    ({"a" * 49: {"fields": {"a": "int"}}}, "at most 48"),
    ({"__proto__": {"fields": {"a": "int"}}}, "must begin with a letter"),
    ({"Sqlite_master": {"fields": {"a": "int"}}}, "must not begin with sqlite_"),
    ({"zcli_bifrost_changes": {"fields": {"a": "int"}}}, "must not begin with"),
    ({"pg_class": {"fields": {"a": "int"}}}, "must not begin with"),
    ({"m": {"fields": {"a": "int"}}, "M": {"fields": {"a": "int"}}}, "used twice"),
    ({"m": {"fields": {"a": "int"}, "feilds": 1}}, "unknown key 'feilds'; did you mean 'fields'?"),
    (_fields(x="integer"), "the type must be one of int, float"),
    (_fields(x=5), "must be a type"),
    (_fields(x={"required": True}), "the type is missing; it must be one of int"),
    (_fields(x={"type": "int", "requried": True}), "unknown option 'requried'; did you mean 'required'?"),
    (_fields(ctid="int"), "column of its own"),
    (_fields(OK="int"), "used twice"),
    (_fields(**{"a b": "int"}), "must begin with a letter"),
    (_fields(x={"type": "int", "pk": True}, y={"type": "int", "pk": True}), "must have one key"),
    (_fields(id="int"), "no field is the key"),
    (_fields(x={"type": "json", "unique": True}), "unique is not for the type json"),
    (_fields(x={"type": "text", "min": 1}), "min is not for the type text"),
    (_fields(x={"type": "int", "pattern": "a"}), "pattern is not for the type int"),
    (_fields(x={"type": "int", "min": "1"}), "min must be an integer, got '1'"),
    (_fields(x={"type": "int", "min": 2, "max": 1}), "min is greater than max"),
    (_fields(x={"type": "text", "min_length": 2, "max_length": 1}), "min_length is greater"),
    (_fields(x={"type": "text", "max_length": -1}), "max_length must be"),
    (_fields(x={"type": "text", "max_length": True}), "max_length must be"),
    (_fields(x={"type": "text", "unique": True, "max_length": 700}), "at most 600"),
    (_fields(x={"type": "text", "unique": "yes"}), "unique must be true, false or owner"),
    (_fields(x={"type": "text", "unique": "owner"}), "the model has no owner"),
    (_fields(x={"type": "text", "required": "yes"}), "required must be true or false"),
    (_fields(x={"type": "text", "enum": []}), "enum must be a list"),
    (_fields(x={"type": "text", "enum": ["a", True]}), "must be a text, got True; write it in quotes"),
    (_fields(x={"type": "text", "enum": ["a"], "default": "b"}), "the default must be one of a"),
    (_fields(x={"type": "datetime", "default": "today"}), "the default must be a date and time"),
    (_fields(x={"type": "int", "pk": True, "default": 1}), "a key has no default"),
    (_fields(x={"type": "text", "pattern": "(a"}), "cannot be used"),
    (_fields(x={"type": "text", "pattern": r"(a)\1"}), "a backreference"),
    (_fields(x={"type": "text", "pattern": "(?=a)"}), "lookahead"),
    (_fields(x={"type": "text", "pattern": "(?i)a"}), "flags"),
    (_fields(x={"type": "text", "pattern": "a{1,1000}"}), "too large"),
    (_fields(x={"type": "text", "pattern": "((a{50}){50}){50}"}), "too large"),
    (_fields(x={"references": "nope"}), "must be the name of a model"),
    (_fields(x={"references": "m", "type": "text"}), "the type must be int"),
    (_fields(x={"references": "m", "min": 1}), "takes only type, required and unique"),
    ({"m": {"fields": {"a": "int"}, "owner": "b"}}, "owner must be the name of one of its fields"),
    ({"m": {"fields": {"a": "int"}, "owner": "a"}}, "must be {type: text}"),
    ({"m": {"fields": {"a": "int"}, "all_rows": ["x"]}}, "without an owner"),
    ({"m": {"fields": {"a": "int"}, "access": ["read"]}}, "access must be a mapping"),
    ({"m": {"fields": {"a": "int"}, "access": {"raed": ["x"]}}}, "unknown action 'raed'; did you mean 'read'?"),
    ({"m": {"fields": {"a": "int"}, "access": {"read": [1]}}}, "must be a role or a list of roles"),
]  # fmt: skip


@pytest.mark.parametrize(("given_models", "problem"), BAD, ids=range(len(BAD)))
def test_models_mistake_names_its_place(given_models: Any, problem: str) -> None:
    """The error names the file, and says what is wrong."""
    with pytest.raises(ConfigError) as error:
        parse_models(given_models, "models.yaml")
    assert problem in str(error.value)
    assert all(each.startswith("models.yaml") for each in error.value.problems)


def test_models_all_mistakes_come_at_once() -> None:
    """Each names its model and its field."""
    with pytest.raises(ConfigError) as error:
        parse_models({"a": {"fields": {"x": "nope", "y": {"type": "int", "max": "z"}}}, "b": 1}, "models.yaml")
    assert [each.partition(": ")[0] for each in error.value.problems] == [
        "models.yaml, model 'a', field 'x'",
        "models.yaml, model 'a', field 'y'",
        "models.yaml, model 'b'",
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: {fields: {x: int, x: text}}", "line 1: invalid YAML: duplicate key 'x'"),
        ("a: [", "line 1: invalid YAML"),
        ("a: !!python/object/apply:os.system ['true']", "line 1: invalid YAML"),
        ("a: \x00", "invalid YAML"),
        ("#" * 1_000_001, "is too large"),
    ],
    ids=range(5),
)
def test_models_file_invalid_is_an_error(tmp_path: Path, text: str, problem: str) -> None:
    """YAML that does not parse, or that would run code, names the file, the line and the setting."""
    file = tmp_path / "models.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError) as error:
        load_models(file, "zConfig.machine.yaml:3")
    assert problem in str(error.value)
    assert f"{file} (bifrost.models, zConfig.machine.yaml:3)" in str(error.value)


def test_models_file_missing_names_the_setting(tmp_path: Path) -> None:
    """The error says where the path is set."""
    with pytest.raises(ConfigError, match=r"cannot read the models in .*nope.yaml \(bifrost.models, zSpark\): No such"):
        load_models(tmp_path / "nope.yaml", "zSpark")


def test_setting_models_is_a_path_or_a_mapping(tmp_path: Path) -> None:
    """A document in zSpark, nested in the machine's file, or as JSON in a variable keeps its types."""
    from zcli_bifrost.settings import Bifrost

    from zcli_core.config.conversion import ConversionError, convert
    from zcli_core.config.settings import declared_settings

    models = next(each for each in declared_settings(Bifrost, "test") if each.attribute == "models")
    document = {"tasks": {"fields": {"stars": {"type": "int", "max": 5}}}}
    for raw in (document, '{"tasks": {"fields": {"stars": {"type": "int", "max": 5}}}}'):
        found = convert(raw, models)
        assert parse_models(found, "x")["tasks"].fields["stars"].maximum == 5
    found = convert(document, models)
    document["tasks"]["fields"] = {}
    assert found["tasks"]["fields"]
    assert convert("models.yaml", models) == Path("models.yaml")
    with pytest.raises(ConversionError, match="the path of a file, or a mapping"):
        convert(5, models)


# --- patterns ---

_pieces = st.recursive(
    st.sampled_from(["a", "b", ".", "[ab]", "[^a]", r"\d", r"\W", "-", "[a-c0-9_]"]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{0,2}", "*?"])).map(
            lambda p: f"(?:{p[0]}){p[1]}"
        ),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"({'|'.join(parts)})"),
    ),
    max_leaves=6,
)


@given(_pieces, st.lists(st.text("abc1-_é\n", max_size=8), min_size=5, max_size=5))
def test_pattern_matches_as_re(pattern: str, values: list[str]) -> None:
    """The result is that of re.fullmatch."""
    try:
        found = Pattern(f"^{pattern}$")
    except PatternError as error:
        if "too large" not in str(error):
            raise
        return
    for value in values:
        assert found.matches(value) == (re.fullmatch(pattern, value) is not None), (pattern, value)


@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|a)*b", "(a|aa)+b", "a*a*a*a*a*a*b", "(.*a){20}"])
def test_pattern_catastrophic_takes_linear_time(pattern: str) -> None:
    """A text ten times as long takes about ten times as long, where re would not come back."""
    found = Pattern(pattern)

    def cost(length: int) -> float:
        text = "a" * length + "c"
        start = time.process_time()
        for _ in range(5):
            assert not found.matches(text)
        return time.process_time() - start

    cost(100)
    short, long = min(cost(1000) for _ in range(3)), min(cost(10_000) for _ in range(3))
    assert long < 40 * short + 0.01

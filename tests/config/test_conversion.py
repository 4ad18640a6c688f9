"""Conversion of raw values to declared types."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zcli_core.config.conversion import ConversionError, convert, describe
from zcli_core.config.settings import Section, Setting, declared_settings, setting


def _refuse(value: Any) -> str | None:
    return None if value != "forbidden" else "anything but that"


def _fail(value: Any) -> str | None:
    raise RuntimeError(f"cannot check {value}")


class _Sample(Section, name="sample"):
    """One setting of each kind."""

    flag: bool = setting(False, "")
    number: int = setting(0, "")
    port: int = setting(0, "", minimum=0, maximum=65535)
    ratio: float = setting(0.0, "")
    timeout: float = setting(1.0, "", above=0)
    at_least: int = setting(1, "", minimum=1)
    at_most: float = setting(1.0, "", maximum=2.5)
    text: str = setting("", "")
    maybe: str | None = setting(None, "")
    choice: Literal["One", "Two", "off"] = setting("One", "")
    path: Path | None = setting(None, "")
    names: tuple[str, ...] = setting((), "")
    pairs: Mapping[str, str] = setting({}, "")
    document: Path | Mapping[str, Any] | None = setting(None, "")
    checked: str = setting("", "", check=_refuse)
    uncheckable: str = setting("", "", check=_fail)


SAMPLE: dict[str, Setting] = {s.attribute: s for s in declared_settings(_Sample, "test")}


def _to(name: str, raw: Any, **options: Any) -> Any:
    return convert(raw, SAMPLE[name], **options)


# --- what a variable can say -----------------------------------------------------------------------------------

spaces = st.text(" \t", max_size=3)


def _any_case(word: str) -> st.SearchStrategy[str]:
    return st.lists(st.booleans(), min_size=len(word), max_size=len(word)).map(
        lambda upper: "".join(c.upper() if u else c for c, u in zip(word, upper, strict=True))
    )


@given(st.sampled_from(["true", "1", "yes", "on"]).flatmap(_any_case), spaces, spaces)
def test_bool_word_for_true_in_any_case_is_true(word: str, before: str, after: str) -> None:
    """With spaces around or not."""
    assert _to("flag", before + word + after) is True


@given(st.sampled_from(["false", "0", "no", "off"]).flatmap(_any_case), spaces, spaces)
def test_bool_word_for_false_in_any_case_is_false(word: str, before: str, after: str) -> None:
    """The string "false" is false."""
    assert _to("flag", before + word + after) is False


@given(st.text())
def test_bool_other_text_is_refused(text: str) -> None:
    """Other values are not guessed."""
    if text.strip().casefold() not in {"true", "1", "yes", "on", "false", "0", "no", "off"}:
        with pytest.raises(ConversionError, match="true or false"):
            _to("flag", text)


@given(st.integers(-(10**30), 10**30), spaces, spaces)
def test_integer_as_text_is_converted(number: int, before: str, after: str) -> None:
    """Of any size, signed or not."""
    assert _to("number", f"{before}{number}{after}") == number
    assert type(_to("number", number)) is int


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_number_as_text_is_converted(number: float) -> None:
    """The result is exactly the same number."""
    assert _to("ratio", repr(number)) == number
    assert type(_to("ratio", 3)) is float


@given(st.text())
def test_integer_other_text_is_refused(text: str) -> None:
    """No other digits than 0-9, no digit groups, no hexadecimal, no empty text."""
    digits = text.strip().lstrip("+-")
    if not (digits.isascii() and digits.isdigit()):
        with pytest.raises(ConversionError, match="an integer"):
            _to("number", text)


@pytest.mark.parametrize("text", ["", " ", "1_000", "0x10", "1e3", "1.0", "٣", "１２", "--1", "1 2", "nan", "9" * 5000])
def test_integer_form_of_python_or_yaml_is_refused(text: str) -> None:
    """int() takes some of these."""
    with pytest.raises(ConversionError):
        _to("number", text)


@pytest.mark.parametrize("raw", ["nan", "inf", "-Infinity", "1e999", "1_0.0", float("nan"), float("inf"), 10**400, "٣"])
def test_number_not_finite_is_refused(raw: Any) -> None:
    """No setting means infinity."""
    with pytest.raises(ConversionError):
        _to("ratio", raw)


@given(st.integers(-70000, 140000))
def test_bounds_are_inclusive(number: int) -> None:
    """0 and 65535 are valid ports, -1 and 65536 are not."""
    if 0 <= number <= 65535:
        assert _to("port", str(number)) == number
    else:
        with pytest.raises(ConversionError, match=r"^an integer between 0 and 65535$"):
            _to("port", str(number))


@given(st.floats(-1, 1, allow_nan=False))
def test_bound_above_is_exclusive(number: float) -> None:
    """Zero is not."""
    if number > 0:
        assert _to("timeout", number) == number
    else:
        with pytest.raises(ConversionError, match=r"^a number above 0$"):
            _to("timeout", number)


names = st.text(min_size=1).filter(lambda s: s == s.strip() and "," not in s and s[0] not in "[{")


@given(st.lists(names), spaces)
def test_list_with_commas_gives_its_items(items: list[str], space: str) -> None:
    """Spaces around the commas do not count."""
    assert _to("names", f"{space},{space}".join(items)) == tuple(items)


@given(st.lists(st.text()))
def test_list_in_json_gives_its_items(items: list[str]) -> None:
    """Items may hold commas, spaces, quotes and line ends."""
    assert _to("names", json.dumps(items)) == tuple(items)
    assert _to("names", items) == tuple(items)


@given(st.text(max_size=30).map(lambda text: "[" + text))
def test_list_in_invalid_json_is_refused(text: str) -> None:
    """It is not read as a list with commas."""
    try:
        expected = json.loads(text)
    except ValueError:
        expected = None
    if not (isinstance(expected, list) and all(isinstance(item, str) for item in expected)):
        with pytest.raises(ConversionError, match="a list of strings"):
            _to("names", text)


plain_names = names.filter(lambda s: "=" not in s)


@given(st.dictionaries(plain_names, names))
def test_mapping_with_commas_gives_its_items(pairs: dict[str, str]) -> None:
    """The first ``=`` divides, so that values may hold one."""
    if pairs and next(iter(pairs))[0] != "{":
        assert _to("pairs", ",".join(f"{k}={v}" for k, v in pairs.items())) == pairs


@given(st.dictionaries(st.text(), st.text()))
def test_mapping_in_json_is_read_only(pairs: dict[str, str]) -> None:
    """So is a mapping that zSpark gives; changing the original has no effect."""
    assert _to("pairs", json.dumps(pairs)) == pairs
    given_one = dict(pairs)
    found = _to("pairs", given_one)
    given_one["later"] = "x"
    assert found == pairs
    with pytest.raises(TypeError):
        found["x"] = "y"


@pytest.mark.parametrize("raw", ["a", "a=1,b", "=1", "{bad", '{"a": 1}', "[]", 5, ["a"], {"a": 1}, {1: "a"}])
def test_mapping_of_other_values_is_refused(raw: Any) -> None:
    """Numbers in it are not converted to strings, because their original text is not known."""
    with pytest.raises(ConversionError, match="a mapping of strings"):
        _to("pairs", raw)


@pytest.mark.parametrize(
    "raw", [5, b"abc", {"a": "b"}, [1], ["a", None], (x for x in "abc"), "[1]", '["a", 2]', "[" * 9999]
)
def test_list_of_other_values_is_refused(raw: Any) -> None:
    """A generator is invalid too, because layers may be read twice."""
    with pytest.raises(ConversionError, match="a list of strings"):
        _to("names", raw)


@given(st.text())
def test_string_is_not_changed(text: str) -> None:
    """Spaces are kept."""
    assert _to("text", text) == text
    assert _to("maybe", text) == text


@pytest.mark.parametrize("raw", [5, 1.5, True, b"x", ["x"], {"x": "y"}, Path("x"), object()])
def test_string_of_another_type_is_refused(raw: Any) -> None:
    """``1.10`` and ``None`` would become other strings."""
    with pytest.raises(ConversionError, match=r"^a string$"):
        _to("text", raw)


@given(st.sampled_from(["One", "Two", "off"]).flatmap(lambda c: st.tuples(st.just(c), _any_case(c))))
def test_choice_in_any_case_is_recognised(choice: tuple[str, str]) -> None:
    """production, PRODUCTION and Production are one deployment."""
    declared, written = choice
    assert _to("choice", f" {written} ") == declared


def test_choice_unknown_error_lists_the_choices() -> None:
    """All of them."""
    with pytest.raises(ConversionError, match=r"^one of One, Two, off$"):
        _to("choice", "Three")


@pytest.mark.parametrize("raw", ["", "  ", "a\0b", 5, True, b"x", ["x"]])
def test_path_of_another_type_is_refused(raw: Any) -> None:
    """An empty path is refused too, because it would mean the working directory."""
    with pytest.raises(ConversionError, match=r"^a path$"):
        _to("path", raw)


@pytest.mark.parametrize("raw", [True, "x", None, [], {}, object(), 1.5, "1.5"])
def test_integer_of_another_type_is_refused(raw: Any) -> None:
    """True is an int in Python, but not a valid port."""
    with pytest.raises(ConversionError):
        _to("port", raw)


@pytest.mark.parametrize(
    ("name", "read", "written", "value"),
    [
        ("text", 1.1, "1.10", "1.10"),
        ("number", 493, "0755", 755),
        ("choice", False, "off", "off"),
        ("flag", True, "on", True),
        ("path", 2024, "2024", Path("2024")),
    ],
)
def test_convert_with_text_ignores_the_raw_value(name: str, read: Any, written: str, value: Any) -> None:
    """The value that YAML parsed is not used."""
    assert _to(name, read, text=written) == value


def test_check_message_is_the_error() -> None:
    """The check runs after the conversion."""
    assert _to("checked", "allowed") == "allowed"
    with pytest.raises(ConversionError, match=r"^anything but that$"):
        _to("checked", "forbidden")


def test_check_that_raises_does_not_show_the_value() -> None:
    """The message of the error may quote a secret."""
    with pytest.raises(ConversionError) as caught:
        _to("uncheckable", "hunter2")
    assert str(caught.value) == "a string (the check of its plugin failed: RuntimeError)"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("flag", "true or false"),
        ("number", "an integer"),
        ("port", "an integer between 0 and 65535"),
        ("at_least", "an integer of at least 1"),
        ("at_most", "a number of at most 2.5"),
        ("timeout", "a number above 0"),
        ("maybe", "a string"),
        ("path", "a path"),
    ],
)
def test_describe_names_what_a_setting_takes(name: str, words: str) -> None:
    """For errors and for ``zcli config``."""
    assert describe(SAMPLE[name]) == words

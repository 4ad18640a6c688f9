"""The log in JSON: every record gives one valid line, and no secret."""

from __future__ import annotations

import enum
import io
import json
import logging
import os
import sys
from collections.abc import Callable
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zcli_core.app import zCLI
from zcli_core.log import FILE_ONLY, ApplicationLog
from zcli_core.log_json import KEYS, JsonFormatter
from zcli_core.redaction import SecretFilter

Open = Callable[..., ApplicationLog]
SECRET = "p'a\"ss w\\rd"


class _Hostile:
    def __str__(self) -> str:
        raise ValueError("no text")

    __repr__ = __str__


class _HostileError(Exception):
    __str__ = __repr__ = _Hostile.__str__


class _HostileText(str):
    __slots__ = ()
    __str__ = __repr__ = _Hostile.__str__

    def __contains__(self, item: object) -> bool:
        raise ValueError("not looked into")


class _HostileDict(dict[Any, Any]):
    items = keys = __iter__ = _Hostile.__str__  # type: ignore[assignment]


class _HostileNumber(int):
    __index__ = __repr__ = __str__ = _Hostile.__str__  # type: ignore[assignment]


class _Colour(enum.IntEnum):
    RED = 7


def _object(line: str) -> dict[str, Any]:
    """Return the object of one line, as a strict parser reads it."""
    assert line.isascii()
    assert line.isprintable()

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(found)) == len(found), "a key occurs twice"
        return dict(found)

    def constant(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    found: dict[str, Any] = json.loads(line, object_pairs_hook=pairs, parse_constant=constant)
    json.dumps(found, ensure_ascii=False).encode()  # no lone surrogates
    return found


def _formatted(formatter: JsonFormatter, log_it: Callable[[logging.Logger], None], secrets: Any = ()) -> str:
    """Return what a formatter makes of the record that a call logs."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    handler.handleError = _raise  # type: ignore[method-assign]
    log = logging.Logger("zcli.t")
    if secrets:
        log.addFilter(SecretFilter(secrets))
    log.addHandler(handler)
    log_it(log)
    return stream.getvalue()


def _raise(record: logging.LogRecord) -> None:
    raise  # noqa: PLE0704 - inside the handler's except


def _lines(log: ApplicationLog) -> list[dict[str, Any]]:
    assert log.file is not None
    return [_object(line) for line in Path(log.file).read_text(encoding="utf-8").splitlines()]


def test_json_line_has_the_documented_keys(open_log: Open, capsys: pytest.CaptureFixture[str]) -> None:
    """In the file and on the console alike; the time is UTC."""
    log = open_log("my-title", line_format="json")
    before = datetime.now(timezone.utc).timestamp()
    log.logger.warning("disk %d%% full", 93, extra={"disk": "/dev/sda", "left": 7})
    (line,) = _lines(log)
    assert list(line) == ["time", "level", "logger", "message", "pid", "disk", "left"]
    assert line["time"].endswith("Z")
    assert len(line["time"]) == len("2026-11-28T15:00:00.123Z")
    assert abs(datetime.fromisoformat(line["time"][:-1] + "+00:00").timestamp() - before) < 3600
    assert line["level"] == "WARNING"
    assert line["logger"] == "zcli.my-title"
    assert line["message"] == "disk 93% full"
    assert line["pid"] == os.getpid()
    assert (line["disk"], line["left"]) == ("/dev/sda", 7)
    assert _object(capsys.readouterr().err.rstrip("\n")) == line


@pytest.mark.parametrize("created", [0.0, 1.9996, 1_000_000_000.25, 2_000_000_000.9999999])
def test_json_time_is_rounded_down(created: float) -> None:
    """A time in the next second would be in the future."""
    record = logging.makeLogRecord({"msg": "m", "created": created})
    line = _object(JsonFormatter().format(record))
    shown = datetime.fromisoformat(line["time"][:-1] + "+00:00").timestamp()
    assert created - 0.0011 < shown <= created


_TEXTS = st.text(st.characters())  # with lone surrogates and control characters
#: By name, because hypothesis shows the values it draws from.
_ODD = {
    "hostile": _Hostile(), "text": _HostileText("x"), "number": _HostileNumber(1), "enum": _Colour.RED,
    "huge": 10**5000, "large": -(10**30), "decimal": Decimal(1), "class": object,
}  # fmt: skip
_PLAIN: Any = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), _TEXTS, st.binary(),
    st.sampled_from(sorted(_ODD)).map(lambda name: _ODD[name]),
)  # fmt: skip
_VALUES = st.recursive(
    _PLAIN,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(_TEXTS, inner, max_size=3), st.tuples(inner, inner),
        st.dictionaries(st.integers(), inner, max_size=2).map(_HostileDict),
    ),
    max_leaves=8,
)  # fmt: skip
_NAMES = st.one_of(_TEXTS, st.sampled_from(sorted(KEYS)), st.sampled_from(["é\udcff", "", "time_"]))
_ERRORS: Any = st.one_of(
    st.none(), st.builds(ValueError, _TEXTS), st.builds(KeyError, _VALUES), st.just(_HostileError()),
    st.builds(OSError, _VALUES, _VALUES),
)  # fmt: skip
_RESERVED = frozenset((*logging.makeLogRecord({}).__dict__, "message", "asctime"))


@given(
    st.one_of(_TEXTS, _PLAIN), st.lists(_VALUES, max_size=2), st.dictionaries(_NAMES, _VALUES, max_size=4), _ERRORS,
    st.booleans(), st.sampled_from([(), (SECRET,)]),
)  # fmt: skip
def test_json_any_record_is_one_valid_line(
    message: Any, arguments: list[Any], extra: dict[str, Any], error: Any, with_stack: bool, secrets: Any
) -> None:
    """Any message, arguments that do not fit, any extra fields, any exception."""
    extra = {name: value for name, value in extra.items() if name not in _RESERVED}
    formatter = JsonFormatter(3, SecretFilter(secrets).redact)

    def log_it(log: logging.Logger) -> None:
        adapter = logging.LoggerAdapter(log, extra)
        adapter.error(message, *arguments, exc_info=error, stack_info=with_stack)

    text = _formatted(formatter, log_it, secrets)
    assert text.count("\n") == 1
    line = _object(text[:-1])
    assert line["worker"] == 3
    assert line["level"] == "ERROR"
    assert ("exception" in line) == (error is not None)
    assert ("stack" in line) == with_stack
    fields = list(line)[5 + 1 + (error is not None) + with_stack :]
    shown = [name for name in extra if not name.startswith("zcli_")]
    assert len(fields) == len(shown)
    for given_name, key in zip(shown, fields, strict=True):
        assert key.startswith(given_name.encode("utf-8", "backslashreplace").decode())


@given(st.dictionaries(st.text(min_size=1), st.one_of(st.text(), st.integers(-(2**63), 2**64 - 1), st.booleans())))
def test_json_values_are_kept_as_they_are(extra: dict[str, Any]) -> None:
    """What JSON can hold comes back unchanged, whatever the characters."""
    extra = {name: value for name, value in extra.items() if name not in _RESERVED | KEYS and name[:5] != "zcli_"}
    line = _object(_formatted(JsonFormatter(), lambda log: log.warning("m", extra=extra)).rstrip("\n"))
    assert {name: line[name] for name in extra} == extra


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        (2**64, str(2**64)),
        (-(2**63) - 1, str(-(2**63) - 1)),
        (_Colour.RED, 7),
        (b"\xff", "b'\\xff'"),
        (_Hostile(), "<_Hostile without a text>"),
        ({1: "a", "1": "b"}, {"1": "a", "1_": "b"}),
        ((1, [2.5, None]), [1, [2.5, None]]),
        ("\udcff\x7f\x1b\u2028", "\\udcff\x7f\x1b\u2028"),
    ],
)
def test_json_value_without_a_form_is_text(value: Any, shown: Any) -> None:
    """Integers that do not fit into 64 bits too: many readers would round them."""
    line = _object(_formatted(JsonFormatter(), lambda log: log.warning("m", extra={"v": value})).rstrip("\n"))
    assert line["v"] == shown


def test_json_cyclic_and_huge_values_end() -> None:
    """A container that holds itself twice would have 2**20 values."""
    cycle: list[Any] = []
    cycle += [cycle, cycle, {"again": cycle}]
    wide = list(range(100_000))
    line = _formatted(JsonFormatter(), lambda log: log.warning("m", extra={"c": cycle, "w": wide, "last": 1}))
    found = _object(line.rstrip("\n"))
    assert found["last"] == 1
    assert found["w"][-1] == "..."
    assert len(line) < 500_000


@pytest.mark.parametrize("worker", [None, 2])
def test_json_field_cannot_replace_a_key(worker: Any) -> None:
    """Whether the record has that key or not, so that a key always means the same."""
    extra = {"time": 1, "time_": 2, "worker": 3, "exception": 4}
    text = _formatted(JsonFormatter(worker), lambda log: log.warning("m", extra=extra))
    line = _object(text.rstrip("\n"))
    assert {name: line[name] for name in list(line)[-4:]} == {"time_": 1, "time__": 2, "worker_": 3, "exception_": 4}
    assert line.get("worker") == worker


def test_json_invalid_arguments_are_shown() -> None:
    """Logging would print a traceback and drop the record."""
    line = _object(_formatted(JsonFormatter(), lambda log: log.warning("%d files", "x")).rstrip("\n"))
    assert line["message"] == "%d files (with invalid arguments: ('x',))"
    line = _object(_formatted(JsonFormatter(), lambda log: log.warning("%d", SECRET), [SECRET]).rstrip("\n"))
    assert line["message"] == "%d (with invalid arguments: ('<secret>',))"


@pytest.mark.parametrize("worker", [None, 2])
@pytest.mark.parametrize("line_format", ["text", "json"])
def test_log_of_worker_has_its_number(
    open_log: Open, capsys: pytest.CaptureFixture[str], line_format: str, worker: Any
) -> None:
    """In both formats, in the file and on the console; only a worker has one."""
    log = open_log("t", line_format=line_format, worker=worker)
    log.logger.warning("hello")
    assert log.file is not None
    for text in (Path(log.file).read_text(), capsys.readouterr().err):
        if line_format == "json":
            assert json.loads(text).get("worker") == worker
        else:
            assert text.endswith("zcli.t worker 2: hello\n" if worker else "zcli.t: hello\n")


@pytest.mark.parametrize("line_format", ["text", "json"])
def test_log_has_no_secret_in_either_format(
    open_log: Open, capsys: pytest.CaptureFixture[str], line_format: str
) -> None:
    """Neither in the message, exception and stack, nor in names and values of extra, at any depth."""
    log = open_log("t", line_format=line_format, secrets=[SECRET, "20261128"])
    nested = {"a": [f"x{SECRET}", {SECRET: 1}], "b": SECRET.encode(), "n": 20261128, "f": 20261128.5}
    extra = {"field": SECRET, "nested": nested, f"name{SECRET}": 1, "ok": 42}
    try:
        raise ValueError(f"cannot use {SECRET}")
    except ValueError as error:
        secret_stack = eval(f"lambda log, **o: log.exception('failed: %r', {SECRET!r}, stack_info=True, **o)")
        secret_stack(log.logger, extra=extra)
        failed = error
    log.logger.error("another", exc_info=failed)
    assert log.file is not None
    for text in (Path(log.file).read_text(), capsys.readouterr().err):
        if text:
            assert "ss w" not in text
            assert "20261128" not in text
            assert "<secret>" in text
    if line_format == "json":
        first = _lines(log)[0]
        assert first["field"] == "<secret>"
        assert first["nested"] == {
            "a": ["x<secret>", {"<secret>": 1}], "b": "b'<secret>'", "n": "<secret>", "f": "<secret>.5"
        }  # fmt: skip
        assert first["name<secret>"] == 1
        assert first["ok"] == 42


def test_json_records_of_child_loggers_are_written(open_log: Open) -> None:
    """With the names of those loggers; marks of zCLI are not shown as fields."""
    log = open_log("t", line_format="json")
    log.logger.getChild("access").info("m", extra=FILE_ONLY)
    (line,) = _lines(log)
    assert line["logger"] == "zcli.t.access"
    assert "zcli_file_only" not in line


def test_json_log_is_rotated(open_log: Open) -> None:
    """No line is cut."""
    log = open_log("t", line_format="json", max_bytes=1000, backups=9)
    for number in range(30):
        log.logger.info("x" * 40 + "\n", extra={"number": number})
    assert log.file is not None
    files = list(Path(log.file).parent.iterdir())
    lines = [_object(line) for file in files for line in file.read_text().splitlines()]
    assert len(files) > 3
    assert {line["number"] for line in lines} == set(range(30))


def test_json_problem_of_the_log_is_json(isolated: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A program that reads the console gets objects only."""
    (isolated / "file").touch()
    z = zCLI({"logger_format": "json", "logger_path": "file/logs", "title": "t", "deployment": "Testing"})
    with z:
        z.log.info("hello")
    first, *others = [_object(line) for line in capsys.readouterr().err.splitlines()]
    problem = next(line for line in (first, *others) if "cannot be written" in line["message"])
    assert problem["level"] == "ERROR"
    assert problem["logger"] == "zcli.t"


def test_json_works_on_any_console(open_log: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line is valid in an encoding without the characters of the message."""
    raw = io.BytesIO()
    console = io.TextIOWrapper(raw, encoding="latin-1")
    monkeypatch.setattr(sys, "stderr", console)
    open_log("t", line_format="json").logger.info("zażółć \u2713 é")
    console.flush()
    assert json.loads(raw.getvalue().decode("ascii"))["message"] == "zażółć \u2713 é"


def test_json_is_imported_only_when_chosen(isolated: Path) -> None:
    """The import would cost every script that writes text."""
    import subprocess

    code = "import sys; from zCLI import zCLI; zCLI({'logger': 'PROD'}); print('zcli_core.log_json' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.endswith("False\n")

"""``zConfig.machine.yaml``: its places, errors in it, and hostile files."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zcli_core.app import zCLI
from zcli_core.errors import ConfigError

Start = Callable[..., zCLI]
Write = Callable[[Any], Path]


def test_machine_file_of_the_user_wins(start: Start, isolated: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The explanation shows the value of the system as shadowed, with the path."""
    monkeypatch.delenv("ZCLI_CONFIG_DIR")
    for variable, text in (
        ("XDG_CONFIG_DIRS", "http: {timeout: 1, retries: 1}\n"),
        ("XDG_CONFIG_HOME", "http:\n  timeout: 2\n"),
    ):
        folder = isolated.parent / variable / "zcli"
        folder.mkdir(parents=True)
        (folder / "zConfig.machine.yaml").write_text(text)
        monkeypatch.setenv(variable, str(folder.parent))
    z = start()
    assert (z.config.http.timeout, z.config.http.retries) == (2.0, 1)
    files = {
        name: isolated.parent / name / "zcli" / "zConfig.machine.yaml"
        for name in ("XDG_CONFIG_DIRS", "XDG_CONFIG_HOME")
    }
    found = z.config.explain("http.timeout")
    assert found[1:4] == (2.0, "machine", f"{files['XDG_CONFIG_HOME']}:2")
    assert found.shadowed[0] == (1.0, "machine", f"{files['XDG_CONFIG_DIRS']}:1")
    files["XDG_CONFIG_DIRS"].unlink()
    assert start().config.explain("http.timeout").origin == "zConfig.machine.yaml:2"


@pytest.mark.parametrize("name", ["absolute", "relative", "home"])
def test_machine_file_config_dir_names_the_folder(
    start: Start, isolated: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """ZCLI_CONFIG_DIR: absolute, from the working directory, or from the home."""
    folder = {"absolute": isolated / "x", "relative": isolated / "x", "home": Path.home() / "x"}[name]
    folder.mkdir()
    (folder / "zConfig.machine.yaml").write_text("http: {timeout: 1}\n")
    monkeypatch.setenv("ZCLI_CONFIG_DIR", {"absolute": str(folder), "relative": "x", "home": "~/x"}[name])
    assert start().config.http.timeout == 1


@pytest.mark.parametrize(
    "text", ["", "# only a comment\n", "---\n", "http:\n", "http: {}\n", "http: ~\n", "http:\n  timeout:\n"]
)
def test_machine_file_empty_sets_nothing(start: Start, machine: Write, text: str) -> None:
    """A key without a value is not set here."""
    machine(text)
    assert start().config.http.timeout == 10


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("http: [\n", ":2:1", "expected the node content"),
        ("http:\n  timeout: 'open\n", ":3:1", "found unexpected end of stream"),
        ("http:\n\ttimeout: 1\n", ":2:1", r"found character '\\t' that cannot start any token"),
        ("a: b: c\n", ":1:5", "mapping values are not allowed here"),
        ("http: {timeout: 1}\n---\nhttp: {}\n", ":2:1", "but found another document"),
        ("- a\n- b\n", ":1:1", "the file must hold a mapping of settings"),
        ("just text\n", ":1:1", "the file must hold a mapping of settings"),
        ("? [a, b]\n: c\n", ":1:3", "the name of a setting must be a plain string"),
        ("http:\n  timeout: 1\n  timeout: 2\n", ":3:3", "duplicate key 'timeout'"),
        ("http: {}\nhttp: {}\n", ":2:1", "duplicate key 'http'"),
        (
            "title: !!python/object/apply:os.system ['touch pwned']\n",
            ":1:8",
            "could not determine a constructor for the tag",
        ),
        ("title: !!python/name:os.system\n", ":1:8", "could not determine a constructor for the tag"),
        ("x: {y: [!!python/object/new:os.system ['touch pwned']]}\n", ":1:9", "could not determine a constructor"),
        ("title: !mine x\n", ":1:8", "could not determine a constructor for the tag"),
        ("title: !!int x\n", ":1:8", "invalid value of the type int"),
        ("title: !!timestamp x\n", ":1:8", "invalid value of the type timestamp"),
        ("title: *nothing\n", ":1:8", "found undefined alias"),
        ("a: &a {<<: *a}\n", "", "duplicate|nested too deep|more than"),
        (b"http:\n  timeout: \xff\n", ":2:12", "text that is not allowed in YAML: invalid start byte"),
        (b"http:\n  timeout: \x00\n", ":2:12", "text that is not allowed in YAML: special characters"),
        ("http:\n  # \u00e4\n  timeout: \x07\n", ":3:12", "text that is not allowed in YAML: special characters"),
    ],
)
def test_machine_file_invalid_error_names_the_place(
    start: Start, machine: Write, isolated: Path, text: Any, where: str, what: str
) -> None:
    """Nothing in the file is executed."""
    file = machine(text)
    with pytest.raises(ConfigError, match=what) as caught:
        start()
    assert str(caught.value).startswith(f"{file}{where}")
    assert list(isolated.iterdir()) == []


@pytest.mark.parametrize("kind", ["values", "merges", "mappings", "itself"])
def test_machine_file_alias_bomb_is_refused(start: Start, machine: Write, kind: str) -> None:
    """Ten levels of ten aliases are ten thousand million values."""
    first = {"values": "[x]", "merges": "{k: 1}", "mappings": "{k: 1}", "itself": "{k: 1}"}[kind]
    lines = [f"a0: &a0 {first}"]
    for level in range(1, 11):
        ten = [f"*a{level - 1}"] * 10
        lines.append(
            f"a{level}: &a{level} "
            + {
                "values": f"[{', '.join(ten)}]",
                "merges": f"{{<<: [{', '.join(ten)}]}}",
                "mappings": "{" + ", ".join(f"k{n}: {alias}" for n, alias in enumerate(ten)) + "}",
                "itself": f"{{x: *a{level}, y: *a{level}}}",
            }[kind]
        )
    machine("\n".join([*lines, "http: {timeout: *a10}\n"]))
    before = time.process_time()
    with pytest.raises(ConfigError, match="more than 10000 values, including those that aliases repeat"):
        start()
    assert time.process_time() - before < 20


def test_machine_file_ordinary_aliases_work(start: Start, machine: Write) -> None:
    """Aliases share settings between deployments."""
    machine(
        "deployments:\n  Testing: &base\n    http: {timeout: 3}\n"
        "  Production:\n    <<: *base\n    websocket: {port: 5}\n"
    )
    assert start({"deployment": "Testing"}).config.http.timeout == 3
    config = start({"deployment": "Production"}).config
    assert (config.http.timeout, config.websocket.port) == (3.0, 5)


def test_machine_file_nested_too_deep_is_refused(start: Start, machine: Write) -> None:
    """Nested settings and nested brackets are refused."""
    file = machine("".join("  " * n + f"k{n}:\n" for n in range(25)) + "  " * 25 + "x: 1\n")
    with pytest.raises(ConfigError, match="settings are nested more than 20 levels deep"):
        start()
    file.write_text("a: " + "[" * 1_000)
    with pytest.raises(ConfigError, match=r"zConfig\.machine\.yaml: settings are nested too deep"):
        start()


def test_machine_file_huge_is_refused(start: Start, machine: Write) -> None:
    """A sparse file of a terabyte takes no memory."""
    with machine("").open("r+b") as file:
        file.truncate(10**12)
    with pytest.raises(ConfigError, match="is too large; a settings file may have at most 1000000 bytes"):
        start()


def test_machine_file_with_bom_and_crlf_is_read(start: Start, machine: Write) -> None:
    """Line numbers stay right."""
    machine(b"\xef\xbb\xbfhttp:\r\n  timeout: 3\r\n")
    assert start().config.explain("http.timeout")[1:4] == (3.0, "machine", "zConfig.machine.yaml:2")


def test_machine_file_values_are_used_as_written(start: Start, machine: Write) -> None:
    """The declared type decides, not the type that YAML guesses."""
    machine(
        "title: 1.10\nlogger: error\nwebsocket: {port: 0755, require_auth: on, tokens: {a: 0123, b: off}}\n"
        "plugins: {disable: [], prefer: {redis: zcli_redis}}\n"
    )
    config = start({"title": None, "logger": None}).config
    assert (config.title, config.get("logger"), config.websocket.port) == ("1.10", "ERROR", 755)
    assert config.websocket.require_auth is True
    assert dict(config.websocket.tokens) == {"a": "0123", "b": "off"}
    assert dict(config.plugins.prefer) == {"redis": "zcli_redis"}


def test_machine_file_that_is_a_folder_is_ignored(start: Start, isolated: Path) -> None:
    """It is passed over."""
    (isolated.parent / "machine" / "zConfig.machine.yaml").mkdir(parents=True)
    assert start().config.http.timeout == 10

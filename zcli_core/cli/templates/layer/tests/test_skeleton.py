"""The file, and the order among the other layers."""

import os
from pathlib import Path

import pytest
from zCLI import zCLI
from zcli_core.errors import ConfigError

FILE = "skeleton.json"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def start(**zspark: object) -> zCLI:
    """Create a zCLI object like a script."""
    return zCLI({"deployment": "Production", "logger_path": "logs", **zspark})


def test_setting_comes_from_the_file(project: Path) -> None:
    """The value is converted, and its origin is the file."""
    (project / FILE).write_text('{"http": {"timeout": 3}}')
    with start() as z:
        assert z.config.http.timeout == 3.0
        assert z.config.explain("http.timeout").layer == "skeleton"
        assert FILE in str(z.config.explain("http.timeout").origin)


def test_file_overrides_environment_but_not_script(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The order of the layer is between theirs."""
    (project / FILE).write_text('{"http": {"timeout": 3, "retries": 3}}')
    monkeypatch.setenv("ZCLI_HTTP_TIMEOUT", "2")
    with start(http={"retries": 4}) as z:
        assert (z.config.http.timeout, z.config.http.retries) == (3.0, 4)


def test_missing_file_sets_nothing() -> None:
    """All settings keep their values."""
    with start() as z:
        assert z.config.http.timeout == 10.0


@pytest.mark.parametrize("text", ["{", "[1, 2]", '{"http": {"timeout": ', "\ufeff", "[" * 100_000, "9" * 10_000])
def test_invalid_file_raises(project: Path, text: str) -> None:
    """The error names the file."""
    (project / FILE).write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=FILE):
        start()


@pytest.mark.skipif(os.name != "posix", reason="files have no such modes here")
def test_file_that_others_may_write_raises(project: Path) -> None:
    """Another user may have written it."""
    (project / FILE).write_text('{"http": {"timeout": 3}}')
    (project / FILE).chmod(0o666)
    with pytest.raises(ConfigError, match="is not read, because it belongs to"):
        start()

"""The folders of zCLI, compared with those of platformdirs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import platformdirs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zcli_core.system import folders

pytestmark = pytest.mark.skipif(not folders._XDG, reason="platformdirs itself is used here")

PAIRS = {
    "user_config_path": folders.user_config_folder,
    "site_config_path": lambda: folders.site_config_folders()[0],
    "user_log_path": folders.user_log_folder,
    "user_data_path": folders.user_data_folder,
}
VARIABLES = ("HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS", "XDG_STATE_HOME", "XDG_DATA_HOME")

absolute = st.text(st.sampled_from("ab /.~"), max_size=8).map(lambda text: f"/x{text}".rstrip())


def _with_environment(variables: dict[str, str], name: str) -> tuple[Path | None, Path]:
    """Return zCLI's result and that of platformdirs with exactly these of VARIABLES set."""
    before = dict(os.environ)
    try:
        for variable in VARIABLES:
            os.environ.pop(variable, None)
        os.environ.update(variables)
        ours = PAIRS[name]()
        return None if ours is None else Path(ours), getattr(platformdirs, name)("zcli", appauthor=False)
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.mark.parametrize("name", PAIRS)
@given(variables=st.fixed_dictionaries({}, optional=dict.fromkeys(VARIABLES, absolute)))
def test_folders_equal_those_of_platformdirs(name: str, variables: dict[str, str]) -> None:
    """None, some or all variables are set; they have spaces, dots and tildes."""
    ours, oracle = _with_environment(variables, name)
    assert ours == oracle


@pytest.mark.parametrize("name", PAIRS)
def test_empty_variable_is_ignored(name: str) -> None:
    """The specification says so."""
    ours, oracle = _with_environment({"HOME": "/h", **dict.fromkeys(VARIABLES[1:], "")}, name)
    assert ours == oracle


@pytest.mark.parametrize("path", ["/a:/b", ":/a", "relative:/a"])
def test_site_folders_skip_relative_paths(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first folder is the most important."""
    monkeypatch.setenv("XDG_CONFIG_DIRS", path)
    assert folders.site_config_folders() == [f"/{name}/zcli" for name in "ab" if f"/{name}" in path]


@pytest.mark.parametrize("relative", ["relative", "./x", "~/x"])
def test_relative_path_is_ignored(relative: str) -> None:
    """The specification says so: it would be another folder in each working directory."""
    for variable, name in (("XDG_CONFIG_HOME", "user_config_path"), ("XDG_STATE_HOME", "user_log_path")):
        ours, _ = _with_environment({"HOME": "/h", variable: relative}, name)
        assert ours is not None
        assert ours.is_relative_to("/h")


def test_home_comes_from_the_password_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """HOME is not set."""
    import pwd

    home = pwd.getpwuid(os.getuid()).pw_dir
    for wrong in ({}, {"HOME": ""}, {"HOME": "relative"}):
        before = dict(os.environ)
        for variable in VARIABLES:
            monkeypatch.delenv(variable, raising=False)
        os.environ.update(wrong)
        assert folders.user_config_folder() == str(Path(home, ".config", "zcli"))
        os.environ.clear()
        os.environ.update(before)


def test_platformdirs_is_used_on_other_systems() -> None:
    """On macOS and Windows; the test shows only that it is called."""
    assert folders._platform("user_config_path") == str(platformdirs.user_config_path("zcli", appauthor=False))
    assert sys.platform != "win32"

"""A plugin that is broken leaves the program working, and is named with its cause until it is blocked by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from distributions import InstalledBeside
from fresh_environment import FreshEnvironment

pytestmark = pytest.mark.slow

PROGRAM = """
import json
from zCLI import zCLI

z = zCLI({"deployment": "Testing", "title": "program", "logger_path": "logs"})
port = z.comm.find_free_port()
said = {
    "free": z.comm.check_port(port),
    "http": z.comm.http_get(f"http://127.0.0.1:{port}/"),
    "failure": z.comm.http.last_failure.kind,
    "services": {name: status["state"] for name, status in z.comm.service_status().items()},
    "errors": {name: status.get("error") for name, status in z.comm.service_status().items()},
}
with z.comm.websocket.start_background(port=0) as server:
    said["websocket"] = server.port > 0
print(json.dumps(said))
"""


class Breakage(NamedTuple):
    """A distribution that is broken, and what has to be said of it."""

    project: str
    cause: str

    @property
    def plugin(self) -> str:
        return self.project.replace("-", "_")


AT_LOADING = [
    Breakage("zcli-broken-import", "cannot import name 'a_name_that_never_was'"),
    Breakage("zcli-broken-contract", "it was written for version 2 of zCLI's plugin contract, and zcli-core "),
    Breakage("zcli-broken-hook", "weather"),
    Breakage("zcli-broken-dependency", "No module named 'flibbertigibbet_that_nobody_published'"),
]
ids = [breakage.project for breakage in AT_LOADING]

Run = Callable[..., Any]


@pytest.fixture
def program(core: FreshEnvironment, tmp_path: Path, installed_beside: InstalledBeside) -> Run:
    """Runs the program beside what is installed: what it said, its ``stderr``, and what of it was ``imported``."""
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "program.py").write_text(PROGRAM)

    def run(status: int = 0, **variables: str) -> dict[str, Any]:
        done = core.run(
            "program.py", folder=folder, status=status, variables={**installed_beside.variables, **variables}
        )
        said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1]) if not status else {}
        return {**said, "imported": installed_beside.imported(), "stderr": done.stderr}

    return run


def assert_works(said: dict[str, Any]) -> None:
    """The program did all that it does where nothing is broken."""
    assert (said["free"], said["http"], said["failure"], said["websocket"]) == (True, None, "refused", True)
    assert {"postgresql", "redis", "mongodb"} <= set(said["services"])


@pytest.mark.parametrize("breakage", AT_LOADING, ids=ids)
def test_broken_plugin_is_reported_and_script_works(
    breakage: Breakage, program: Run, installed_beside: InstalledBeside
) -> None:
    installed_beside.install(breakage.project)
    said = program()
    assert_works(said)
    assert f"the plugin {breakage.plugin} ({breakage.project} " in said["stderr"]
    assert breakage.cause in said["stderr"]
    assert "Traceback" not in said["stderr"]


@pytest.mark.parametrize("breakage", AT_LOADING, ids=ids)
def test_broken_plugin_disabled_is_not_imported(
    breakage: Breakage, program: Run, installed_beside: InstalledBeside
) -> None:
    installed_beside.install(breakage.project)
    said = program(ZCLI_PLUGINS_DISABLE=breakage.plugin)
    assert_works(said)
    assert breakage.plugin not in said["imported"]
    assert breakage.plugin not in said["stderr"]
    assert breakage.plugin in program()["imported"]


@pytest.mark.parametrize("breakage", AT_LOADING, ids=ids)
def test_broken_plugin_is_listed_by_the_command(
    breakage: Breakage, core: FreshEnvironment, tmp_path: Path, installed_beside: InstalledBeside
) -> None:
    installed_beside.install(breakage.project)
    plugins = listed(core, tmp_path, installed_beside.variables)
    assert plugins[breakage.plugin]["state"] == "broken"
    assert breakage.cause in plugins[breakage.plugin]["cause"]
    assert plugins[breakage.plugin]["distribution"] == breakage.project
    disabled = listed(core, tmp_path, {**installed_beside.variables, "ZCLI_PLUGINS_DISABLE": breakage.plugin})
    assert (disabled[breakage.plugin]["state"], disabled[breakage.plugin]["cause"]) == ("disabled", None)


def listed(core: FreshEnvironment, folder: Path, variables: dict[str, str]) -> dict[str, dict[str, Any]]:
    """What ``zcli plugins`` lists, by name."""
    done = core.run("-m", "zCLI", "plugins", "--json", folder=folder, variables=variables)
    return {item["name"]: item for item in json.loads(done.stdout)}


def test_broken_plugins_all_at_once_are_reported(
    core: FreshEnvironment, program: Run, installed_beside: InstalledBeside
) -> None:
    installed_beside.install(*ids, "zcli-broken-twin", "zcli-broken-factory")
    said = program()
    assert_works(said)
    for breakage in AT_LOADING:
        assert breakage.cause in said["stderr"]


# A name that two plugins provide --------------------------------------------------------------------------------------


def test_name_of_two_plugins_breaks_that_name_only(program: Run, installed_beside: InstalledBeside) -> None:
    installed_beside.install("zcli-broken-twin")
    said = program()
    assert_works(said)
    assert said["services"]["redis"] == "unusable"
    assert said["services"]["postgresql"] != "unusable"
    for part in ("zcli_redis (zcli-core ", "zcli_broken_twin (zcli-broken-twin 1.0)", "plugins.prefer", "disable"):
        assert part in said["errors"]["redis"]


@pytest.mark.parametrize(
    "decision", [{"ZCLI_PLUGINS_PREFER": "redis=zcli_redis"}, {"ZCLI_PLUGINS_DISABLE": "zcli_broken_twin"}]
)
def test_name_of_two_plugins_with_prefer_works(
    decision: dict[str, str], program: Run, installed_beside: InstalledBeside
) -> None:
    installed_beside.install("zcli-broken-twin")
    said = program(**decision)
    assert_works(said)
    assert said["services"]["redis"] != "unusable"
    assert ("zcli_broken_twin" in said["imported"]) == ("ZCLI_PLUGINS_PREFER" in decision)


# A factory that raises ------------------------------------------------------------------------------------------------


def test_factory_that_raises_breaks_its_service_only(program: Run, installed_beside: InstalledBeside) -> None:
    installed_beside.install("zcli-broken-factory")
    said = program()
    assert_works(said)
    assert said["services"]["clay"] == "unusable"
    assert "zcli_broken_factory (zcli-broken-factory 1.0)" in said["errors"]["clay"]
    assert "RuntimeError: out of clay" in said["errors"]["clay"]


@pytest.mark.parametrize(
    "choice",
    [
        {"ZCLI_HTTP_TRANSPORT": "clay"},
        {"WEBSOCKET_TRANSPORT": "clay"},
        {"WEBSOCKET_REQUIRE_AUTH": "true", "WEBSOCKET_AUTH": "clay"},
    ],
    ids=lambda choice: next(reversed(choice)),
)
def test_factory_that_raises_if_selected_is_an_error(
    choice: dict[str, str], program: Run, installed_beside: InstalledBeside
) -> None:
    installed_beside.install("zcli-broken-factory")
    said = program(status=1, **choice)
    for part in ("ConfigError", "zcli_broken_factory (zcli-broken-factory 1.0)", "out of clay", next(reversed(choice))):
        assert part in said["stderr"]
    blocked = program(status=1, ZCLI_PLUGINS_DISABLE="zcli_broken_factory", **choice)
    assert "zcli_broken_factory" not in blocked["imported"]
    assert "zcli_broken_factory (zcli-broken-factory 1.0) is disabled by plugins.disable" in blocked["stderr"]

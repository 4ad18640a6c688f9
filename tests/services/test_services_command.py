"""``zcli services``, the demos and the guide's snippets about services, each run as a program."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from installations import Site, clean_environment
from script_runs import DEMOS, ROOT, run_script
from service_servers import Cluster, free_ports, redis
from wire_servers import mongodb

from zcli_core.app import zCLI

Make = Callable[..., zCLI]
Run = Callable[..., subprocess.CompletedProcess[str]]
FOLDER = DEMOS / "Layer_0" / "zComm_Demo"
SNIPPETS = ROOT / "tests" / "guide_snippets"
VARIABLES = {"PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "DATABASE_URL", "REDIS_URL", "MONGODB_URI", "NATS_URL"}


@pytest.fixture
def variables(place: Path) -> dict[str, str]:
    """Variables that put the servers into ``place``, on free ports."""
    names = ("POSTGRESQL", "REDIS", "MONGODB", "NATS")
    ports = free_ports(len(names))
    settings = {f"ZCLI_SERVICES_{name}_PORT": str(port) for name, port in zip(names, ports, strict=True)}
    return {**settings, "ZCLI_SERVICES_FOLDER": str(place / "services"), "ZCLI_SERVICES_START_TIMEOUT": "60"}


@pytest.fixture
def zcli(place: Path, variables: dict[str, str]) -> Run:
    (place / "home").mkdir()
    kept = {k: v for k, v in clean_environment(os.environ, place / "home").items() if k not in VARIABLES}

    def run(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", "-m", "zCLI", *arguments],
            cwd=place / "home",
            env={**kept, **variables, **more},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            timeout=360,
            check=False,
        )

    return run


# --- the command ---


def test_command_starts_restarts_and_stops(zcli: Run, redis_server: Path, variables: dict[str, str]) -> None:
    """Each subcommand changes the state."""
    port = variables["ZCLI_SERVICES_REDIS_PORT"]
    started = zcli("services", "start", "redis", "--launcher", "local")
    assert started.returncode == 0, started.stderr
    assert re.search(rf"^redis +ready +127\.0\.0\.1:{port} ", started.stdout, re.MULTILINE)
    shown = zcli("services")
    assert shown.returncode == 0
    assert [line.split()[:2] for line in shown.stdout.splitlines()] == [
        ["service", "state"],
        ["mongodb", "stopped"],
        ["nats", "stopped"],
        ["postgresql", "stopped"],
        ["redis", "ready"],
    ]
    listed = json.loads(zcli("services", "--json").stdout)
    assert [each["service"] for each in listed if each["ready"]] == ["redis"]
    assert json.loads(zcli("services", "restart", "valkey", "--json").stdout)["done"] is True
    stopped = json.loads(zcli("services", "stop", "redis", "--json").stdout)
    assert stopped["done"] is True
    assert stopped["failure"] is None
    assert stopped["status"]["running"] is False


def test_command_port_has_its_own_status(zcli: Run, redis_server: Path, place: Path) -> None:
    """The status is that of the port that was given."""
    with redis(redis_server, place) as port:
        found = zcli("services", "status", "redis", "--port", str(port))
        assert (found.returncode, f"127.0.0.1:{port} " in found.stdout) == (0, True)
        changed = json.loads(zcli("services", "start", "redis", "--port", str(port), "--json").stdout)
        assert changed["status"]["port"] == port
    found = zcli("services", "status", "redis", "--port", str(port))
    assert (found.returncode, f"redis    stopped  :{port} " in found.stdout) == (1, True)
    stopped = json.loads(zcli("services", "stop", "redis", "--port", str(port), "--json").stdout)
    assert (stopped["done"], stopped["status"]["port"]) == (True, port)


def test_command_failure_is_exit_status_1(zcli: Run) -> None:
    """The output has the cause."""
    done = zcli("services", "start", "redis", ZCLI_SERVICES_REDIS_HOST="192.0.2.1", ZCLI_SERVICES_PROBE_TIMEOUT="0.2")
    assert done.returncode == 1
    assert "not this machine" in done.stderr
    done = zcli(
        "services", "start", "redis", "--json", ZCLI_SERVICES_REDIS_HOST="192.0.2.1", ZCLI_SERVICES_PROBE_TIMEOUT="0.2"
    )
    assert done.returncode == 1
    assert json.loads(done.stdout)["failure"]["action"] == "start"


@pytest.mark.parametrize(
    "arguments",
    [
        ("start", "postgre"),
        ("status", "postgre"),
        ("start", "redis", "--launcher", "nobody"),
        ("start", "redis", "--port", "0"),
    ],
)
def test_command_mistake_is_exit_status_2(zcli: Run, arguments: tuple[str, ...]) -> None:
    """The output has the cause."""
    done = zcli("services", *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_command_terminal_shows_the_table_first(zcli: Run, place: Path, variables: dict[str, str]) -> None:
    """The rows are filled in when the services answer."""
    import pty

    master, slave = pty.openpty()
    kept = {k: v for k, v in clean_environment(os.environ, place / "home").items() if k not in VARIABLES}
    environment = {**kept, **variables, "TERM": "xterm", "COLUMNS": "100", "LINES": "30", "PYTHONUTF8": "1"}
    command = [sys.executable, "-m", "zCLI", "services"]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment, cwd=place) as process:
        os.close(slave)
        said = b""
        try:
            while chunk := os.read(master, 4096):
                said += chunk
        except OSError:  # Linux ends a terminal so
            pass
        assert process.wait(60) == 0
    os.close(master)
    text = said.decode()
    assert text.index("...") < text.index("stopped")
    for name in ("mongodb", "nats", "postgresql", "redis"):
        assert re.search(rf"{name}[\s\x1b\[0-9;m]*stopped", text), text


# --- the hook ---

LISTENER = """
heard = []

@hookimpl
def zcli_service_changed(name, status, context):
    heard.append((name, status["ready"], context.config.services.redis.port))
"""


def test_hook_service_changed_is_called_for_changes(make: Make, site: Site, redis_server: Path) -> None:
    """It is not called if nothing changed."""
    site.plugin("listener", LISTENER)
    port = free_ports(1)[0]
    z = make(redis={"port": port, "launcher": "local"})
    assert z.comm.stop_service("valkey")
    assert z.comm.start_service("valkey"), z.comm.services.last_failure
    assert z.comm.start_service("redis")
    assert z.comm.restart_service("redis"), z.comm.services.last_failure
    assert z.comm.stop_service("redis")
    heard = z.plugins.records["listener"].plugin.heard
    assert heard == [("redis", True, port), ("redis", True, port), ("redis", False, port)]


# --- the demos and the guide's snippets ---


def _printed(script: Path, place: Path, variables: dict[str, str]) -> list[str]:
    folder = place / "somewhere"
    folder.mkdir(exist_ok=True)
    done = run_script(script, folder=folder, variables=variables)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if not line.startswith("[z")]


CHECK = (SNIPPETS / "level_3_i_service_check.py", FOLDER / "lvl3_services" / "1_service_check.py")
MULTI = (SNIPPETS / "level_3_ii_service_multi.py", FOLDER / "lvl3_services" / "2_service_multi.py")
START = (SNIPPETS / "level_4_i_service_start.py", FOLDER / "lvl4_lifecycle" / "1_service_start.py")


@pytest.mark.parametrize("script", CHECK, ids=["snippet", "demo"])
def test_demo_one_service_is_checked(place: Path, variables: dict[str, str], cluster: Cluster, script: Path) -> None:
    """The demo and the guide's snippet print the same."""
    assert _printed(script, place, variables)[0] == "✗ PostgreSQL not running"
    with cluster.running() as port:
        found = _printed(script, place, {**variables, "ZCLI_SERVICES_POSTGRESQL_PORT": str(port)})
    assert found[0] == f"✓ PostgreSQL: 127.0.0.1:{port}"


@pytest.mark.parametrize("script", MULTI, ids=["snippet", "demo"])
def test_demo_several_services_are_checked(
    place: Path, variables: dict[str, str], cluster: Cluster, redis_server: Path, script: Path
) -> None:
    """The demo and the guide's snippet print the same."""
    assert _printed(script, place, variables)[:3] == [
        "✗ PostgreSQL Database: Not running",
        "✗ Redis Cache: Not running",
        "✗ MongoDB Database: Not running",
    ]
    with cluster.running() as first, redis(redis_server, place) as second, mongodb(place) as third:
        ports = {
            "ZCLI_SERVICES_POSTGRESQL_PORT": str(first),
            "ZCLI_SERVICES_REDIS_PORT": str(second),
            "ZCLI_SERVICES_MONGODB_PORT": str(third),
        }
        found = _printed(script, place, {**variables, **ports})
    assert found[:3] == [
        f"✓ PostgreSQL Database: 127.0.0.1:{first}",
        f"✓ Redis Cache: 127.0.0.1:{second}",
        f"✓ MongoDB Database: 127.0.0.1:{third}",
    ]


def test_demo_started_service_keeps_running(place: Path, zcli: Run, variables: dict[str, str]) -> None:
    """The guide's snippet starts it, and the demo finds its data."""
    local = {**variables, "ZCLI_SERVICES_POSTGRESQL_LAUNCHER": "local"}
    port = variables["ZCLI_SERVICES_POSTGRESQL_PORT"]
    for script in START:
        assert _printed(script, place, local)[0] == f"✓ Ready: 127.0.0.1:{port}"
        assert json.loads(zcli("services", "status", "postgresql", "--json").stdout)["ready"]
        assert json.loads(zcli("services", "stop", "postgresql", "--json").stdout)["done"]


@pytest.mark.parametrize("script", START, ids=["snippet", "demo"])
def test_demo_failed_start_prints_the_cause(place: Path, variables: dict[str, str], script: Path) -> None:
    """The script does not raise."""
    away = {**variables, "PGHOST": "192.0.2.1", "ZCLI_SERVICES_PROBE_TIMEOUT": "0.2"}
    assert _printed(script, place, away)[0] == "✗ Failed to start"

"""Fixtures for tests of services: zCLI objects whose servers are in a temporary folder and end with the test."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from needs import needs
from ordinary_user import STAND_IN_PACKAGES, copy_packages, write_stand_in
from public_python import public_interpreter
from service_servers import Cluster, free_ports, public_folder, until

from zcli_core.app import zCLI
from zcli_core.services import owners
from zcli_core.services.launchers import instances
from zcli_core.services.launchers.processes import look_up

NAMES = ("postgresql", "redis", "mongodb")


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every account can enter. Servers that zCLI started in it are killed at the end."""
    with public_folder() as folder:
        yield folder
        for record in folder.rglob("instance.json"):
            held = instances.read(record.parent)
            if held is not None and held.alive:
                os.kill(held.process.pid, signal.SIGKILL)
                until(lambda pid=held.process.pid: look_up(pid) is None, f"{held.process} ends")  # type: ignore[misc]


@pytest.fixture
def nobody_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the account ``nobody``, which runs a test's PostgreSQL if we are root."""
    (tmp_path / "login.defs").write_text("UID_MIN 100000\n")
    monkeypatch.setattr(owners, "_LOGIN_DEFS", str(tmp_path / "login.defs"))


@pytest.fixture
def make(isolated: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., zCLI]]:
    """A function that makes a zCLI with its servers in ``place``. Its keyword arguments are sections of services."""
    for name in ("PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "DATABASE_URL", "REDIS_URL", "MONGODB_URI", "NATS_URL"):
        monkeypatch.delenv(name, raising=False)
    made: list[zCLI] = []

    def make(**services: Any) -> zCLI:
        base = {"folder": str(place / "services"), "start_timeout": 300.0}
        quiet = {"deployment": "Testing", "logger": "PROD", "logger_path": str(place / "logs"), "title": "services"}
        made.append(zCLI({**quiet, "services": {**base, **services}}))
        return made[-1]

    yield make
    for z in made:
        z.close()


@pytest.fixture
def local(make: Callable[..., zCLI]) -> tuple[zCLI, int]:
    """A Redis that zCLI started, and its port."""
    port = free_ports(1)[0]
    z = make(redis={"launcher": "local"})
    assert z.comm.start_service("redis", port=port), z.comm.services.last_failure
    return z, port


@pytest.fixture(scope="session")
def stand_in_folder() -> Iterator[Path]:
    """The folder of a MongoDB stand-in that every account can run."""
    with public_folder() as folder:
        packages, bytecode = folder / "packages", folder / "bytecode"
        packages.mkdir()
        bytecode.mkdir()
        bytecode.chmod(0o1777)
        copy_packages(packages, STAND_IN_PACKAGES)
        write_stand_in(folder, packages, bytecode)
        yield folder


@pytest.fixture
def stand_in(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the MongoDB stand-in on PATH, because root starts no server that only root can run."""
    if os.geteuid() == 0 and public_interpreter() != sys.executable:
        folder = request.getfixturevalue("stand_in_folder")
        monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture(scope="session")
def postgres_bin() -> Path:
    """The folder with PostgreSQL's bare binaries."""
    return needs("initdb", "postgresql").resolve().parent


@pytest.fixture(scope="session")
def redis_server() -> Path:
    return needs("redis-server", "redis-server")


@pytest.fixture(scope="session")
def template(postgres_bin: Path) -> Iterator[Cluster]:
    """An empty cluster to copy; it is never started."""
    with public_folder() as folder:
        yield Cluster.make(postgres_bin, folder / "template")


@pytest.fixture
def cluster(template: Cluster, place: Path) -> Cluster:
    """An empty cluster for one test, which admits all clients."""
    return template.copy(place / "cluster")

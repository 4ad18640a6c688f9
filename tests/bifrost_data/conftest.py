"""Databases for the tests of ``zcli_bifrost.data``: a SQLite file, and a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import psycopg
import pytest
from needs import needs
from service_servers import Cluster, public_folder

#: All tests with PostgreSQL run on one worker, which starts one server for them.
_ONE_WORKER = pytest.mark.xdist_group("bifrost_postgresql")
_numbers = count()


@pytest.fixture(scope="session")
def postgresql_cluster() -> Iterator[Cluster]:
    """An empty cluster that admits all clients."""
    with public_folder() as folder:
        yield Cluster.make(needs("initdb", "postgresql").resolve().parent, folder / "cluster")


@pytest.fixture(scope="session")
def postgresql_port(postgresql_cluster: Cluster) -> Iterator[int]:
    with postgresql_cluster.running("max_connections=200") as port:
        yield port


@pytest.fixture
def new_postgresql(postgresql_port: int) -> Callable[[], str]:
    """A function that makes an empty database and returns its URL. Its collation is that of English, not "C"."""

    def make() -> str:
        name = f"test_{next(_numbers)}"
        create_database(postgresql_port, name)
        return f"postgresql+psycopg://postgres@127.0.0.1:{postgresql_port}/{name}"

    return make


def create_database(port: int, name: str, encoding: str = "UTF8 LOCALE 'C.UTF-8' LOCALE_PROVIDER icu") -> None:
    """Make an empty database; the server must have the locale provider icu."""
    kind, _, rest = encoding.partition(" ")
    locale = f"{rest} ICU_LOCALE 'en-US'" if "icu" in rest else rest
    with psycopg.connect(f"host=127.0.0.1 port={port} user=postgres dbname=postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template0 ENCODING '{kind}' {locale}")  # type: ignore[call-overload]


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=_ONE_WORKER)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database: each test runs with SQLite and with PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'data.db'}"
    make: Callable[[], str] = request.getfixturevalue("new_postgresql")
    return make()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'data.db'}"

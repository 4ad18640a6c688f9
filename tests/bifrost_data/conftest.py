"""Databases for the tests of ``zcli_bifrost.data``: a SQLite file, and a real PostgreSQL server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from data_services import execute
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


@pytest.fixture(scope="session")
def english_database(postgresql_port: int) -> str:
    """The URL of a database whose collation is that of English, not "C"."""
    locale = "ENCODING 'UTF8' LOCALE 'C.UTF-8' LOCALE_PROVIDER icu ICU_LOCALE 'en-US'"
    execute(postgresql_port, f"CREATE DATABASE english TEMPLATE template0 {locale}")
    return f"postgresql+psycopg://postgres@127.0.0.1:{postgresql_port}/english"


@pytest.fixture
def new_postgresql(english_database: str, postgresql_port: int) -> Callable[[], str]:
    """A function that makes an empty schema and returns its URL. A new database would take a second."""

    def make() -> str:
        name = f"test_{next(_numbers)}"
        execute(postgresql_port, f"CREATE SCHEMA {name}", "english")
        return f"{english_database}?options=-csearch_path%3D{name}"

    return make


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

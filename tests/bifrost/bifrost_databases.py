"""Databases for the tests of zBifrost: SQLite files, and a PostgreSQL server."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from needs import needs
from service_servers import Cluster

_numbers = itertools.count(1)


@contextlib.contextmanager
def postgresql() -> Iterator[Callable[[], str]]:
    """Run PostgreSQL; give a function that makes an empty database and returns its URL."""
    import psycopg

    bin_folder = needs("initdb", "postgresql").resolve().parent
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        cluster = Cluster.make(bin_folder, Path(folder) / "data")
        with cluster.running("max_connections=100") as port:

            def make() -> str:
                name = f"test_{next(_numbers)}"
                with psycopg.connect(f"host=127.0.0.1 port={port} user=postgres", autocommit=True) as admin:
                    admin.execute(f"CREATE DATABASE {name} ENCODING 'UTF8' TEMPLATE template0")
                return f"postgresql+psycopg://postgres@127.0.0.1:{port}/{name}"

            yield make


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Callable[[], str]]:
    """A PostgreSQL server for all tests of this process; see :func:`postgresql`."""
    with postgresql() as make:
        yield make


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def make_database(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], str]:
    """A function that makes an empty database and returns its URL."""
    if request.param == "postgresql":
        make: Callable[[], str] = request.getfixturevalue("postgresql_server")
        return make
    return lambda: f"sqlite:///{tmp_path}/data-{next(_numbers)}.db"

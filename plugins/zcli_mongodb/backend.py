"""MongoDB as a service."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

from zcli_core.services.contract import (
    DataFolder,
    Exchange,
    HomebrewFormula,
    Install,
    LaunchError,
    LocalProcess,
    NotThisService,
    Probe,
    ProbeResult,
    Reply,
    ServerPaths,
    ServiceBackend,
    SystemdUnit,
    Target,
    WindowsService,
    first_exchange,
)
from zcli_mongodb.settings import Mongodb
from zcli_mongodb.wire import command, is_complete, reply_to

# https://www.mongodb.com/docs/manual/reference/error-codes/
_UNAUTHORIZED = 13
_NO_SUCH_COMMAND = 59
_API_VERSION_REQUIRED = 322
#: The server in the extra. It speaks MongoDB's protocol and stores its documents in SQLite.
_STAND_IN = "nx-27017"
_PID_FILE = "server.pid"


class MongodbBackend(ServiceBackend):
    """MongoDB 3.6 and later, and servers that speak its protocol, such as FerretDB.

    No wheel contains a MongoDB server. The extra ``mongodb`` installs nx-27017, a stand-in for development.
    """

    name = "mongodb"
    title = "MongoDB"
    default_port = 27017
    settings = Mongodb
    launchers = (
        SystemdUnit(("mongod", "mongodb")),
        HomebrewFormula(("mongodb-community", "mongodb-community@*")),
        WindowsService(("MongoDB",)),
        LocalProcess(
            programs=("mongod", _STAND_IN),
            folders=("/opt/homebrew/opt/mongodb-community*/bin", "/usr/local/opt/mongodb-community*/bin"),
            accounts=("mongodb", "mongod"),
        ),
    )
    install = Install(brew="mongodb/brew/mongodb-community", winget="MongoDB.Server", pip="nx-27017>=0.8")

    def probe(self, target: Target) -> Probe:
        """Send ``hello``, which needs no login, then commands for the version and whether a login is required."""
        hello = yield from first_exchange(target, command(1, "hello"), is_complete)
        document = _document(1, hello)
        if document.get("code") == _NO_SUCH_COMMAND:  # before 4.4.2
            hello = yield Exchange(command(1, "isMaster"), is_complete)
            document = _document(1, hello)
        if document.get("ok") != 1:
            ready = document.get("code") == _API_VERSION_REQUIRED
            return ProbeResult(ready=ready, detail=str(document.get("errmsg") or "it gives no reason"))
        if "maxWireVersion" not in document:
            raise NotThisService(hello)
        if not any(document.get(role) for role in ("isWritablePrimary", "ismaster", "secondary")):
            return ProbeResult(ready=False, detail="it is neither primary nor secondary")
        build = yield from _run_command(2, "buildInfo")
        databases = yield from _run_command(3, "listDatabases", nameOnly=True)
        version = build.get("ferretdbVersion") or build.get("version")
        needs_auth = databases.get("code") == _UNAUTHORIZED or build.get("code") == _UNAUTHORIZED
        return ProbeResult(version=str(version) if version else None, needs_auth=needs_auth)

    def connection_info(self, target: Target) -> dict[str, Any]:
        """Return ``database`` and a ``url`` that pymongo and other drivers accept."""
        user = f"{quote(target.user, safe='')}@" if target.user else ""
        host = quote(target.host, safe="") if target.is_socket_path else target.address
        database = quote(target.database or "", safe="")
        return {"database": target.database, "url": f"mongodb://{user}{host}/{database}{_tls_options(target)}"}

    def choose_program(self, programs: Sequence[Path], data: DataFolder) -> Path:
        """Return the program that wrote the data, mongod or the stand-in. The other would not see the data."""
        names = data.names()
        is_from_mongod = "WiredTiger" in names
        if not is_from_mongod and not any(name.endswith(".db") for name in names):
            return programs[0]
        for program in programs:
            if (program.name != _STAND_IN) == is_from_mongod:
                return program
        name, other = ("mongod", _STAND_IN) if is_from_mongod else (_STAND_IN, "mongod")
        raise LaunchError(
            f"the data folder {data.path} was written by {name}, which is not installed, and {other} cannot read it; "
            f"install {name}, or name another folder with data_dir"
        )

    def prepare(self, paths: ServerPaths) -> None:
        """Correct the pid file of the stand-in. mongod corrects its own lock file."""
        paths.free_pid_file(paths.data / _PID_FILE, _STAND_IN)

    def command(self, paths: ServerPaths) -> Sequence[str]:
        """Return the command line of mongod, or of the stand-in."""
        if paths.program.name == _STAND_IN:
            return [
                str(paths.program),
                f"--host={paths.host}",
                f"--port={paths.port}",
                f"--data-dir={paths.data}",
                f"--pid-file={paths.data / _PID_FILE}",
                f"--log-file={paths.data / 'server.log'}",
            ]
        return [
            str(paths.program),
            f"--bind_ip={paths.host}",
            f"--port={paths.port}",
            f"--dbpath={paths.data}",
            "--nounixsocket",
        ]


def _tls_options(target: Target) -> str:
    """Return the TLS options of a connection string. A key outside the certificate's file cannot be given there."""
    if not target.tls:
        return ""
    options = {"tls": "true"}
    ca_file, certificate = (getattr(target.settings, name, None) for name in ("ca_file", "client_cert"))
    if ca_file is not None:
        options["tlsCAFile"] = str(ca_file)
    if certificate is not None and getattr(target.settings, "client_key", None) is None:
        options["tlsCertificateKeyFile"] = str(certificate)
    return f"?{urlencode(options)}"


def _run_command(number: int, name: str, **options: bool) -> Generator[Exchange, Reply, dict[str, Any]]:
    """Return the document that the server replies; empty if it does not reply."""
    reply = yield Exchange(command(number, name, **options), is_complete)
    try:
        return reply_to(number, reply)
    except ValueError:
        return {}


def _document(number: int, reply: bytes) -> dict[str, Any]:
    """Return the document of a reply. It contains ``ok``, also if the command failed."""
    try:
        document = reply_to(number, reply)
    except ValueError as error:
        raise NotThisService(reply) from error
    if "ok" not in document:
        raise NotThisService(reply)
    return document

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
from zcli_mongodb.wire import command, is_whole, reply_to

# https://www.mongodb.com/docs/manual/reference/error-codes/
_UNAUTHORIZED = 13
_NO_SUCH_COMMAND = 59
_API_VERSION_REQUIRED = 322
#: The stand-in from the extra: it speaks MongoDB's protocol and keeps its documents in SQLite.
_STAND_IN = "nx-27017"
_PID_FILE = "server.pid"


class MongodbBackend(ServiceBackend):
    """MongoDB 3.6 and later, and what speaks its protocol (FerretDB).

    No MongoDB server comes as a wheel. The extra brings a stand-in, which does for trying things out: see
    :data:`_STAND_IN`.
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
    install = Install(
        brew="mongodb/brew/mongodb-community",
        winget="MongoDB.Server",
        pip="nx-27017>=0.8",
    )

    def probe(self, target: Target) -> Probe:
        """Send ``hello``, which needs no login; then ask for the version and for what only a login would give."""
        hello = yield from first_exchange(target, command(1, "hello"), is_whole)
        document = _document(1, hello)
        if document.get("code") == _NO_SUCH_COMMAND:  # before 4.4.2
            hello = yield Exchange(command(1, "isMaster"), is_whole)
            document = _document(1, hello)
        if document.get("ok") != 1:
            ready = document.get("code") == _API_VERSION_REQUIRED
            return ProbeResult(ready=ready, detail=str(document.get("errmsg") or "it gives no reason"))
        if "maxWireVersion" not in document:
            raise NotThisService(hello)
        if not any(document.get(role) for role in ("isWritablePrimary", "ismaster", "secondary")):
            return ProbeResult(ready=False, detail="it is neither primary nor secondary")
        build = yield from _ask(2, "buildInfo")
        databases = yield from _ask(3, "listDatabases", nameOnly=True)
        version = build.get("ferretdbVersion") or build.get("version")
        needs_auth = databases.get("code") == _UNAUTHORIZED or build.get("code") == _UNAUTHORIZED
        return ProbeResult(version=str(version) if version else None, needs_auth=needs_auth)

    def connection_info(self, target: Target) -> dict[str, Any]:
        """``database`` and a ``url`` that pymongo and others take."""
        user = f"{quote(target.user, safe='')}@" if target.user else ""
        place = quote(target.host, safe="") if target.is_socket_path else target.address
        database = quote(target.database or "", safe="")
        return {"database": target.database, "url": f"mongodb://{user}{place}/{database}{_tls_options(target)}"}

    def choose_program(self, programs: Sequence[Path], data: DataFolder) -> Path:
        """Of mongod and the stand-in, the one whose data is there: the other one would start with an empty database."""
        names = data.names()
        is_mongods = "WiredTiger" in names
        if not is_mongods and not any(name.endswith(".db") for name in names):
            return programs[0]
        for program in programs:
            if (program.name != _STAND_IN) == is_mongods:
                return program
        name, other = ("mongod", _STAND_IN) if is_mongods else (_STAND_IN, "mongod")
        raise LaunchError(
            f"the data folder {data.path} was written by {name}, which is not installed, and {other} cannot read it; "
            f"install {name}, or name another folder with data_dir"
        )

    def prepare(self, place: ServerPaths) -> None:
        """mongod's own lock needs no help; the stand-in's file does."""
        place.free_pid_file(place.data / _PID_FILE, _STAND_IN)

    def command(self, place: ServerPaths) -> Sequence[str]:
        """mongod, or the stand-in from the extra."""
        if place.program.name == _STAND_IN:
            return [
                str(place.program),
                f"--host={place.host}",
                f"--port={place.port}",
                f"--data-dir={place.data}",
                f"--pid-file={place.data / _PID_FILE}",
                f"--log-file={place.data / 'server.log'}",
            ]
        return [
            str(place.program),
            f"--bind_ip={place.host}",
            f"--port={place.port}",
            f"--dbpath={place.data}",
            "--nounixsocket",
        ]


def _tls_options(target: Target) -> str:
    """The options of a connection string for TLS. They have no place for a key in a file of its own."""
    if not target.tls:
        return ""
    options = {"tls": "true"}
    ca_file, certificate = (getattr(target.settings, name, None) for name in ("ca_file", "client_cert"))
    if ca_file is not None:
        options["tlsCAFile"] = str(ca_file)
    if certificate is not None and getattr(target.settings, "client_key", None) is None:
        options["tlsCertificateKeyFile"] = str(certificate)
    return f"?{urlencode(options)}"


def _ask(number: int, name: str, **options: bool) -> Generator[Exchange, Reply, dict[str, Any]]:
    """What the server answers; nothing, where it does not."""
    reply = yield Exchange(command(number, name, **options), is_whole)
    try:
        return reply_to(number, reply)
    except ValueError:
        return {}


def _document(number: int, reply: bytes) -> dict[str, Any]:
    """The document of a reply, which has ``ok`` whether the command succeeded or not."""
    try:
        document = reply_to(number, reply)
    except ValueError as error:
        raise NotThisService(reply) from error
    if "ok" not in document:
        raise NotThisService(reply)
    return document

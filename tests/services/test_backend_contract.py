"""The built-in backends and a third-party backend pass the contract suite."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zcli_memcached
import zcli_mongodb
import zcli_nats
import zcli_postgresql
import zcli_redis
from installations import Site
from needs import needs
from service_servers import Cluster, free_ports, public_folder

from zcli_core.app import zCLI
from zcli_core.testing import ServiceBackendContract

PLUGIN = Path(zcli_memcached.__file__)


class TestNats(ServiceBackendContract):
    backend = zcli_nats.zcli_service_backends()[0]


class TestPostgresql(ServiceBackendContract):
    backend = zcli_postgresql.zcli_service_backends()[0]


@pytest.fixture(scope="module")
def admitting_server(template: Cluster) -> Iterator[int]:
    """The port of a PostgreSQL that admits all clients."""
    with public_folder() as folder, template.copy(folder / "cluster").running() as port:
        yield port


@pytest.mark.slow  # the same suite again, with another server
class TestPostgresqlWithoutPassword(ServiceBackendContract):
    """A server that zCLI did not start and that requires no password."""

    backend = zcli_postgresql.zcli_service_backends()[0]
    # TestPostgresql has them: they start a server of their own.
    test_start_and_stop_change_the_state = None
    test_start_after_kill_succeeds = None
    test_start_port_of_other_protocol_fails = None

    @pytest.fixture
    def server(self, admitting_server: int) -> int:
        return admitting_server


class TestRedis(ServiceBackendContract):
    backend = zcli_redis.zcli_service_backends()[0]


@pytest.mark.usefixtures("stand_in")
class TestMongodb(ServiceBackendContract):
    backend = zcli_mongodb.zcli_service_backends()[0]


@pytest.fixture
def installed(site: Site) -> None:
    """The memcached plugin, installed as a separate distribution."""
    site.distribution("zcli-memcached", "[zcli]\nzcli_memcached = zcli_memcached\n")


@pytest.mark.slow  # a third party's, like those in tests/downstream
@pytest.mark.usefixtures("installed")
class TestMemcached(ServiceBackendContract):
    backend = zcli_memcached.zcli_service_backends()[0]


def test_third_party_backend_uses_the_contract_only() -> None:
    """It has at most 45 lines."""
    code = PLUGIN.read_text(encoding="utf-8")
    assert len(code.splitlines()) <= 45
    imported = [line.split()[1] for line in code.splitlines() if line.startswith(("from ", "import "))]
    public = (
        "zcli_core.plugins.contract",
        "zcli_core.services.contract",
        "zcli_core.services.parts.",
        "zcli_core.config.settings",
    )
    assert all(name == "zcli_core" or name.startswith(public) for name in imported)


@pytest.mark.usefixtures("installed")
def test_third_party_service_starts_and_stops(make: Callable[..., zCLI]) -> None:
    """It works like a service of zCLI."""
    needs("memcached", "memcached")
    port = free_ports(1)[0]
    z = make(memcached={"port": port})
    assert "memcached" in z.comm.service_status()
    assert z.comm.start_service("mc", launcher="local"), z.comm.services.last_failure
    status = z.comm.service_status("memcached")
    assert (status["ready"], status["needs_auth"]) == (True, False)
    with socket.create_connection(("127.0.0.1", port)) as client, contextlib.closing(client.makefile("rb")) as replies:
        client.sendall(b"set k 0 0 5\r\nhello\r\nget k\r\n")
        assert [replies.readline() for _ in range(4)] == [b"STORED\r\n", b"VALUE k 0 5\r\n", b"hello\r\n", b"END\r\n"]
    assert z.comm.restart_service("memcached"), z.comm.services.last_failure
    assert z.comm.stop_service("memcached"), z.comm.services.last_failure
    assert not z.comm.service_status("memcached")["running"]

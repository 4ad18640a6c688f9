"""The contract of a service backend, as tests: derive a class, give it a backend and a server, and run pytest.

::

    class TestMemcached(ServiceBackendContract):
        @pytest.fixture
        def backend(self):
            return Memcached(make_context())

        @pytest.fixture
        def server(self):
            with my_running_memcached() as port:
                yield port
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from zcli_core.comm.ports import find_free_port
from zcli_core.comm.services.asking import ask
from zcli_core.contracts.service import Answer, ServiceBackend, Target

#: Greetings of other protocols: SSH, MySQL, SMTP, NATS, HTTP, rubbish, and nothing but zeros.
STRANGERS = (
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"\x4a\0\0\0\x0a8.0.36\0" + bytes(80),
    b"220 mail.example.com ESMTP\r\n",
    b'INFO {"server_id":"x"}\r\n',
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    bytes(range(200, 256)) * 4,
    bytes(1000),
)


@contextlib.contextmanager
def stranger(greeting: bytes) -> Iterator[int]:
    """A server that greets everybody with these bytes and then waits; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as server, contextlib.ExitStack() as connections:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    connections.enter_context(connection)
                    with contextlib.suppress(OSError):
                        connection.sendall(greeting)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            with contextlib.suppress(OSError):
                server.shutdown(socket.SHUT_RDWR)
            server.close()
            thread.join()


class ServiceBackendContract:
    """What holds for every backend. ``backend`` and ``server`` are fixtures to override."""

    @pytest.fixture
    def backend(self) -> ServiceBackend:
        """The backend."""
        raise NotImplementedError

    @pytest.fixture
    def server(self) -> int:
        """The port of a server of that service on 127.0.0.1, ready, and open to everybody on this machine."""
        raise NotImplementedError

    def _target(self, backend: ServiceBackend, port: int) -> Target:
        return backend.target()._replace(host="127.0.0.1", port=port)

    def test_it_says_what_it_is(self, backend: ServiceBackend) -> None:
        """A name in lower case, a title for people, a port, and a settings section of that name, if any."""
        assert backend.name == backend.name.lower().strip()
        assert backend.title.strip()
        assert 0 < backend.default_port < 65536
        if backend.settings is not None:
            assert backend.settings.section_name == f"services.{backend.name}"
            assert backend.settings.declarations["port"].default == backend.default_port

    def test_a_ready_server_is_ready(self, backend: ServiceBackend, server: int) -> None:
        """Asked again and again, each time on a connection that is closed."""
        for _ in range(5):
            finding = ask(backend, self._target(backend, server), 5.0)
            assert finding.state == "ready", finding
            assert isinstance(finding.answer, Answer)

    def test_the_connection_info_leads_to_the_server_and_has_no_password(
        self, backend: ServiceBackend, server: int
    ) -> None:
        """A URL, if there is one, names the host and the port, and nothing looks like a password."""
        info = backend.connection_info(self._target(backend, server))
        assert not {name for name in info if "password" in name.lower() or "secret" in name.lower()}
        if "url" in info:
            assert f"127.0.0.1:{server}" in info["url"]
            assert ":" not in info["url"].partition("://")[2].rpartition("@")[0]

    @pytest.mark.parametrize("greeting", STRANGERS)
    def test_another_protocol_is_not_taken_for_it(self, backend: ServiceBackend, greeting: bytes) -> None:
        """Whatever greets there."""
        with stranger(greeting) as port:
            finding = ask(backend, self._target(backend, port), 0.5)
        assert not finding.answered, finding

    def test_silence_ends_in_time(self, backend: ServiceBackend) -> None:
        """A server that accepts and says nothing is not waited for."""
        with stranger(b"") as port:
            began = time.monotonic()
            finding = ask(backend, self._target(backend, port), 0.3)
            took = time.monotonic() - began
        assert finding.state == "silent"
        assert took < 5

    def test_a_closed_port_is_stopped(self, backend: ServiceBackend) -> None:
        """Nothing listens there."""
        assert ask(backend, self._target(backend, find_free_port()), 1.0).state == "stopped"

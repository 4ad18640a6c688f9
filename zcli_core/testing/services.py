"""The contract suite of service backends: derive a class from it, set ``backend``, and run pytest.

::

    from zcli_core.testing import ServiceBackendContract
    from zcli_memcached import zcli_service_backends

    class TestMemcached(ServiceBackendContract):
        backend = zcli_service_backends()[0]

The plugin must be installed (``pip install -e .``), because settings are read from installed plugins. The suite starts
the server of the service as zCLI does: as a local process on a free port, in a temporary folder. If its program is not
installed, the tests that need it are skipped with the name of the program. In CI, if the variable ``CI`` is set, they
fail. If the service has no local launcher, write a fixture ``server`` that returns the port of a server on 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import os
import time
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit, urlunsplit

import pytest

from zcli_core.config.sections import CORE_SECTIONS
from zcli_core.config.settings import (
    Section,
    Unusable,
    declared_settings,
    find_clash,
    verify_types,
    without_none,
)
from zcli_core.net.ports import find_free_port
from zcli_core.plugins.contract import Context, Provider
from zcli_core.services.contract import ProbeResult, ServiceBackend, Target
from zcli_core.services.launchers.context import wait_until
from zcli_core.services.parts.settings import ServiceSettings
from zcli_core.services.probing import ProbeOutcome, probe_service
from zcli_core.testing.contract import Contract, Offered, make_context
from zcli_core.testing.local_service import LocalService, local_service, require_program
from zcli_core.testing.tcp_peers import BannerServer, Ending, Relay

#: What servers of other protocols send first. A backend for one of them names it in ``ServiceBackend.speaks``.
OTHER_PROTOCOLS = {
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "MySQL": b"\x4a\0\0\0\x0a8.0.36\0" + bytes(80),
    "SMTP": b"220 mail.example.com ESMTP\r\n",
    "NATS": b'INFO {"server_id":"x"}\r\n',
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "random": bytes(range(200, 256)) * 4,
    "zeros": bytes(1000),
}

#: The entries that are protocols.
PROTOCOLS = ("SSH", "MySQL", "SMTP", "NATS", "HTTP")

#: 10 MB of each.
GARBAGE = {
    "zeros": bytes(10_000_000),
    "ones": b"\xff" * 10_000_000,
    "empty lines": b"\r\n" * 5_000_000,
    "one line": b"a" * 10_000_000,
    "lists": b"*4096\r\n" * 1_428_571,
}
#: Limits of a probe that receives 10 MB of garbage. Its timeout is one second; the rest is for a loaded machine.
_GARBAGE_SECONDS = 15.0
_GARBAGE_MEMORY = 8_000_000

_CUTS = 24
_PASSWORD = "hunter2-Zx7"  # noqa: S105 - not a real password
_NAMES_OF_SECRETS = ("password", "passwd", "secret", "token")
_LONGEST = 20.0

_server: pytest.StashKey[LocalService] = pytest.StashKey()


class ServiceBackendContract(Contract):
    """The tests that every backend must pass.

    Attributes:
        backend: the provider that your plugin's hook returns, or a function that takes a
            :class:`~zcli_core.plugins.contract.Context` and returns the backend.
    """

    backend: ClassVar[Offered[ServiceBackend]]

    @pytest.fixture
    def service(self, context: Context) -> ServiceBackend:
        """The backend under test."""
        made: ServiceBackend = self.make("backend", context)
        return made

    @pytest.fixture
    def server(self, service: ServiceBackend, request: pytest.FixtureRequest) -> int:
        """The port of a ready server of the service on 127.0.0.1. No test changes the server. May be overridden.

        It is started once for the class, by the local launcher of the backend.
        """
        require_program(service)
        node: Any = request.node.getparent(pytest.Class)
        if _server not in node.stash:
            resources = contextlib.ExitStack()
            local = resources.enter_context(self._local_service())
            resources.callback(node.stash.__delitem__, _server)  # tests of other classes may run in between
            node.stash[_server] = local
            node.addfinalizer(resources.close)
            assert local.start(), local.failure
        port: int = node.stash[_server].port
        return port

    @pytest.fixture
    def local(self, service: ServiceBackend) -> Iterator[LocalService]:
        """A port and a folder for a server that only this test uses. The test starts it as zCLI does."""
        require_program(service)
        with self._local_service() as local:
            yield local

    def _local_service(self) -> contextlib.AbstractContextManager[LocalService]:
        return local_service(self.offered("backend"), self.settings)

    # --- its declarations ---

    def test_backend_identity_is_valid(self, service: ServiceBackend) -> None:
        """It has a name in lower case, the same as its provider's, a title and a port."""
        offered = self.offered("backend")
        if isinstance(offered, Provider):
            assert service.name == offered.name
            assert service.name not in offered.aliases
        assert service.name == service.name.lower().strip()
        assert service.title.strip()
        assert 0 < service.default_port < 65536
        assert not isinstance(service.speaks, str), "speaks must be a sequence of names"
        assert set(service.speaks) <= set(PROTOCOLS), f"speaks may contain {', '.join(PROTOCOLS)}"

    def test_settings_are_a_service_section(self, service: ServiceBackend) -> None:
        """The section ``services.<name>`` is declared, with the settings of every service and valid types."""
        section = service.settings
        if section is None:
            pytest.skip(f"{service.title} has no settings")
        assert issubclass(section, ServiceSettings)
        assert section.section_name == f"services.{service.name}"
        assert section.declarations["port"].default == service.default_port
        declared = declared_settings(section, "the plugin")
        verify_types(declared)
        others = [other for core in CORE_SECTIONS for other in declared_settings(core, "zcli-core")]
        assert find_clash(declared, others) is None
        missing = {setting.key for setting in declared} - service.context.config.settings.keys()
        assert not missing, "no installed plugin declares these with zcli_settings; install yours: pip install -e ."

    def test_settings_secrets_are_declared(self, service: ServiceBackend) -> None:
        """A text setting that is named like a secret is declared as a secret."""
        for setting in declared_settings(service.settings, "") if service.settings else ():
            if any(name in setting.attribute for name in _NAMES_OF_SECRETS) and without_none(setting.type) is str:
                assert setting.secret, f"{setting.key} must be declared with secret=True"

    # --- probing the service ---

    def test_probe_ready_server_is_ready(self, service: ServiceBackend, server: int) -> None:
        """Several probes succeed, each on a new connection."""
        for _ in range(5):
            outcome = _probe(service, server)
            assert outcome.state == "ready", outcome
            assert isinstance(outcome.result, ProbeResult)

    def test_probe_reply_in_pieces_is_the_same(self, service: ServiceBackend, server: int) -> None:
        """The outcome does not change if the network delivers single bytes."""
        whole = _probe(service, server)
        with Relay(server, piece=1) as relay:  # the owner is that of the relay
            assert _probe(service, relay.port, _LONGEST)._replace(owner=whole.owner) == whole

    @pytest.mark.parametrize("then", ["close", "reset"])
    def test_probe_truncated_reply_is_bounded(self, service: ServiceBackend, server: int, then: Ending) -> None:
        """Without a byte the service does not run, with one it is not ready. More bytes never make it stop running."""
        enough = False
        for length in _cuts_of_reply(service, server):
            with Relay(server, limit=length, then=then) as relay:
                outcome, seconds = _timed(service, relay.port)
            assert seconds < _LONGEST
            if length == 0:
                assert not outcome.is_running, f"after 0 bytes: {outcome}"
            if length == 1:
                assert outcome.state != "ready", f"after 1 byte: {outcome}"
            if then == "close":  # a reset may overtake what was sent before it
                assert outcome.is_running or not enough, f"no longer running with {length} bytes: {outcome}"
                enough = outcome.is_running

    def test_probe_stalled_reply_ends_in_time(self, service: ServiceBackend, server: int) -> None:
        """The timeout of a probe holds for the whole reply."""
        with Relay(server, limit=1, then="stall") as relay:
            outcome, seconds = _timed(service, relay.port, 0.5)
        assert outcome.state != "ready", outcome
        assert seconds < _LONGEST

    @pytest.mark.parametrize("length", [1, 4, 16, 64])
    def test_probe_reply_with_garbage_is_bounded(self, service: ServiceBackend, server: int, length: int) -> None:
        """A length in a reply may have any value."""
        for garbage in GARBAGE.values():
            with Relay(server, limit=length, extra=garbage) as relay:
                _assert_bounded(service, relay.port)

    # --- probing another program ---

    @pytest.mark.parametrize("protocol", OTHER_PROTOCOLS)
    def test_probe_other_protocol_is_not_running(self, service: ServiceBackend, protocol: str) -> None:
        """Except for a protocol that the backend declares in ``speaks``."""
        if protocol in service.speaks:
            pytest.skip(f"{service.title} speaks {protocol}")
        with BannerServer(OTHER_PROTOCOLS[protocol]) as other:
            outcome = probe_service(service, _target(service, other.port), 0.5)
        assert not outcome.is_running, outcome

    @pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
    def test_probe_garbage_is_bounded_and_not_running(self, service: ServiceBackend, garbage: bytes) -> None:
        """10 MB are neither read to the end nor stored."""
        with BannerServer(garbage) as other:
            outcome = _assert_bounded(service, other.port)
        assert not outcome.is_running, outcome

    def test_probe_silent_server_ends_in_time(self, service: ServiceBackend) -> None:
        """The server accepts the connection and sends nothing."""
        with BannerServer(b"") as other:
            began = time.monotonic()
            outcome = probe_service(service, _target(service, other.port), 0.3)
            seconds = time.monotonic() - began
        assert outcome.state == "silent"
        assert seconds < _LONGEST

    def test_probe_closed_port_is_stopped(self, service: ServiceBackend) -> None:
        """Nothing listens there."""
        assert _probe(service, find_free_port()).state == "stopped"

    # --- connecting ---

    def test_connection_info_names_the_server(self, service: ServiceBackend) -> None:
        """A URL contains host and port. No key is named like a password."""
        info = service.connection_info(_target(service, 4711))
        assert not {name for name in info if any(secret in name.lower() for secret in _NAMES_OF_SECRETS)}
        if "url" in info:
            assert "127.0.0.1:4711" in info["url"]
            assert urlsplit(info["url"]).password is None

    def test_connection_info_has_no_password(self, service: ServiceBackend, monkeypatch: pytest.MonkeyPatch) -> None:
        """Neither a password in a setting nor a password in the URL of a variable appears in it."""
        for variable, text in _variables_with_a_password(service):
            monkeypatch.setenv(variable, text)
        secrets = {
            setting.key: _PASSWORD
            for setting in (declared_settings(service.settings, "") if service.settings else ())
            if setting.secret and without_none(setting.type) is str
        }
        configured = self.make("backend", make_context(**{**self.settings, **secrets}))
        assert _PASSWORD not in repr(configured.connection_info(configured.target()))

    # --- starting and stopping a server ---

    def test_start_and_stop_change_the_state(self, local: LocalService) -> None:
        """Start, restart and stop return True when the state has changed, and if it is already that state."""
        for _ in range(2):
            assert local.start(), local.failure
            assert local.state() == "ready"
        status = local.services.status(local.name)
        assert (status["running"], status["ready"], status["port"]) == (True, True, local.port)
        assert status["connection_info"]["port"] == local.port
        before = local.pid
        assert before is not None
        assert local.restart(), local.failure
        assert local.state() == "ready"
        assert local.pid not in (None, before)
        for _ in range(2):
            assert local.stop(), local.failure
            assert local.state() == "stopped"
        assert local.pid is None

    def test_start_after_kill_succeeds(self, local: LocalService) -> None:
        """A pid file that it left does not prevent it. A pipe or link in place of the file is not followed."""
        assert local.start(), local.failure
        pid = local.pid
        local.kill()
        for file in local.pid_files(pid or 0):
            _assert_not_followed(local, file)
        # Child processes of the server may hold its port for a moment.
        assert wait_until(lambda: local.state() == "stopped", _LONGEST), local.state()
        status = local.services.status(local.name)
        assert (status["running"], status["ready"]) == (False, False)
        assert status["error"]
        assert local.start(), local.failure
        assert local.state() == "ready"
        assert local.stop(), local.failure

    def test_start_port_of_other_protocol_fails(self, local: LocalService) -> None:
        """No server is started, and the other server still runs."""
        protocol = next(name for name in PROTOCOLS if name not in local.backend.speaks)
        with BannerServer(OTHER_PROTOCOLS[protocol]) as other:
            local.port = other.port
            assert not local.start()
            failure = local.failure
            assert failure is not None
            assert str(other.port) in failure.message
            assert local.pid is None
            assert _probe(local.backend, other.port).state == "foreign"


def _assert_not_followed(local: LocalService, file: Path) -> None:
    """Replace a pid file by a pipe and then by a link, as the account of the data folder could."""
    kept, outside = file.with_name("kept"), local.data.parent / "outside"
    file.rename(kept)
    try:
        os.mkfifo(file)
        assert local.prepare(), f"prepare() waits for the pipe {file.name}"
        file.unlink()
        outside.write_bytes(kept.read_bytes())
        file.symlink_to(outside)
        assert local.prepare()
        assert outside.read_bytes() == kept.read_bytes(), f"prepare() followed the link {file.name}"
    finally:
        file.unlink(missing_ok=True)
        kept.rename(file)


def _target(service: ServiceBackend, port: int) -> Target:
    return service.target()._replace(host="127.0.0.1", port=port)


def _probe(service: ServiceBackend, port: int, timeout: float = 5.0) -> ProbeOutcome:
    return probe_service(service, _target(service, port), timeout)


def _timed(service: ServiceBackend, port: int, timeout: float = 5.0) -> tuple[ProbeOutcome, float]:
    began = time.monotonic()
    return _probe(service, port, timeout), time.monotonic() - began


def _assert_bounded(service: ServiceBackend, port: int) -> ProbeOutcome:
    tracemalloc.start()
    try:
        outcome, seconds = _timed(service, port, 1.0)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert seconds < _GARBAGE_SECONDS
    assert most < _GARBAGE_MEMORY, f"probing took {most} bytes"
    return outcome


def _cuts_of_reply(service: ServiceBackend, server: int) -> list[int]:
    """Return positions to cut the replies to a probe: near the beginning, and evenly over all of them."""
    with Relay(server) as relay:
        assert _probe(service, relay.port, _LONGEST).state == "ready"
        length = relay.forwarded
    cuts = {0, 1, 2, 3, *range(0, length, max(1, length // _CUTS))}
    return sorted(cut for cut in cuts if cut < length)


def _variables_with_a_password(service: ServiceBackend) -> Iterator[tuple[str, str]]:
    """Yield each variable of the section that accepts the service's URL, and that URL with a password."""
    section: type[Section] | None = service.settings
    url = service.connection_info(_target(service, 4711)).get("url")
    if section is None or url is None:
        return
    parts = urlsplit(url)
    text = urlunsplit(parts._replace(netloc=f"someone:{_PASSWORD}@{parts.netloc.rpartition('@')[2]}"))
    for composite in section.composites:
        with contextlib.suppress(ValueError, Unusable):
            composite.parse(text)
            yield composite.variable, text

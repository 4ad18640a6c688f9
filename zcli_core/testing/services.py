"""The contract of a service backend, as tests: derive a class, say which backend, and run pytest.

::

    from zcli_core.testing import ServiceBackendContract
    from zcli_memcached import zcli_service_backends

    class TestMemcached(ServiceBackendContract):
        backend = zcli_service_backends()[0]

The plugin has to be installed (``pip install -e .``), for its settings are those of installed plugins. The suite starts
the service's own server as zCLI would, as a local process on a free port in a temporary folder. Where no program for
that is there, those tests are skipped with the program's name, and fail in CI (the variable ``CI`` is set). A service
that has no local launcher has its server from you: a fixture ``server`` that gives the port of one on 127.0.0.1.
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
from zcli_core.testing.tcp_peers import Ending, Relay, Stranger

#: Greetings of other protocols. A backend of one of them names it in ``ServiceBackend.speaks``.
STRANGERS = {
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "MySQL": b"\x4a\0\0\0\x0a8.0.36\0" + bytes(80),
    "SMTP": b"220 mail.example.com ESMTP\r\n",
    "NATS": b'INFO {"server_id":"x"}\r\n',
    "HTTP": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "rubbish": bytes(range(200, 256)) * 4,
    "zeros": bytes(1000),
}

#: Those of them that a service can speak.
PROTOCOLS = ("SSH", "MySQL", "SMTP", "NATS", "HTTP")

#: 10 MB of each.
GARBAGE = {
    "zeros": bytes(10_000_000),
    "ones": b"\xff" * 10_000_000,
    "empty lines": b"\r\n" * 5_000_000,
    "one line": b"a" * 10_000_000,
    "lists": b"*4096\r\n" * 1_428_571,
}
#: What probing may take amid 10 MB of garbage: seconds, of which it is given one, and bytes.
_GARBAGE_SECONDS = 15.0
_GARBAGE_MEMORY = 8_000_000

_SPOILT_PLACES = 24
_PASSWORD = "hunter2-Zx7"  # noqa: S105 - not one of anything
_NAMES_OF_SECRETS = ("password", "passwd", "secret", "token")
_LONGEST = 20.0

_server: pytest.StashKey[LocalService] = pytest.StashKey()


class ServiceBackendContract(Contract):
    """What holds for every backend, also under fault.

    ``backend`` is the provider that your plugin's hook returns, or anything that takes a
    :class:`~zcli_core.plugins.contract.Context` and gives the backend.
    """

    backend: ClassVar[Offered[ServiceBackend]]

    @pytest.fixture
    def service(self, context: Context) -> ServiceBackend:
        """The backend, made from the context."""
        made: ServiceBackend = self.make("backend", context)
        return made

    @pytest.fixture
    def server(self, service: ServiceBackend, request: pytest.FixtureRequest) -> int:
        """The port of a ready server of that service on 127.0.0.1; no test harms it. May be overridden.

        This one is started once for the class, by the backend's own local launcher.
        """
        require_program(service)
        node: Any = request.node.getparent(pytest.Class)
        if _server not in node.stash:
            resources = contextlib.ExitStack()
            local = resources.enter_context(self._local_service())
            node.addfinalizer(resources.close)
            assert local.start(), local.failure
            node.stash[_server] = local
        port: int = node.stash[_server].port
        return port

    @pytest.fixture
    def local(self, service: ServiceBackend) -> Iterator[LocalService]:
        """A place for a server of a test's own, which it starts as zCLI does."""
        require_program(service)
        with self._local_service() as local:
            yield local

    def _local_service(self) -> contextlib.AbstractContextManager[LocalService]:
        return local_service(self.offered("backend"), self.settings)

    # --- what it says of itself ---

    def test_it_says_what_it_is(self, service: ServiceBackend) -> None:
        """A name in lower case, the same as its provider's, a title for people, and a port."""
        offered = self.offered("backend")
        if isinstance(offered, Provider):
            assert service.name == offered.name
            assert service.name not in offered.aliases
        assert service.name == service.name.lower().strip()
        assert service.title.strip()
        assert 0 < service.default_port < 65536
        assert not isinstance(service.speaks, str), "speaks has to be a sequence of names"
        assert set(service.speaks) <= set(PROTOCOLS), f"speaks may name {', '.join(PROTOCOLS)}"

    def test_its_settings_are_those_of_a_service(self, service: ServiceBackend) -> None:
        """A section ``services.<name>`` with what every service has, of types that settings can have, is declared."""
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

    def test_a_setting_that_is_a_secret_says_so(self, service: ServiceBackend) -> None:
        """A text that is named like one is never shown."""
        for setting in declared_settings(service.settings, "") if service.settings else ():
            if any(name in setting.attribute for name in _NAMES_OF_SECRETS) and without_none(setting.type) is str:
                assert setting.secret, f"{setting.key} has to be declared with secret=True"

    # --- asking a server ---

    def test_a_ready_server_is_ready(self, service: ServiceBackend, server: int) -> None:
        """Asked again and again, each time on a connection that is closed."""
        for _ in range(5):
            outcome = _ask(service, server)
            assert outcome.state == "ready", outcome
            assert isinstance(outcome.result, ProbeResult)

    def test_an_answer_in_pieces_is_the_same_answer(self, service: ServiceBackend, server: int) -> None:
        """A network may deliver one byte at a time."""
        whole = _ask(service, server)
        with Relay(server, piece=1) as relay:  # it is the relay's owner who listens
            assert _ask(service, relay.port, _LONGEST)._replace(owner=whole.owner) == whole

    @pytest.mark.parametrize("then", ["close", "reset"])
    def test_an_answer_that_is_cut_off_is_bounded(self, service: ServiceBackend, server: int, then: Ending) -> None:
        """Nothing is no answer, one byte may tell whose it is; what is enough for one stays enough if more comes."""
        enough = False
        for length in _places_in_its_answer(service, server):
            with Relay(server, limit=length, then=then) as relay:
                outcome, seconds = _timed(service, relay.port)
            assert seconds < _LONGEST
            if length == 0:
                assert not outcome.is_running, f"after 0 bytes: {outcome}"
            if length == 1:
                assert outcome.state != "ready", f"after 1 byte: {outcome}"
            if then == "close":  # a reset may overtake what was sent before it
                assert outcome.is_running or not enough, f"no answer any more with {length} bytes: {outcome}"
                enough = outcome.is_running

    def test_a_server_that_stalls_amid_its_answer_is_not_waited_for(self, service: ServiceBackend, server: int) -> None:
        """The time that a probe is given is for all of the answer."""
        with Relay(server, limit=1, then="stall") as relay:
            outcome, seconds = _timed(service, relay.port, 0.5)
        assert outcome.state != "ready", outcome
        assert seconds < _LONGEST

    @pytest.mark.parametrize("length", [1, 4, 16, 64])
    def test_an_answer_that_goes_on_with_garbage_is_bounded(
        self, service: ServiceBackend, server: int, length: int
    ) -> None:
        """A length in it may claim anything."""
        for garbage in GARBAGE.values():
            with Relay(server, limit=length, extra=garbage) as relay:
                _assert_bounded(service, relay.port)

    # --- asking something else ---

    @pytest.mark.parametrize("protocol", STRANGERS)
    def test_another_protocol_is_not_taken_for_it(self, service: ServiceBackend, protocol: str) -> None:
        """Whatever greets there, except a protocol that the backend declares as its own."""
        if protocol in service.speaks:
            pytest.skip(f"{service.title} speaks {protocol}")
        with Stranger(STRANGERS[protocol]) as stranger:
            outcome = probe_service(service, _target(service, stranger.port), 0.5)
        assert not outcome.is_running, outcome

    @pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
    def test_garbage_is_not_taken_for_it_and_is_bounded(self, service: ServiceBackend, garbage: bytes) -> None:
        """10 MB of it are neither read to the end nor kept."""
        with Stranger(garbage) as stranger:
            outcome = _assert_bounded(service, stranger.port)
        assert not outcome.is_running, outcome

    def test_silence_ends_in_time(self, service: ServiceBackend) -> None:
        """A server that accepts and says nothing is not waited for."""
        with Stranger(b"") as stranger:
            began = time.monotonic()
            outcome = probe_service(service, _target(service, stranger.port), 0.3)
            seconds = time.monotonic() - began
        assert outcome.state == "silent"
        assert seconds < _LONGEST

    def test_a_closed_port_is_stopped(self, service: ServiceBackend) -> None:
        """Nothing listens there."""
        assert _ask(service, find_free_port()).state == "stopped"

    # --- connecting ---

    def test_the_connection_info_leads_to_the_server(self, service: ServiceBackend) -> None:
        """A URL, if there is one, names the host and the port; no entry is named like a password."""
        info = service.connection_info(_target(service, 4711))
        assert not {name for name in info if any(secret in name.lower() for secret in _NAMES_OF_SECRETS)}
        if "url" in info:
            assert "127.0.0.1:4711" in info["url"]
            assert urlsplit(info["url"]).password is None

    def test_the_connection_info_has_no_password_even_if_one_is_configured(
        self, service: ServiceBackend, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither one of a setting nor one in the URL of a variable."""
        for variable, text in _variables_with_a_password(service):
            monkeypatch.setenv(variable, text)
        secrets = {
            setting.key: _PASSWORD
            for setting in (declared_settings(service.settings, "") if service.settings else ())
            if setting.secret and without_none(setting.type) is str
        }
        configured = self.make("backend", make_context(**{**self.settings, **secrets}))
        assert _PASSWORD not in repr(configured.connection_info(configured.target()))

    # --- a server of our own ---

    def test_started_means_ready_and_stopped_means_gone(self, local: LocalService) -> None:
        """Start, restart and stop are True once it is so, and again if it is so already."""
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

    def test_a_killed_server_is_stopped_and_starts_again(self, local: LocalService) -> None:
        """What it left behind, such as a pid file, does not matter; a pipe or a link in its place is not followed."""
        assert local.start(), local.failure
        pid = local.pid
        local.kill()
        for file in local.pid_files(pid or 0):
            _assert_not_followed(local, file)
        # Helpers of the server may hold its port a little longer than itself.
        assert wait_until(lambda: local.state() == "stopped", _LONGEST), local.state()
        status = local.services.status(local.name)
        assert (status["running"], status["ready"]) == (False, False)
        assert status["error"]
        assert local.start(), local.failure
        assert local.state() == "ready"
        assert local.stop(), local.failure

    def test_a_port_that_a_stranger_has_is_a_failure_with_its_cause(self, local: LocalService) -> None:
        """Nothing is started beside it, and it is left alone."""
        protocol = next(name for name in PROTOCOLS if name not in local.backend.speaks)
        with Stranger(STRANGERS[protocol]) as stranger:
            local.port = stranger.port
            assert not local.start()
            failure = local.failure
            assert failure is not None
            assert str(stranger.port) in failure.message
            assert local.pid is None
            assert _ask(local.backend, stranger.port).state == "foreign"


def _assert_not_followed(local: LocalService, file: Path) -> None:
    """Put a pipe, then a link in the place of a pid file, as the account that has the data folder could."""
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


def _ask(service: ServiceBackend, port: int, timeout: float = 5.0) -> ProbeOutcome:
    return probe_service(service, _target(service, port), timeout)


def _timed(service: ServiceBackend, port: int, timeout: float = 5.0) -> tuple[ProbeOutcome, float]:
    began = time.monotonic()
    return _ask(service, port, timeout), time.monotonic() - began


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


def _places_in_its_answer(service: ServiceBackend, server: int) -> list[int]:
    """Where to cut off what the server says to a probe: near its beginning, and evenly over all of it."""
    with Relay(server) as relay:
        assert _ask(service, relay.port).state == "ready"
        length = relay.answered
    places = {0, 1, 2, 3, *range(0, length, max(1, length // _SPOILT_PLACES))}
    return sorted(place for place in places if place < length)


def _variables_with_a_password(service: ServiceBackend) -> Iterator[tuple[str, str]]:
    """Each variable of the section that takes the service's own URL, with that URL and a password in it."""
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

"""The contract suite of backends finds each fault, describes it, and says what it could not test."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import zcli_memcached
from installations import Site, clean_environment
from needs import needs

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]

#: Each differs from a backend that is right in one thing. The key is the class, the value what finds it.
BROKEN = {
    "Believing": "test_probe_other_protocol_is_not_running",
    "Hasty": "test_probe_reply_in_pieces_is_the_same",
    "Patient": "test_probe_truncated_reply_is_bounded",
    "Trusting": "test_probe_garbage_is_bounded_and_not_running",
    "Talkative": "test_connection_info_has_no_password",
    "Misplaced": "test_settings_are_a_service_section",
    "Careless": "test_settings_secrets_are_declared",
    "Elsewhere": "test_start_and_stop_change_the_state",
    "Following": "test_start_after_kill_succeeds",
    "Renamed": "test_backend_identity_is_valid",
}

PLUGIN = """
from zcli_core import hookimpl
from zcli_core.config.settings import setting
from zcli_core.services.contract import ProbeResult, Exchange, NotThisService, lines
from zcli_core.services.parts.settings import ServiceSettings
from zcli_memcached import MemcachedBackend

ZCLI_CONTRACT = 1

class Base(MemcachedBackend):
    def __init_subclass__(cls, port=11211, secret=True):
        cls.name = cls.__name__.lower()
        annotations = {"port": "int", "auth_token": "str | None"}
        values = {
            "port": setting(port, "TCP port", minimum=1, maximum=65535),
            "auth_token": setting(None, "what a client shows", secret=secret),
            "__annotations__": annotations,
            "__module__": __name__,
        }
        cls.settings = type(ServiceSettings)(
            cls.__name__ + "Settings", (ServiceSettings,), values, name=f"services.{cls.name}"
        )

class Right(Base):
    pass

class Believing(Base):
    def probe(self, target):
        reply = yield Exchange(b"version\\r\\n", lines())
        if not reply:
            raise NotThisService(reply)
        return ProbeResult(version=reply[8:].decode("latin-1"))

class Hasty(Base):
    def probe(self, target):
        reply = yield Exchange(b"version\\r\\n", bool)
        if not reply.startswith(b"VERSION "):
            raise NotThisService(reply)
        return ProbeResult(version=reply.split()[1].decode(), needs_auth=False)

class Patient(Base):
    def probe(self, target):
        reply = yield Exchange(b"version\\r\\n", lines())
        if not b"VERSION ".startswith(reply[:8]) or len(reply) == 5:
            raise NotThisService(reply)
        return ProbeResult(version=None, needs_auth=False)

class Trusting(Base):
    def probe(self, target):
        reply = yield Exchange(b"version\\r\\n", lines())
        if not reply.startswith(b"VERSION "):
            raise NotThisService(bytearray(int.from_bytes(reply[:3], "big")))
        return ProbeResult(version=reply.split()[1].decode(), needs_auth=False)

class Talkative(Base):
    def connection_info(self, target):
        return {"options": f"token={getattr(target.settings, 'auth_token', None)}"}

class Misplaced(Base, port=11212):
    pass

class Careless(Base, secret=False):
    pass

class Elsewhere(Base):
    def command(self, place):
        return [place.program, "-l", place.host, "-p", str(place.port - 1), "-U", "0", "-u", "root"]

class Following(Base):
    def command(self, place):
        return [*super().command(place), "-P", str(place.data / "pid")]

    def prepare(self, place):
        file = place.data / "pid"
        if file.exists():
            file.write_text("")

class Renamed(Base):
    pass

class Unarmed(Base):
    launchers = (MemcachedBackend.launchers[0]._replace(programs=("no-such-server-anywhere",)),)

class Undeclared(Base):
    pass

@hookimpl
def zcli_settings():
    return [each.settings for each in Base.__subclasses__() if each is not Undeclared]
"""


@pytest.fixture
def strange(site: Site) -> Path:
    """A folder with an installed third-party plugin, for its tests."""
    site.distribution("zcli-broken", "[zcli]\nbroken_backends = broken_backends\n")
    site.module("broken_backends", PLUGIN)
    site.module("zcli_memcached", Path(zcli_memcached.__file__).read_text(encoding="utf-8"))
    return site.folder


def run_suite(folder: Path, *tests: tuple[str, str], offer: str = "{}", **variables: str) -> str:
    """Run a third-party test file with one class for each backend, and return the output of pytest.

    ``tests`` are the tests to run, as (backend, test).
    """
    code = "from zcli_core.testing import ServiceBackendContract\nimport broken_backends\n" + "".join(
        f"class Test{name}(ServiceBackendContract):\n    backend = {offer.format(f'broken_backends.{name}')}\n"
        "    settings = {'services.start_timeout': 10.0}\n"
        for name in dict(tests)
    )
    (folder / "test_mine.py").write_text(code)
    path = os.pathsep.join([str(folder), str(ROOT), str(ROOT / "plugins")])
    inherited = {k: v for k, v in clean_environment(os.environ, folder).items() if k != "CI"}
    command = [sys.executable, "-m", "pytest", "-rfEs", "-p", "no:cacheprovider", "-p", "no:valkey"]
    done = subprocess.run(
        [*command, *(f"test_mine.py::Test{backend}::{test}" for backend, test in tests)],
        cwd=folder,
        env={**inherited, "PYTHONPATH": path, "ZCLI_CONFIG_DIR": str(folder), "COLUMNS": "250", **variables},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    return done.stdout + done.stderr


def failures(output: str) -> dict[str, set[str]]:
    """Return the tests that failed, by class."""
    found: dict[str, set[str]] = {}
    for name, test in re.findall(r"^(?:FAILED|ERROR) \S+::Test(\w+)::(\w+)", output, re.MULTILINE):
        found.setdefault(name, set()).add(test)
    return found


def test_suite_finds_each_fault(strange: Path) -> None:
    """One test finds each fault, and a correct backend passes. The test file of the plugin has five lines."""
    needs("memcached", "memcached")
    faults = {name: test for name, test in BROKEN.items() if name != "Renamed"}
    output = run_suite(strange, *faults.items(), *(("Right", test) for test in faults.values()))
    assert failures(output) == {name: {test} for name, test in faults.items()}, output
    # pytest shows what was compared only in modules whose asserts it has rewritten.
    assert "+  where True = ProbeOutcome(state='ready', result=ProbeResult(" in output


def test_suite_finds_a_provider_of_another_name(strange: Path) -> None:
    """The provider and the backend must have the same name."""
    provider = "__import__('zcli_core.plugins.contract').plugins.contract.Provider('other', '', {})"
    output = run_suite(strange, ("Renamed", BROKEN["Renamed"]), offer=provider)
    assert failures(output) == {"Renamed": {BROKEN["Renamed"]}}, output
    assert "assert 'renamed' == 'other'" in output


def test_suite_missing_program_fails_in_ci_only(strange: Path) -> None:
    """Elsewhere the tests are skipped, with the name of the program."""
    lifecycle = "test_start_and_stop_change_the_state"
    skipped = run_suite(strange, ("Unarmed", lifecycle))
    assert failures(skipped) == {}
    assert "the program no-such-server-anywhere is not installed: " in skipped
    assert failures(run_suite(strange, ("Unarmed", lifecycle), CI="true")) == {"Unarmed": {lifecycle}}


def test_suite_finds_an_undeclared_section(strange: Path) -> None:
    """The failure says what to do."""
    output = run_suite(strange, ("Undeclared", "test_settings_are_a_service_section"))
    assert "install yours: pip install -e ." in output


def test_suite_without_a_backend_says_what_it_needs(strange: Path) -> None:
    """The failure is not an AttributeError."""
    output = run_suite(strange, ("Right", "test_backend_identity_is_valid"), offer="None  # {}")
    assert "TestRight must set the class attribute 'backend' to a provider of your plugin" in output

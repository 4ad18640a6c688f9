"""A server of a service for tests: started by the local launcher on a free port, in a temporary folder."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from zcli_core.assembly import configure
from zcli_core.net.ports import find_free_port
from zcli_core.plugins.contract import Provider
from zcli_core.plugins.discovery import EntryPoint
from zcli_core.plugins.host import PluginHost
from zcli_core.plugins.records import SERVICE, PluginRecord
from zcli_core.services.contract import LaunchError, LocalProcess, ServiceBackend, Target
from zcli_core.services.failures import ServiceFailure
from zcli_core.services.launchers import instances
from zcli_core.services.launchers.accounts import choose_account
from zcli_core.services.launchers.context import wait_until
from zcli_core.services.launchers.data_files import DataFiles
from zcli_core.services.launchers.paths import LocalServerPaths
from zcli_core.services.launchers.processes import look_up
from zcli_core.services.launchers.programs import install_hint, is_available
from zcli_core.services.probing import probe_service
from zcli_core.services.services import Services
from zcli_core.testing.contract import Offered, make_context

_START_TIMEOUT = 180.0
_ANSWER_TIMEOUT = 5.0
_ENDING_TIMEOUT = 20.0
_PREPARE_TIMEOUT = 20.0


class LocalService:
    """One backend as ``z.comm.services`` uses it, on ``port`` and below a folder."""

    def __init__(self, offered: Offered[ServiceBackend], settings: Mapping[str, Any], folder: Path) -> None:
        self.port = find_free_port()
        self._folder = folder / "services"
        factory = offered.factory if isinstance(offered, Provider) else offered
        name = factory(make_context(**settings)).name
        host = PluginHost()
        address = {"host": "127.0.0.1", "port": self.port}
        config, _ = configure(
            host,
            {
                "services.start_timeout": _START_TIMEOUT,
                "services.probe_timeout": _ANSWER_TIMEOUT,
                **settings,
                "services.folder": str(self._folder),
                **{f"services.{name}.{attribute}": value for attribute, value in address.items()},
            },
        )
        host.records = _only(Provider(name, "under test", factory))
        self.services = Services(config, host, logging.getLogger("zcli.testing"))
        self.name = name
        self.backend = factory(make_context(**settings))

    @property
    def target(self) -> Target:
        """The address of the server, running or not."""
        return self.backend.target()._replace(host="127.0.0.1", port=self.port)

    @property
    def failure(self) -> ServiceFailure | None:
        """The cause, if the last call returned False."""
        return self.services.last_failure

    def start(self) -> bool:
        """Start the server as a local process."""
        return self.services.change("start", self.name, port=self.port, launcher="local")

    def restart(self) -> bool:
        """Restart the server."""
        return self.services.change("restart", self.name, port=self.port)

    def stop(self) -> bool:
        """Stop the server."""
        return self.services.change("stop", self.name, port=self.port)

    def state(self) -> str:
        """Return the state that a probe finds: ``"ready"``, ``"stopped"``..."""
        return probe_service(self.backend, self.target, _ANSWER_TIMEOUT).state

    @property
    def pid(self) -> int | None:
        """The process id of the server; None if it is not alive."""
        held = instances.find_running(self._folder, self.name, None)
        return None if held is None else held.process.pid

    @property
    def data(self) -> Path:
        """The server's data folder."""
        return self._folder / self.name / "data"

    def pid_files(self, pid: int) -> list[Path]:
        """Return the files in the data folder that begin with a process id."""
        files = [file for file in self.data.iterdir() if file.is_file()]
        return [file for file in files if file.read_bytes()[:20].split()[:1] == [b"%d" % pid]]

    def prepare(self) -> bool:
        """Call the backend's ``prepare()``. Return False if it does not end in time; a LaunchError is ignored."""
        held = instances.read(self._folder / self.name)
        assert held is not None, "no server was started"
        files = DataFiles(self.data, choose_account((), self.data), lambda: _PREPARE_TIMEOUT)
        log = logging.getLogger("zcli.testing")
        program, folder = Path(held.program), self._folder / self.name
        paths = LocalServerPaths(program, files, folder, held.host, held.port, log, lambda: _PREPARE_TIMEOUT)
        errors: list[BaseException] = []

        def prepare() -> None:
            try:
                self.backend.prepare(paths)
            except LaunchError:
                pass
            except BaseException as error:  # noqa: BLE001 - raised below
                errors.append(error)

        thread = threading.Thread(target=prepare, daemon=True)  # it may wait for a pipe forever
        thread.start()
        thread.join(_PREPARE_TIMEOUT)
        if errors:
            raise errors[0]
        return not thread.is_alive()

    def kill(self) -> None:
        """Kill the server and wait until its process has ended."""
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            assert wait_until(lambda: look_up(pid) is None, _ENDING_TIMEOUT), f"process {pid} did not end"


def _only(provider: Provider[ServiceBackend]) -> dict[str, PluginRecord]:
    """Return the records of a host with one plugin, which provides one service."""
    record = PluginRecord(EntryPoint("contract_suite", "", "the contract suite", ""))
    record.state = "loaded"
    record.providers = {SERVICE: [provider]}
    return {record.name: record}


@contextlib.contextmanager
def local_service(offered: Offered[ServiceBackend], settings: Mapping[str, Any]) -> Iterator[LocalService]:
    """Give a service in a temporary folder, not started. At the end, its server is killed and the folder deleted."""
    folder = Path(tempfile.mkdtemp(prefix="zcli-contract-"))
    folder.chmod(0o755)  # the account of root's servers must be able to enter it
    try:
        service = LocalService(offered, settings, folder)
        try:
            yield service
        finally:
            service.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def require_program(backend: ServiceBackend) -> None:
    """Skip the test if the backend's server cannot be started here; in CI the test fails.

    It is also skipped in CI if the backend declares no :class:`~zcli_core.services.contract.LocalProcess`.
    """
    methods = [method for method in backend.launchers if isinstance(method, LocalProcess)]
    if not methods:
        pytest.skip(f"{backend.title} has no launcher for a local process")
    if os.name != "posix":
        pytest.skip("zCLI starts local processes on POSIX only")
    if not any(map(is_available, methods)):
        programs = " or ".join(program for method in methods for program in method.programs)
        message = f"the program {programs} is not installed: {install_hint(backend)}"
        (pytest.fail if os.environ.get("CI") else pytest.skip)(message)

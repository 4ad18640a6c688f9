"""``z.comm.services``: is it running, how do I connect, start it, stop it."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from zcli_core.config.sections import Services as ServicesSection
from zcli_core.errors import ConfigError
from zcli_core.plugins.contract import Context
from zcli_core.plugins.host import PluginHost
from zcli_core.plugins.loading import describe_error
from zcli_core.plugins.records import SERVICE
from zcli_core.printable import printable
from zcli_core.services.contract import LaunchError, ServiceBackend, Target
from zcli_core.services.failures import LastFailure, ServiceFailure
from zcli_core.services.owners import is_trusted
from zcli_core.services.probing import Finding, ask, at_once
from zcli_core.services.status import status_of, unusable_status
from zcli_core.suggestions import suggestion

if TYPE_CHECKING:
    from zcli_core.config import Config
    from zcli_core.plugins.contract import Provider
    from zcli_core.services.launchers.base import Job
    from zcli_core.services.launchers.paths import LocalPlace
    from zcli_core.types import ConnectionInfo, ServiceStatus


class Services:
    """The services that plugins know, asked and controlled by name or alias.

    Nothing here raises for what a service does or lacks: the answer is then False, None, or a status that says so, and
    :attr:`last_failure` tells the cause. A name that no plugin knows, or an option that cannot be, is a ValueError.
    """

    def __init__(
        self,
        config: Config,
        host: PluginHost,
        log: logging.Logger,
        on_change: Callable[[str, ServiceStatus], Any] | None = None,
    ) -> None:
        """``on_change(name, status)`` is called after a service was started or stopped here."""
        self._config = config
        self._settings = config.section(ServicesSection)
        self._host = host
        self._log = log
        self._on_change = on_change
        self._backends: dict[Provider[ServiceBackend], ServiceBackend] = {}
        #: Where services are that were started elsewhere than their settings say.
        self._started_at: dict[str, Target] = {}
        self._lock = threading.Lock()
        self._last_failure = LastFailure()

    @property
    def last_failure(self) -> ServiceFailure | None:
        """Why the last call of this thread or asyncio task gave False or None; None if it did not."""
        return self._last_failure.get()

    @property
    def names(self) -> list[str]:
        """The names of all services that plugins provide, sorted, without aliases."""
        return sorted({provider.name for offers in self._host.providers(SERVICE).values() for _, provider in offers})

    # --- asking ---

    def status(
        self, name: str, *, port: int | None = None, data_dir: str | os.PathLike[str] | None = None
    ) -> ServiceStatus:
        """Return the status of a service.

        Args:
            name: The name or an alias of the service.
            port: The port to probe. If not given, the port that this object started the service on, or else
                ``services.<name>.port``.
            data_dir: The data folder of the service, if it was started with one. As for ``port`` if not given.

        Raises:
            ValueError: No plugin provides a service of that name.
            ConfigError: The settings of the service cannot be used, or several plugins provide it.
        """
        if (port, data_dir) != (None, None):
            job = self._job(name, port, data_dir, None, None)
            return self._status(job.backend, job.target)
        return self._status(self._backend(name))

    def statuses(self) -> dict[str, ServiceStatus]:
        """Return the status of every service by name. All services are probed at the same time."""
        return dict(zip(self.names, at_once(self.report, self.names), strict=True))

    def report(self, name: str) -> ServiceStatus:
        """The status of one service as it is told among all: where its plugin fails, it says so and nothing raises."""
        try:
            return self._status(self._backend(name))
        except ConfigError as error:
            return unusable_status(name, str(error))
        except Exception as error:  # noqa: BLE001 - a plugin's fault costs its own service and no other
            self._log.error("the plugin of the service %s failed", name, exc_info=error)
            return unusable_status(name, f"its plugin failed: {describe_error(error)}")

    def connection_info(self, name: str) -> ConnectionInfo | None:
        """What a driver needs to connect, never a password; None if the service is not running.

        :class:`~zcli_core.types.ConnectionInfo` explains its keys.

        :raises ValueError: no plugin provides a service of that name.
        """
        backend = self._backend(name)
        self._last_failure.set(None)
        status = self._status(backend)
        if not status["running"]:
            self._fail(backend, "connection info", LaunchError(status["error"]))
        return status.get("connection_info")

    def health_check_all(self) -> dict[str, bool]:
        """Whether each service is ready, by name."""
        return {name: status["ready"] for name, status in self.statuses().items()}

    # --- changing ---

    def start(
        self,
        name: str,
        *,
        port: int | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        launcher: str | None = None,
        timeout: float | None = None,
    ) -> bool:
        """See :meth:`zcli_core.comm.Comm.start_service`."""
        job = self._job(name, port, data_dir, launcher, timeout)
        done = self._attempt(job, "start")
        if done and (port, data_dir) != (None, None):
            self._started_at[job.backend.name] = job.target
        return done

    def stop(
        self,
        name: str,
        *,
        port: int | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
    ) -> bool:
        """See :meth:`zcli_core.comm.Comm.stop_service`."""
        job = self._job(name, port, data_dir, None, timeout)
        done = self._attempt(job, "stop")
        started = self._started_at.get(job.backend.name)
        if done and started is not None and (started.port, started.data_dir) == (job.target.port, job.target.data_dir):
            del self._started_at[job.backend.name]
        return done

    def restart(
        self,
        name: str,
        *,
        port: int | None = None,
        data_dir: str | os.PathLike[str] | None = None,
        timeout: float | None = None,
    ) -> bool:
        """See :meth:`zcli_core.comm.Comm.restart_service`."""
        job = self._job(name, port, data_dir, None, timeout)
        done = self._attempt(job, "restart")
        if done and (port, data_dir) != (None, None):
            self._started_at[job.backend.name] = job.target
        return done

    # --- what goes wrong ---

    def _attempt(self, job: Job, action: Literal["start", "stop", "restart"]) -> bool:
        from zcli_core.services import lifecycle as changes

        self._last_failure.set(None)
        try:
            changed: bool = getattr(changes, action)(job, self._settings.timeout)
        except LaunchError as error:
            self._fail(job.backend, action, error)
            return False
        if changed:
            self._log.info("%s: %s done", job.backend.name, action)
            if self._on_change is not None:
                self._on_change(job.backend.name, self._status(job.backend, job.target))
        return True

    def _fail(self, backend: ServiceBackend, action: str, error: LaunchError) -> None:
        message, log = printable(error.message), tuple(printable(line, keep="\t") for line in error.log)
        failure = ServiceFailure(backend.name, action, message, error.command and printable(error.command), log)
        self._last_failure.set(failure)
        self._log.warning("%s: %s", action, failure)

    # --- backends and targets ---

    def _backend(self, name: Any) -> ServiceBackend:
        offers = self._host.providers(SERVICE)
        if not isinstance(name, str) or name not in offers:
            raise ValueError(self._unknown(name, list(offers)))
        provider = self._host.choose(SERVICE, self._config, name)
        with self._lock:
            backend = self._backends.get(provider)
            if backend is None:
                context = Context(self._config, self._log.getChild(provider.name))
                backend = self._host.make(SERVICE, context, name)
                self._check_tls_files(backend)
                self._backends[provider] = backend
        return backend

    def _check_tls_files(self, backend: ServiceBackend) -> None:
        if backend.settings is None:
            return
        section = self._config.section(backend.settings)
        if section.ca_file or section.client_cert or section.client_key:
            from zcli_core.net.tls_files import check_tls_files

            check_tls_files(self._config, backend.settings.section_name)

    def _unknown(self, name: Any, known: list[str]) -> str:
        hint = suggestion(name, known) if isinstance(name, str) else ""
        names = ", ".join(self.names) or "none: no plugin in use provides any"
        message = f"{name!r} is no service that a plugin provides{hint}; known services: {names}"
        for problem in self._host.problems():
            message += f"\n     {problem}"
        return message

    def _status(self, backend: ServiceBackend, target: Target | None = None) -> ServiceStatus:
        target = target or self._target(backend)
        finding = self._ask(backend, target)
        if finding.answer is None:
            return status_of(backend, target, finding, None)
        place = self._local_place(backend, target, finding.owner)
        if place is not None and finding.answer.version is None:
            finding = finding._replace(answer=finding.answer._replace(version=backend.local_version(place)))
        found = target._replace(tls=finding.tls)
        info = _connection_info(backend, found, place)
        trusted = place is not None or self._is_trusted(backend, target, finding.owner)
        return status_of(backend, target, finding, info, trusted)

    def _is_trusted(self, backend: ServiceBackend, target: Target, owner: int | None) -> bool:
        if owner is None or is_trusted(owner):
            return True
        from zcli_core.services.lifecycle import is_strangers

        try:
            return not is_strangers(self._new_job(backend, target, self._settings.timeout), owner)
        except LaunchError:  # a manager's program does not answer
            return False

    def _ask(self, backend: ServiceBackend, target: Target) -> Finding:
        return ask(backend, target, self._settings.timeout)

    def _local_place(self, backend: ServiceBackend, target: Target, owner: int | None) -> LocalPlace | None:
        """Where the server runs, if zCLI started it as a process, and the port is held by that process's user."""
        from zcli_core.services.launchers import instance as instances

        base = instances.services_folder(self._settings.folder)
        held = instances.running(base, backend.name, target.data_dir)
        if base is None or held is None or not held.is_ours:
            return None
        from zcli_core.services.launchers.data_files import DataFiles, choose_account
        from zcli_core.services.launchers.identity import is_at
        from zcli_core.services.launchers.paths import LocalPlace

        if not is_at(held.host, held.port, target, self._settings.timeout) or not held.is_run_by(owner):
            return None

        folder = instances.instance_folder(base, backend.name, target.data_dir)
        data = instances.data_folder(folder, target.data_dir)

        def timeout() -> float:
            return self._settings.timeout

        try:
            files = DataFiles(data, choose_account((), data), timeout)
        except LaunchError:  # the folder is not the server's any more
            return None
        return LocalPlace(Path(held.program), files, folder, held.host, held.port, self._log, timeout)

    def _target(self, backend: ServiceBackend) -> Target:
        """Where the service was started here, or is by its settings, or, where no layer names a port, where a server
        of it runs that another program started.
        """
        if backend.name in self._started_at:
            return self._started_at[backend.name]
        target = backend.target()
        if backend.settings is not None:
            key = f"{backend.settings.section_name}.port"
            if self._config.explain(key).layer != "defaults":
                return target
        from zcli_core.services.launchers import instance as instances

        held = instances.running(instances.services_folder(self._settings.folder), backend.name, target.data_dir)
        if held is None or not held.is_ours:
            return target
        from zcli_core.services.launchers.identity import is_at

        # A server here is not the one that is meant where the settings name another machine.
        is_meant = is_at(held.host, target.port, target, self._settings.timeout)
        return target._replace(host=held.host, port=held.port) if is_meant else target

    def _job(
        self,
        name: Any,
        port: Any,
        data_dir: Any,
        launcher: Any,
        timeout: Any,
    ) -> Job:
        from zcli_core.net.ports import valid_port, valid_timeout
        from zcli_core.services.launchers.choice import check_name

        backend = self._backend(name)
        target = self._target(backend)
        if port is not None:
            target = target._replace(port=valid_port(port))
        if data_dir is not None:
            target = target._replace(data_dir=_valid_folder(data_dir))
        said_by = f"services.{backend.name}.launcher"
        if launcher is not None:
            target = target._replace(launcher=str(launcher))
            said_by = "launcher"
        seconds = self._settings.start_timeout if timeout is None else valid_timeout(timeout)
        job = self._new_job(backend, target, seconds)
        check_name(job, said_by)
        return job

    def _new_job(self, backend: ServiceBackend, target: Target, timeout: float) -> Job:
        from zcli_core.services.launchers.base import Job
        from zcli_core.services.launchers.instance import services_folder

        setting = self._settings.folder
        return Job(backend, target, timeout, services_folder(setting), self._log, setting, self._settings.timeout)


def _connection_info(backend: ServiceBackend, target: Target, place: LocalPlace | None) -> ConnectionInfo:
    info: dict[str, Any] = {"host": target.host, "port": target.port, "user": target.user, "tls": target.tls}
    for name in ("ca_file", "client_cert", "client_key"):
        file = getattr(target.settings, name, None)
        if file is not None:
            info[name] = str(file)
    info |= backend.connection_info(target)
    if place is not None:
        info |= backend.local_connection_info(place, target)
    return cast("ConnectionInfo", info)  # a plugin gives the rest


def _valid_folder(value: Any) -> Path:
    if not isinstance(value, (str, os.PathLike)) or not str(value).strip() or "\0" in str(value):
        raise ValueError(f"data_dir is the path of a folder, not {value!r}")
    return Path(value).expanduser().absolute()

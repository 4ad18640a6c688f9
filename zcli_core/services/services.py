"""``z.comm.services``: the status of services, how to connect to them, and starting and stopping them."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from zcli_core.config.sections import Services as ServicesSection
from zcli_core.errors import ConfigError
from zcli_core.last_failure import LastFailure
from zcli_core.plugins.host import PluginHost
from zcli_core.plugins.loading import describe_error
from zcli_core.printable import printable
from zcli_core.services.backends import Backends
from zcli_core.services.concurrency import map_concurrently
from zcli_core.services.contract import LaunchError, ServiceBackend, Target
from zcli_core.services.failures import ServiceFailure
from zcli_core.services.location import Location, locate, server_paths
from zcli_core.services.owners import is_trusted
from zcli_core.services.probing import probe_service
from zcli_core.services.status import make_connection_info, make_status, unusable_status

if TYPE_CHECKING:
    from zcli_core.config import Config
    from zcli_core.services.launchers.context import LaunchContext
    from zcli_core.types import ConnectionInfo, ServiceStatus

_Folder = str | os.PathLike[str]


class Services:
    """The services that plugins provide, by name or alias.

    No method raises because of the state of a service: it returns False, None, or a status with the cause, and
    :attr:`last_failure` has the cause. An unknown name or an invalid argument raises ValueError.
    """

    def __init__(
        self,
        config: Config,
        host: PluginHost,
        log: logging.Logger,
        on_change: Callable[[str, ServiceStatus], Any] | None = None,
    ) -> None:
        """Make the object. ``on_change(name, status)`` is called after a service was started or stopped."""
        self._config = config
        self._settings = config.section(ServicesSection)
        self._log = log
        self._on_change = on_change
        self._backends = Backends(config, host, log)
        #: The targets of services that this object started with a port or data folder given as argument.
        self._started_at: dict[str, Target] = {}
        self._last_failure = LastFailure[ServiceFailure]()

    @property
    def last_failure(self) -> ServiceFailure | None:
        """Why the last call in this thread or asyncio task returned False or None; None if it succeeded."""
        return self._last_failure.get()

    @property
    def names(self) -> list[str]:
        """The names of all services, sorted, without aliases."""
        return self._backends.names

    # --- status ---

    def status(self, name: str, *, port: int | None = None, data_dir: _Folder | None = None) -> ServiceStatus:
        """Return the status of a service. :class:`~zcli_core.types.ServiceStatus` explains the keys.

        Args:
            name: The name or an alias of the service.
            port: The port to probe. If not given, the port that this object started the service on, or else
                ``services.<name>.port``.
            data_dir: The data folder of the service. If not given, the one that this object started the service with,
                or else ``services.<name>.data_dir``.

        Raises:
            ValueError: No plugin provides a service of that name.
            ConfigError: The settings of the service cannot be used, or several plugins provide it.
        """
        backend = self._backends.get(name)
        return self._status(backend, self._locate(backend, port, data_dir))

    def statuses(self) -> dict[str, ServiceStatus]:
        """Return the status of every service by name. All services are probed at the same time."""
        return dict(zip(self.names, map_concurrently(self.report, self.names), strict=True))

    def report(self, name: str) -> ServiceStatus:
        """Return the status of one service without raising: an error of its plugin becomes the status."""
        try:
            return self.status(name)
        except ConfigError as error:
            return unusable_status(name, str(error))
        except Exception as error:  # noqa: BLE001 - an error of one plugin must not affect the other services
            self._log.error("the plugin of the service %s failed", name, exc_info=error)
            return unusable_status(name, f"its plugin failed: {describe_error(error)}")

    def connection_info(self, name: str) -> ConnectionInfo | None:
        """Return what a driver needs to connect, never a password; None if the service is not running.

        If an untrusted user runs the server, a security warning is logged.
        :class:`~zcli_core.types.ConnectionInfo` explains the keys.

        Raises:
            ValueError: no plugin provides a service of that name.
        """
        backend = self._backends.get(name)
        self._last_failure.clear()
        status = self._status(backend, self._locate(backend))
        if not status["running"]:
            self._fail(backend, "connection info", LaunchError(status["error"]))
        elif not status["owner_trusted"]:
            from zcli_core.security_warnings import warn_security

            info, owner = status["connection_info"], status["owner"]
            text = "the %s at port %s of %s belongs to the user %s, who can read all data sent to it"
            warn_security(self._log, text, backend.title, info["port"], info["host"], owner)
        return status.get("connection_info")

    def _status(self, backend: ServiceBackend, location: Location) -> ServiceStatus:
        target = location.target
        outcome = probe_service(backend, target, self._settings.probe_timeout, name_holder=True)
        if outcome.result is None:
            return make_status(backend, target, outcome)
        paths = server_paths(self._config, backend, location, outcome.owner, self._log)
        if paths is not None and outcome.result.version is None:
            outcome = outcome._replace(result=outcome.result._replace(version=backend.local_version(paths)))
        info = make_connection_info(backend, target._replace(tls=outcome.tls), paths)
        trusted = paths is not None or self._is_trusted(backend, target, outcome.owner)
        return make_status(backend, target, outcome, info, trusted)

    def _is_trusted(self, backend: ServiceBackend, target: Target, owner: int | None) -> bool:
        if owner is None or is_trusted(owner):
            return True
        from zcli_core.services.lifecycle import is_trusted_owner

        try:
            return is_trusted_owner(self._launch_context(backend, target, self._settings.probe_timeout), owner)
        except LaunchError:  # a program of the system's service manager failed
            return False

    # --- starting and stopping ---

    def change(
        self,
        action: Literal["start", "stop", "restart"],
        name: str,
        *,
        port: int | None = None,
        data_dir: _Folder | None = None,
        launcher: str | None = None,
        timeout: float | None = None,
    ) -> bool:
        """Start, stop or restart a service.

        :meth:`zcli_core.comm.Comm.start_service` and its neighbours describe the arguments, the result and the errors.
        """
        context = self._context_of(name, port, data_dir, timeout, launcher)
        from zcli_core.services import lifecycle

        backend, target = context.backend, context.target
        self._last_failure.clear()
        try:
            changed: bool = getattr(lifecycle, action)(context)
        except LaunchError as error:
            self._fail(backend, action, error)
            return False
        if changed:
            self._log.info("%s: %s done", backend.name, action)
            if self._on_change is not None:
                location = locate(self._config, backend, target, fixed=True)
                self._on_change(backend.name, self._status(backend, location))
        if action == "stop":
            started = self._started_at.get(backend.name, target)
            if (started.port, started.data_dir) == (target.port, target.data_dir):
                self._started_at.pop(backend.name, None)
        elif (port, data_dir) != (None, None):
            self._started_at[backend.name] = target
        return True

    def _fail(self, backend: ServiceBackend, action: str, error: LaunchError) -> None:
        message, log = printable(error.message), tuple(printable(line, keep="\t") for line in error.log)
        failure = ServiceFailure(backend.name, action, message, error.command and printable(error.command), log)
        self._last_failure.set(failure)
        self._log.warning("%s: %s", action, failure)

    # --- where a service is ---

    def _locate(self, backend: ServiceBackend, port: Any = None, data_dir: Any = None) -> Location:
        """Locate a service by the arguments, else by the last start with this object, else by its settings."""
        started = self._started_at.get(backend.name)
        target = started or backend.target()
        if port is not None:
            from zcli_core.net.validation import valid_port

            target = target._replace(port=valid_port(port))
        if data_dir is not None:
            target = target._replace(data_dir=_valid_folder(data_dir))
        return locate(self._config, backend, target, fixed=port is not None or started is not None)

    def _context_of(self, name: Any, port: Any, data_dir: Any, timeout: Any, launcher: Any = None) -> LaunchContext:
        """Check the arguments of a start, stop or restart."""
        from zcli_core.net.validation import valid_timeout
        from zcli_core.services.launchers.choice import check_name

        backend = self._backends.get(name)
        target = self._locate(backend, port, data_dir).target
        set_by = f"services.{backend.name}.launcher"
        if launcher is not None:
            target, set_by = target._replace(launcher=str(launcher)), "launcher"
        seconds = self._settings.start_timeout if timeout is None else valid_timeout(timeout)
        context = self._launch_context(backend, target, seconds)
        check_name(context, set_by)
        return context

    def _launch_context(self, backend: ServiceBackend, target: Target, timeout: float) -> LaunchContext:
        from zcli_core.services.launchers.context import LaunchContext
        from zcli_core.services.launchers.instances import services_folder

        folder = self._settings.folder
        probe_timeout = self._settings.probe_timeout
        return LaunchContext(backend, target, timeout, services_folder(folder), self._log, folder, probe_timeout)


def _valid_folder(value: Any) -> Path:
    if not isinstance(value, (str, os.PathLike)) or not str(value).strip() or "\0" in str(value):
        raise ValueError(f"data_dir must be the path of a folder, got {value!r}")
    return Path(value).expanduser().absolute()

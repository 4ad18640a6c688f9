"""Where a service is: its target, and the server that zCLI started for it, found once for each call."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from zcli_core.config.sections import Services as ServicesSection
from zcli_core.services.contract import LaunchError, ServiceBackend, Target

if TYPE_CHECKING:
    from zcli_core.config import Config
    from zcli_core.services.launchers.instances import Instance
    from zcli_core.services.launchers.paths import LocalServerPaths


class Location(NamedTuple):
    """Where a service is.

    Attributes:
        target: the address and the other settings.
        instance: the server that zCLI started for the target's data folder, if its process is alive.
    """

    target: Target
    instance: Instance | None


def locate(config: Config, backend: ServiceBackend, target: Target, *, fixed: bool) -> Location:
    """Find the server that zCLI started for a target, and where that server listens.

    Args:
        config: the configuration.
        backend: the kind of service.
        target: where the service is according to its settings and the caller.
        fixed: whether the caller has chosen the port. If not, and no layer sets the port, the location of a running
            server of zCLI replaces the default port. Another program may have started that server.
    """
    from zcli_core.services.launchers import instances

    settings = config.section(ServicesSection)
    folder = instances.services_folder(settings.folder)
    instance = instances.find_running(folder, backend.name, target.data_dir)
    if instance is None or not instance.is_ours:
        return Location(target, None)
    if not fixed and not _is_port_set(config, backend):
        from zcli_core.services.launchers.identity import is_at

        # If the settings name another machine, the server here is not the one that is meant.
        if is_at(instance.host, target.port, target, settings.probe_timeout):
            target = target._replace(host=instance.host, port=instance.port)
    return Location(target, instance)


def _is_port_set(config: Config, backend: ServiceBackend) -> bool:
    if backend.settings is None:
        return False
    return config.explain(f"{backend.settings.section_name}.port").layer != "defaults"


def server_paths(
    config: Config, backend: ServiceBackend, location: Location, owner: int | None, log: logging.Logger
) -> LocalServerPaths | None:
    """Return the paths of the server at a location; None if another program than zCLI started that server.

    Args:
        config: the configuration.
        backend: the kind of service.
        location: where the service is.
        owner: the user id of the server that answered there; None if it is not known.
        log: the log of services.
    """
    target, instance = location
    settings = config.section(ServicesSection)
    if instance is None:
        return None
    from zcli_core.services.launchers.accounts import choose_account
    from zcli_core.services.launchers.data_files import DataFiles
    from zcli_core.services.launchers.identity import is_at
    from zcli_core.services.launchers.instances import data_folder, instance_folder, services_folder
    from zcli_core.services.launchers.paths import LocalServerPaths

    if not is_at(instance.host, instance.port, target, settings.probe_timeout) or not instance.is_run_by(owner):
        return None
    if not instance.alive:  # it has ended since it was located, so another server may have answered the probe
        return None
    base = services_folder(settings.folder)
    assert base is not None, "the instance was found there"
    folder = instance_folder(base, backend.name, target.data_dir)
    data = data_folder(folder, target.data_dir)
    timeout: Callable[[], float] = lambda: settings.probe_timeout  # noqa: E731
    try:
        files = DataFiles(data, choose_account((), data), timeout)
    except LaunchError:  # the folder does not belong to the server any more
        return None
    return LocalServerPaths(Path(instance.program), files, folder, instance.host, instance.port, log, timeout)

"""The interface of launchers."""

from __future__ import annotations

from functools import cached_property
from typing import ClassVar, Generic, TypeVar

from zcli_core.services.contract import LaunchError
from zcli_core.services.launchers.context import LaunchContext

_U = TypeVar("_U")


class Launcher:
    """One way to start and stop a service.

    Attributes:
        name: its name in the setting ``services.<name>.launcher``.
        knows_port: whether it can start the service on the port of the target. Otherwise the service has its own port.
    """

    name: ClassVar[str]
    knows_port: ClassVar[bool] = False

    def __init__(self, context: LaunchContext) -> None:
        self.context = context

    def found(self) -> bool:
        """Return whether it has the service, so that it can start it."""
        raise NotImplementedError

    def runs(self) -> bool | None:
        """Return whether it is proven that it runs the service now; None if the system does not report it."""
        raise NotImplementedError

    def is_run_by(self, uid: int) -> bool:
        """Return whether it is proven that it runs the service as the user ``uid``, who holds the service's port."""
        return self.runs() is True

    def command(self, action: str) -> str:
        """Return the command with which a user starts or stops the service in the way of this launcher."""
        raise NotImplementedError

    def start(self) -> None:
        """Start the service and wait until it is ready.

        Raises:
            LaunchError: it cannot be started, or is not ready before the deadline.
        """
        raise NotImplementedError

    def stop(self) -> None:
        """Stop the service and wait until it has ended.

        Raises:
            LaunchError: it cannot be stopped.
        """
        raise NotImplementedError


class ManagerLauncher(Launcher, Generic[_U]):
    """A launcher that uses a service manager of the system."""

    @cached_property
    def unit(self) -> _U | None:
        """What the manager calls the service; None if the manager does not have it."""
        raise NotImplementedError

    def not_found(self) -> LaunchError:
        """Return the error for a manager that does not have the service."""
        raise NotImplementedError

    def control(self, action: str) -> str:
        """Make the manager start or stop the service, and return what was done.

        Raises:
            LaunchError: the manager failed.
        """
        raise NotImplementedError

    def log(self) -> tuple[str, ...]:
        """Return the last lines of the service's log; empty if they cannot be read."""
        return ()

    def found(self) -> bool:
        """Return whether the manager has the service."""
        return self.unit is not None

    def required_unit(self) -> _U:
        """Return what the manager calls the service.

        Raises:
            LaunchError: the manager does not have it.
        """
        if self.unit is None:
            raise self.not_found()
        return self.unit

    def start(self) -> None:
        """Start the service and wait until it is ready."""
        context, done = self.context, self.control("start")
        outcome = context.wait_until_ready()
        if outcome.state != "ready":
            detail = f": {outcome.detail}" if outcome.detail else ""
            raise LaunchError(
                f"{done} succeeded, but {context.target.address} was not ready within {context.timeout:g} s{detail}",
                log=self.log(),
            )

    def stop(self) -> None:
        """Stop the service and wait until it does not answer any more."""
        context, done = self.context, self.control("stop")
        if not context.wait_until(lambda: not context.probe().is_running):
            raise LaunchError(
                f"{done} succeeded, but {context.target.address} still answered after {context.timeout:g} s"
            )

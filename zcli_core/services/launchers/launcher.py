"""The interface of launchers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from zcli_core.services.contract import LaunchError
from zcli_core.services.launchers.context import LaunchContext


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

    def require_ready(self, what: str, log: Callable[[], Sequence[str]] = tuple) -> None:
        """Wait until the service is ready.

        Args:
            what: what was done to start it, for the error.
            log: returns the last lines of its log, for the error.

        Raises:
            LaunchError: it is not ready before the deadline.
        """
        context = self.context
        outcome = context.wait_until_ready()
        if outcome.state != "ready":
            detail = f": {outcome.detail}" if outcome.detail else ""
            raise LaunchError(
                f"{what} succeeded, but {context.target.address} was not ready within {context.timeout:g} s{detail}",
                log=log(),
            )

    def require_stopped(self, what: str) -> None:
        """Wait until the service does not answer any more. ``what`` was done to stop it.

        Raises:
            LaunchError: it still answers at the deadline.
        """
        context = self.context
        if not context.wait_until(lambda: not context.probe().is_running):
            raise LaunchError(
                f"{what} succeeded, but {context.target.address} still answered after {context.timeout:g} s"
            )

"""``zCLI``: creates the plugin host, the configuration, the log and the facade ``comm``, in that order."""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from zcli_core.assembly import configure
from zcli_core.comm import Comm
from zcli_core.config.sections import Application
from zcli_core.log import FILE_ONLY, ApplicationLog, open_log
from zcli_core.plugins.host import PluginHost
from zcli_core.printable import print_line
from zcli_core.security_warnings import SecurityWarning, warn_security
from zcli_core.subsystems.attributes import Subsystems
from zcli_core.suggestions import suggestion
from zcli_core.system.trusted import script_file
from zcli_core.websocket.workers import assignment

if TYPE_CHECKING:
    from zcli_core.subsystems.bifrost import Bifrost, Walker
    from zcli_core.zspark import ZSpark

T = TypeVar("T")


class zCLI:  # noqa: N801 - the name that the guide gives it
    """The object of one script: its settings, its log, and the facade ``comm``.

    >>> z = zCLI({"title": "my-script", "http": {"timeout": 5}})
    >>> response = z.comm.http_get("https://httpbin.org/get")

    The object is closed at the end of its ``with`` block, or at the end of the program. Plugins add subsystems, each as
    an attribute: ``z.bifrost``.

    Attributes:
        config: The configuration in force.
        log: The application's ``logging.Logger``. ``logger`` is the same object.
        comm: HTTP, ports, WebSockets and services.
        log_file: Path of the log file, or None if there is none.
        plugins: The plugin host.
    """

    def __init__(self, zSpark: ZSpark | Mapping[str, Any] | None = None) -> None:  # noqa: N803 - the guide's name
        """Load the plugins, read the configuration and open the log.

        Args:
            zSpark: The settings of the script. They override all other layers. ``zcli config`` lists all settings.

        Raises:
            TypeError: zSpark is not a mapping.
            ConfigError: The configuration cannot be used. The error lists every mistake of every layer. Nothing stays
                open.
        """
        zspark: Mapping[str, Any] = {} if zSpark is None else zSpark
        if not isinstance(zspark, Mapping):
            raise TypeError(
                "zCLI() must get a mapping of settings, such as zCLI({'title': 'my-script'}), "
                f"got {type(zspark).__name__}"
            )
        self.plugins = PluginHost()
        self.config, warnings = configure(self.plugins, zspark)
        self._application_log = open_log(
            self.config.section(Application), script_file(), self.config.secret_texts(), assignment.worker_number()
        )
        self.log = self.logger = self._application_log.logger
        self.log_file: str | None = self._application_log.file
        self.plugins.trace_to(self.log)
        self._subsystems = Subsystems(self.plugins)
        self._closing = False
        self._at_exit = _CloseAtExit(self)
        self._finalizer = weakref.finalize(self, _release, self._application_log, self._at_exit)
        self._finalizer.atexit = False  # _CloseAtExit closes more, and runs first
        # The supervisor, or another worker, shows on the console what is the same for all workers.
        where = FILE_ONLY if assignment.is_quiet() else None
        for message in (*self.plugins.problems(), *warnings):
            if isinstance(message, SecurityWarning) and where is None:
                warn_security(self.log, "%s", message)
            else:
                self.log.warning("%s", message, extra=where)
        self._banner("zConfig", f"{self._application_log.title}, log in {_log_path(self._application_log)}")
        self.comm = Comm(self.config, self.plugins, self.log, owner=self)
        self._banner("zComm", f"http {self.config.http.transport}")
        notify = self.plugins.notifier("zcli_ready", self.log)
        if notify is not None:
            notify(self)

    def _banner(self, subsystem: str, detail: str) -> None:
        self.log.info("%s ready: %s", subsystem, detail, extra=FILE_ONLY)
        if self.config.deployment == "Development" and assignment.worker_number() is None:
            print_line(f"[{subsystem} Ready] {detail}")

    # --- subsystems ---

    @property
    def walker(self) -> Walker:
        """Runs the application in the way that ``zMode`` says: ``z.walker.run()``."""
        walker: Walker = self._subsystems.get("walker", self)
        return walker

    @property
    def bifrost(self) -> Bifrost:
        """Named events between browsers and the application: ``@z.bifrost.on("greet")``."""
        bifrost: Bifrost = self._subsystems.get("bifrost", self)
        return bifrost

    def subsystem(self, name: str, kind: type[T]) -> T:
        """Return the subsystem of that name with its type; it is made at its first use.

        ``z.greeter`` is the same object, but type checkers know only the attributes of the core.

        Args:
            name: The name of the subsystem, such as ``"greeter"``.
            kind: Its class.

        Raises:
            ConfigError: No plugin provides it, several do, a module that it needs is not installed, or it cannot be
                made.
            TypeError: It is not an object of that class.
            RuntimeError: The ``zCLI`` object is closed.
        """
        found = self._subsystems.get(name, self)
        if not isinstance(found, kind):
            raise TypeError(f"the subsystem {name!r} must be a {kind.__qualname__}, got {type(found).__qualname__}")
        return found

    if not TYPE_CHECKING:  # a type checker must find a misspelt attribute

        def __getattr__(self, name: str) -> Any:
            """Return a subsystem. It is called only for names that are not attributes."""
            subsystems = self.__dict__.get("_subsystems")
            if subsystems is not None and name in subsystems.names:
                return subsystems.get(name, self)
            known = [each for each in dir(self) if not each.startswith("_")]
            # Without the object, because a traceback would suggest the name once more.
            text = f"a zCLI object has no attribute {name!r}{suggestion(name, known)}"
            raise AttributeError(text, name=name, obj=None)

    def __dir__(self) -> list[str]:
        subsystems = self.__dict__.get("_subsystems")
        return sorted({*super().__dir__(), *(() if subsystems is None else subsystems.names)})

    # --- the end ---

    def close(self) -> None:
        """Close the subsystems and all connections, then the log. A second call has no effect."""
        if self._closing:
            return
        self._closing = True
        try:
            notify = self.plugins.notifier("zcli_closing", self.log)
            if notify is not None:
                notify(self)
            self._subsystems.close(self.log)
            self.comm.close()
        finally:
            self._finalizer()

    def shutdown(self) -> None:
        """Close all connections, then the log, as :meth:`close` does."""
        self.close()

    def __enter__(self) -> zCLI:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<zCLI {self._application_log.title!r}, {self.config.deployment}>"


class _CloseAtExit:
    """Closes the object at the end of the program. Its weak reference does not keep the object alive."""

    def __init__(self, app: zCLI) -> None:
        self._app = weakref.ref(app)
        atexit.register(self._close)

    def _close(self) -> None:
        app = self._app()
        if app is not None:
            app.close()

    def cancel(self) -> None:
        atexit.unregister(self._close)


def _release(log: ApplicationLog, at_exit: _CloseAtExit) -> None:
    at_exit.cancel()
    log.close()


def _log_path(log: ApplicationLog) -> str:
    """Return the path of the log file, relative to the working directory if that is shorter."""
    if log.file is None:
        return "no file"
    try:
        shorter = os.path.relpath(log.file)
    except (ValueError, OSError):  # another drive, or no working directory
        return log.file
    return min(shorter, log.file, key=len)

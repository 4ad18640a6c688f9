"""The plugin host: loads plugins, isolates their errors, and calls their hooks."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import pluggy

from zcli_core.plugins import hookspecs
from zcli_core.plugins.discovery import EntryPoint, find_entry_points
from zcli_core.plugins.loading import check_provider, describe_error, import_object, load_error, names_of
from zcli_core.plugins.records import KINDS, Kind, PluginRecord, RegisteredProvider

if TYPE_CHECKING:
    import logging

    from zcli_core.config import Config
    from zcli_core.plugins.contract import Context, Provider
    from zcli_core.plugins.tracing import Trace

#: Wraps everything that the host calls of a plugin. It gets the plugin's name, what is called (the name of a hook, or
#: ``"import"``), the names of the arguments and the function, and returns the function to call instead.
Observer = Callable[[str, str, tuple[str, ...], Callable[..., Any]], Callable[..., Any]]
TRACE_VARIABLE = "ZCLI_TRACE_HOOKS"


class PluginHost:
    """The plugins of one ``zCLI`` object.

    An error of a plugin never stops the host. If a plugin cannot be loaded, or its declaring hook raises, its record
    gets the state ``"broken"`` with the cause, and the other plugins keep working.

    Attributes:
        records: A record of each installed plugin, by name.
        warnings: Sentences for the log, beside those about broken plugins.
    """

    def __init__(self, entry_points: Iterable[EntryPoint] | None = None, observe: Observer | None = None) -> None:
        """Find the installed plugins without importing them.

        Args:
            entry_points: Plugins to use instead of the installed ones.
            observe: Wraps everything that the host calls of a plugin, such as :class:`~.tracing.Timings`.
        """
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self.records: dict[str, PluginRecord] = {}
        self.warnings: list[str] = []
        self._trace = self._make_trace()
        self._observers = [observer for observer in (observe, self._trace) if observer is not None]
        for point in find_entry_points() if entry_points is None else entry_points:
            self._add_record(PluginRecord(point))

    def _make_trace(self) -> Trace | None:
        said = os.environ.get(TRACE_VARIABLE)
        if not said:
            return None
        from zcli_core.plugins.tracing import Trace, is_on

        try:
            return Trace() if is_on(said) else None
        except ValueError as error:
            self.warnings.append(f"{TRACE_VARIABLE} must be {error}; hooks are not traced")
            return None

    def trace_to(self, log: logging.Logger) -> None:
        """Write the trace of hook calls (``ZCLI_TRACE_HOOKS``) to this log; until now it was written to stderr."""
        if self._trace is not None:
            self._trace.log_to(log)

    def _add_record(self, record: PluginRecord) -> None:
        other = self.records.setdefault(record.name, record)
        if other is not record:
            record.state = "broken"
            record.cause = f"{other.origin} already has a plugin of that name; this one is not loaded"
            self.records[f"{record.name} ({record.entry_point.distribution})"] = record

    # --- loading ---

    def load(self, disabled: Iterable[str] = (), *, first_only: bool = False) -> None:
        """Import and register every plugin that is not loaded yet.

        Args:
            disabled: Names of plugins that are not imported.
            first_only: Whether only the plugins of the group ``zcli.first`` are loaded.
        """
        names = set(disabled)
        for record in self.records.values():
            if record.state != "found":
                continue
            if record.name in names:
                record.state = "disabled"
            elif record.entry_point.first or not first_only:
                self._load(record)

    def _load(self, record: PluginRecord) -> None:
        load = self._observed(record.name, "import", (), partial(import_object, record.entry_point.value))
        try:
            plugin = load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - also SystemExit and panics in Rust
            self._break(record, f"it cannot be imported: {describe_error(error)}")
            return
        try:
            cause = load_error(record, plugin, self._manager)
            if cause:
                self._break(record, cause)
                return
            self._manager.register(plugin, record.name)
        except Exception as error:  # noqa: BLE001 - pluggy raises many types for an invalid hook
            if self._manager.get_plugin(record.name) is not None:  # pluggy before 1.7 leaves it half registered
                self._manager.unregister(plugin)
            self._break(record, f"it does not fit the hooks: {describe_error(error)}")
            return
        record.plugin = plugin
        record.state = "loaded"
        record.hooks = tuple(sorted(c.name for c in self._manager.get_hookcallers(plugin) or ()))

    def _break(self, record: PluginRecord, cause: str) -> None:
        record.state = "broken"
        record.cause = cause

    def drop(self, name: str, state: str, cause: str | None = None) -> None:
        """Unregister a loaded plugin and give its record the state ``"disabled"`` or ``"broken"``."""
        record = self.records[name]
        if record.plugin is not None:
            self._manager.unregister(record.plugin)
        record.plugin, record.state, record.cause = None, state, cause
        record.providers = {}

    # --- declaring hooks ---

    def collect(self, hook: str, check: Callable[[Any], None], skip: Collection[str] = ()) -> list[tuple[str, Any]]:
        """Call a declaring hook of every plugin.

        A plugin whose hook raises, or returns an invalid item, is dropped as broken with all that it provides.

        Args:
            hook: Name of the hook.
            check: Raises an error for an invalid item.
            skip: Names of plugins whose hook is not called.

        Returns:
            (name of the plugin, item) for each item.
        """
        found = []
        for name, function in self._implementations(hook, _as_list):
            if name in skip:
                continue
            try:
                items = function()
                for item in items:
                    check(item)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001 - the other plugins keep working
                self.drop(name, "broken", f"its hook {hook} failed: {describe_error(error)}")
            else:
                found += [(name, item) for item in items]
        return found

    def collect_providers(self) -> None:
        """Collect the providers of every plugin."""
        for kind in KINDS:
            for plugin, provider in self.collect(kind.hook, check_provider):
                self._add_provider(self.records[plugin], kind, provider)

    def _add_provider(self, record: PluginRecord, kind: Kind, provider: Provider[Any]) -> None:
        if record.state != "loaded":
            return
        providers = record.providers.setdefault(kind, [])
        twice = names_of(providers) & names_of([provider])
        errors = filter(None, map(kind.name_error, sorted(names_of([provider]))))
        cause = f"it provides two {kind.plural} with the name {min(twice)!r}" if twice else next(errors, None)
        if cause:
            self.drop(record.name, "broken", cause)
        else:
            providers.append(provider)

    # --- selecting providers ---

    def providers(self, kind: Kind) -> dict[str, list[RegisteredProvider]]:
        """Return all providers of a kind, by name and alias."""
        found: dict[str, list[RegisteredProvider]] = {}
        for record in self.records.values():
            for provider in record.providers.get(kind, ()):
                for name in dict.fromkeys((provider.name, *provider.aliases)):
                    found.setdefault(name, []).append(RegisteredProvider(record, provider))
        return found

    def choose(self, kind: Kind, config: Config, name: str | None = None) -> Provider[Any]:
        """Return the provider that the configuration selects, or the provider of that name.

        Raises:
            ConfigError: No plugin provides it, or several plugins do and ``plugins.prefer`` names none of them.
        """
        from zcli_core.plugins.selection import choose, selected_names

        return choose(self, kind, name or selected_names(kind, config)[0], config).provider

    def make(self, kind: Kind, context: Context, name: str | None = None) -> Any:
        """Call the factory of the provider that the configuration selects, or of the provider of that name.

        Call it once for each ``zCLI`` object.

        Raises:
            ConfigError: As for :meth:`choose`, or a module that the provider needs is not installed, or the factory
                failed.
        """
        from zcli_core.plugins.selection import make, selected_names

        return make(self, kind, name or selected_names(kind, context.config)[0], context)[1]

    def make_all(self, kind: Kind, context: Context) -> list[tuple[PluginRecord, Any]]:
        """Call the factory of each provider that the configuration selects.

        Call it once for each ``zCLI`` object.

        Returns:
            (plugin, what the factory returned) in the order of the setting.

        Raises:
            ConfigError: As for :meth:`make`.
        """
        from zcli_core.plugins.selection import make, selected_names

        return [make(self, kind, name, context) for name in selected_names(kind, context.config)]

    # --- calling hooks ---

    def notifier(self, hook: str, log: logging.Logger) -> Callable[..., None] | None:
        """Return a function that calls a running hook of every plugin, or None if no plugin implements it.

        Call it once and keep the result, so that a hook without implementations costs nothing. The function takes the
        arguments of the hook by position. If an implementation raises, the error is logged with the plugin's name.
        """
        return self.caller(hook, partial(_log_failure, log, hook))

    def caller(self, hook: str, report: Callable[[str, BaseException], None]) -> Callable[..., None] | None:
        """Return a function as :meth:`notifier` does; ``report`` gets the plugin's name and the error if one raises."""
        calls = self._implementations(hook)
        if not calls:
            return None

        def call(*values: Any) -> None:
            for plugin, function in calls:
                try:
                    function(*values)
                except KeyboardInterrupt:
                    raise
                except BaseException as error:  # noqa: BLE001 - the other plugins keep working
                    report(plugin, error)

        return call

    def asker(self, hook: str, check: Callable[[Any], None], log: logging.Logger) -> Callable[..., Any] | None:
        """Return a function that calls an asking hook of one plugin after another, or None if none implements it.

        The function takes the arguments of the hook by position, and returns the first result that is not None. If an
        implementation raises, or ``check`` raises for its result, the error is logged with the plugin's name, and the
        next plugin is asked.
        """
        calls = self._implementations(hook)
        if not calls:
            return None

        def ask(*values: Any) -> Any:
            for plugin, function in calls:
                try:
                    result = function(*values)
                    if result is not None:
                        check(result)
                        return result
                except KeyboardInterrupt:
                    raise
                except BaseException:
                    message = "the hook %s of the plugin %s failed; the next plugin is asked"
                    log.exception(message, hook, plugin)
            return None

        return ask

    def calls(
        self, hook: str, log: logging.Logger, fatal: tuple[type[Exception], ...] = ()
    ) -> dict[str, Callable[..., None]]:
        """Return a function for each plugin that implements a running hook, by the plugin's name, in calling order.

        Each takes the arguments of the hook by position. If an implementation raises, the error is logged as for
        :meth:`notifier`, unless it is one of ``fatal``.
        """

        passed_on: tuple[type[BaseException], ...] = (KeyboardInterrupt, *fatal)

        def isolated(plugin: str, function: Callable[..., Any]) -> Callable[..., None]:
            def call(*values: Any) -> None:
                try:
                    function(*values)
                except passed_on:
                    raise
                except BaseException as error:  # noqa: BLE001 - the other plugins keep working
                    _log_failure(log, hook, plugin, error)

            return call

        return {plugin: isolated(plugin, function) for plugin, function in self._implementations(hook)}

    def _implementations(
        self, hook: str, adapt: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None
    ) -> list[tuple[str, Callable[..., Any]]]:
        """Return (plugin's name, function that takes all arguments of the hook by position) in calling order."""
        caller = getattr(self._manager.hook, hook)
        names = caller.spec.argnames
        found = []
        # pluggy keeps the implementation that is called first at the end.
        for implementation in reversed(caller.get_hookimpls()):
            function = adapt(implementation.function) if adapt else implementation.function
            function = self._observed(implementation.plugin_name, hook, implementation.argnames, function)
            found.append((implementation.plugin_name, _taking(names, implementation.argnames, function)))
        return found

    def _observed(
        self, plugin: str, what: str, arguments: tuple[str, ...], function: Callable[..., Any]
    ) -> Callable[..., Any]:
        for observe in self._observers:
            function = observe(plugin, what, arguments, function)
        return function

    def problems(self) -> list[str]:
        """Return a sentence for each broken plugin."""
        return [
            f"the plugin {record} is broken: {record.cause}"
            for record in self.records.values()
            if record.state == "broken"
        ]


def _log_failure(log: logging.Logger, hook: str, plugin: str, error: BaseException) -> None:
    log.error("the hook %s of the plugin %s failed; the other plugins keep working", hook, plugin, exc_info=error)


def _as_list(function: Callable[[], Iterable[Any] | None]) -> Callable[[], list[Any]]:
    """Wrap a declaring hook so that it returns a list, even if it is a generator."""
    return lambda: list(function() or ())


def _taking(given: tuple[str, ...], wanted: tuple[str, ...], function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that takes the arguments ``given`` by position and passes on those in ``wanted``."""
    if wanted == given:
        return function
    positions = tuple(given.index(name) for name in wanted)
    if not positions:
        return lambda *_: function()
    if len(positions) == 1:
        (position,) = positions
        return lambda *values: function(values[position])
    pick = itemgetter(*positions)
    return lambda *values: function(*pick(values))

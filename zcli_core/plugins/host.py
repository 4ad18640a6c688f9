"""The plugin host: discovery, blocking, fault isolation, and the hooks."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from functools import partial
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import pluggy

from zcli_core.plugins import hookspecs
from zcli_core.plugins.discovery import EntryPoint, find_entry_points
from zcli_core.plugins.loading import check_provider, describe_error, import_object, names_of, refusal
from zcli_core.plugins.records import KINDS, Kind, Offer, PluginRecord

if TYPE_CHECKING:
    import logging

    from zcli_core.config import Config
    from zcli_core.plugins.contract import Context, Provider
    from zcli_core.plugins.tracing import Trace

#: Stands between the host and whatever it calls of a plugin: given the plugin's name, what is called (a hook, or
#: ``"import"``), its arguments' names and the function, it returns what is called in the function's place.
Observer = Callable[[str, str, tuple[str, ...], Callable[..., Any]], Callable[..., Any]]
TRACE_VARIABLE = "ZCLI_TRACE_HOOKS"


class PluginHost:
    """The plugins of one ``zCLI`` object.

    Nothing that a plugin does here can raise: a plugin that cannot be loaded, or whose declaration fails, becomes a
    record with its cause, and the others go on without it.
    """

    def __init__(self, entry_points: Iterable[EntryPoint] | None = None, observe: Observer | None = None) -> None:
        """Find the plugins, without importing any.

        :param entry_points: the plugins to know instead of those that are installed.
        :param observe: stands between the host and the plugins, to measure them.
        """
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self.records: dict[str, PluginRecord] = {}
        #: What to warn of, beside what is broken.
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
            self.warnings.append(f"{TRACE_VARIABLE}: {error}; hooks are not traced")
            return None

    def trace_to(self, log: logging.Logger) -> None:
        """Trace the hooks (``ZCLI_TRACE_HOOKS``) to this log from now on; until then they are on stderr."""
        if self._trace is not None:
            self._trace.log_to(log)

    def _add_record(self, record: PluginRecord) -> None:
        other = self.records.setdefault(record.name, record)
        if other is not record:
            record.state = "broken"
            record.cause = f"{other.origin} already has a plugin of that name; this one is not loaded"
            self.records[f"{record.name} ({record.entry_point.distribution})"] = record

    # --- loading ---

    def load(self, blocked: Iterable[str] = (), *, first_only: bool = False) -> None:
        """Import and register every plugin that is not loaded yet; those in ``blocked`` are not imported at all."""
        names = set(blocked)
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
        except BaseException as error:  # noqa: BLE001 - SystemExit, a panic in Rust: the others go on
            self._break(record, f"it cannot be imported: {describe_error(error)}")
            return
        try:
            cause = refusal(record, plugin, self._manager)
            if cause:
                self._break(record, cause)
                return
            self._manager.register(plugin, record.name)
        except Exception as error:  # noqa: BLE001 - pluggy says what is wrong with a hook in many types
            if self._manager.get_plugin(record.name) is not None:  # pluggy before 1.7 leaves half of it behind
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
        """Take a loaded plugin out again, as ``"disabled"`` or ``"broken"``."""
        record = self.records[name]
        if record.plugin is not None:
            self._manager.unregister(record.plugin)
        record.plugin, record.state, record.cause = None, state, cause
        record.offers = {}

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
            except BaseException as error:  # noqa: BLE001 - whatever a plugin does, the others go on
                self.drop(name, "broken", f"its hook {hook} failed: {describe_error(error)}")
            else:
                found += [(name, item) for item in items]
        return found

    def collect_providers(self) -> None:
        """Ask every plugin what it provides."""
        for kind in KINDS:
            for plugin, provider in self.collect(kind.hook, check_provider):
                self._add_offer(self.records[plugin], kind, provider)

    def _add_offer(self, record: PluginRecord, kind: Kind, provider: Provider[Any]) -> None:
        if record.state != "loaded":
            return
        offers = record.offers.setdefault(kind, [])
        twice = names_of(offers) & names_of([provider])
        if twice:
            self.drop(record.name, "broken", f"it offers two {kind.plural} of the name {min(twice)!r}")
        else:
            offers.append(provider)

    # --- choosing ---

    def providers(self, kind: Kind) -> dict[str, list[Offer]]:
        """Everything of a kind that is on offer, by name and alias."""
        found: dict[str, list[Offer]] = {}
        for record in self.records.values():
            for provider in record.offers.get(kind, ()):
                for name in dict.fromkeys((provider.name, *provider.aliases)):
                    found.setdefault(name, []).append(Offer(record, provider))
        return found

    def choose(self, kind: Kind, config: Config, name: str | None = None) -> Provider[Any]:
        """The provider that the configuration selects, or the one of that name.

        :raises ConfigError: nobody provides it, or several do and ``plugins.prefer`` does not decide between them.
        """
        from zcli_core.plugins.choice import choose, selected_names

        return choose(self, kind, name or selected_names(kind, config)[0], config).provider

    def make(self, kind: Kind, context: Context, name: str | None = None) -> Any:
        """What the provider that the configuration selects, or the one of that name, makes.

        To be called once for every ``zCLI`` object.

        :raises ConfigError: as :meth:`choose` does, or something that the provider needs is not installed, or its
            factory failed.
        """
        from zcli_core.plugins.choice import make, selected_names

        return make(self, kind, name or selected_names(kind, context.config)[0], context)[1]

    def make_all(self, kind: Kind, context: Context) -> list[tuple[PluginRecord, Any]]:
        """What the providers that the configuration selects make, each with its plugin.

        To be called once for every ``zCLI`` object.

        :raises ConfigError: as :meth:`make` does.
        """
        from zcli_core.plugins.choice import make, selected_names

        return [make(self, kind, name, context) for name in selected_names(kind, context.config)]

    # --- calling hooks ---

    def notifier(self, hook: str, log: logging.Logger) -> Callable[..., None] | None:
        """A function that calls a running hook of every plugin, or None if no plugin implements it.

        Asked once, so that a hook that nobody implements costs nothing when things run. The function takes the
        hook's arguments by position; an implementation that raises is logged with its plugin's name.
        """

        def report(plugin: str, error: BaseException) -> None:
            message = "the plugin %s failed in its hook %s; zCLI goes on without it"
            log.error(message, plugin, hook, exc_info=error)

        return self.caller(hook, report)

    def caller(self, hook: str, report: Callable[[str, BaseException], None]) -> Callable[..., None] | None:
        """As :meth:`notifier`; ``report`` is given the plugin's name and the error of each that raises."""
        calls = self._implementations(hook)
        if not calls:
            return None

        def call(*values: Any) -> None:
            for plugin, function in calls:
                try:
                    function(*values)
                except KeyboardInterrupt:
                    raise
                except BaseException as error:  # noqa: BLE001 - whatever a plugin does, the others go on
                    report(plugin, error)

        return call

    def _implementations(
        self, hook: str, adapt: Callable[[Callable[..., Any]], Callable[..., Any]] | None = None
    ) -> list[tuple[str, Callable[..., Any]]]:
        """(plugin's name, function of all the hook's arguments by position), in the order of the calls."""
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
        """One sentence for every plugin that is broken."""
        return [
            f"the plugin {record} is broken: {record.cause}"
            for record in self.records.values()
            if record.state == "broken"
        ]


def _as_list(function: Callable[[], Iterable[Any] | None]) -> Callable[[], list[Any]]:
    """A declaring hook whose items are made when it is called, even if it is a generator."""
    return lambda: list(function() or ())


def _taking(given: tuple[str, ...], wanted: tuple[str, ...], function: Callable[..., Any]) -> Callable[..., Any]:
    """A function that is called with ``given`` by position and passes on what is ``wanted``."""
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

"""The plugin host: discovery, blocking, fault isolation, and the choice of providers by name."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import pluggy

from zcli_core import hookspecs
from zcli_core.contracts.provider import CONTRACT_VERSION, Context, Provider
from zcli_core.discovery import EntryPoint, find_entry_points
from zcli_core.errors import ConfigError
from zcli_core.suggestions import suggestion

if TYPE_CHECKING:
    import logging

    from zcli_core.config import Config


class Kind(NamedTuple):
    """A kind of provider: its name for people, the hook that declares it and the setting that selects one, or some.

    ``setting`` is None for a kind of which all are in use, each by its name.
    """

    label: str
    hook: str
    setting: str | None


HTTP_TRANSPORT = Kind("HTTP transport", "zcli_http_transports", "http.transport")
WEBSOCKET_TRANSPORT = Kind("WebSocket transport", "zcli_websocket_transports", "websocket.transport")
AUTH_STRATEGY = Kind("auth strategy", "zcli_auth_strategies", "websocket.auth")
SERVICE = Kind("service", "zcli_service_backends", None)
KINDS = (HTTP_TRANSPORT, WEBSOCKET_TRANSPORT, AUTH_STRATEGY, SERVICE)


class PluginRecord:
    """What the host knows of one installed plugin.

    ``state`` is ``"found"`` (not loaded yet), ``"loaded"``, ``"disabled"`` or ``"broken"``; then ``cause`` says why.
    ``offers`` holds what it provides, by kind; ``hooks`` the names of the hooks it implements.
    """

    def __init__(self, entry_point: EntryPoint) -> None:
        self.entry_point = entry_point
        self.state = "found"
        self.cause: str | None = None
        self.plugin: Any = None
        self.hooks: tuple[str, ...] = ()
        self.offers: dict[Kind, list[Provider[Any]]] = {}

    @property
    def name(self) -> str:
        """The plugin's name: that of its entry point."""
        return self.entry_point.name

    @property
    def origin(self) -> str:
        """The distribution and version it was installed with."""
        return f"{self.entry_point.distribution} {self.entry_point.version}".rstrip()


class PluginHost:
    """The plugins of one ``zCLI`` object.

    Nothing that a plugin does here can raise: a plugin that cannot be loaded, or whose declaration fails, becomes a
    record with its cause, and the others go on without it.
    """

    def __init__(self, entry_points: Iterable[EntryPoint] | None = None) -> None:
        """Find the plugins, without importing any.

        :param entry_points: the plugins to know instead of those that are installed.
        """
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self.records: dict[str, PluginRecord] = {}
        for point in find_entry_points() if entry_points is None else entry_points:
            self._add_record(PluginRecord(point))

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
        try:
            plugin = _import(record.entry_point.value)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - SystemExit, a panic in Rust: the others go on
            self._break(record, f"it cannot be imported: {describe_error(error)}")
            return
        try:
            refusal = _contract_refusal(plugin) or self._hook_refusal(plugin) or self._twin_refusal(plugin)
            if refusal:
                self._break(record, refusal)
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

    def _hook_refusal(self, plugin: Any) -> str | None:
        known = [name for name in vars(hookspecs) if name.startswith("zcli_")]
        for name in dir(plugin):
            options = self._manager.parse_hookimpl_opts(plugin, name)
            if options is None:
                continue
            hook = options.get("specname") or name
            if hook not in known and not options.get("optionalhook"):
                return f"there is no hook {hook!r}{suggestion(hook, known)}"
            if options.get("wrapper") or options.get("hookwrapper"):
                return f"its hook {hook!r} is a wrapper; zCLI's hooks are called one by one and cannot be wrapped"
            if inspect.iscoroutinefunction(getattr(plugin, name)):
                return f"its hook {hook!r} is a coroutine function; zCLI calls hooks as plain functions"
        return None

    def _twin_refusal(self, plugin: Any) -> str | None:
        other = self._manager.get_name(plugin)
        return f"its module is already loaded as the plugin {other}" if other else None

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

    def collect(self, hook: str, check: Callable[[Any], None]) -> list[tuple[str, Any]]:
        """Call a declaring hook of every plugin: (plugin's name, item) for each item that it gives.

        ``check`` raises for an item that will not do. A plugin whose hook raises, or gives such an item, is dropped
        as broken with all it offers.
        """
        found = []
        for name, function, arguments in self._implementations(hook):
            try:
                items = list(function(*(None for _ in arguments)) or ())
                for item in items:
                    check(item)
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plugin does, the others go on
                self.drop(name, "broken", f"its hook {hook} failed: {describe_error(error)}")
            else:
                found += [(name, item) for item in items]
        return found

    def collect_providers(self) -> None:
        """Ask every plugin what it provides."""
        for kind in KINDS:
            for plugin, provider in self.collect(kind.hook, _check_provider):
                self._add_offer(self.records[plugin], kind, provider)

    def _add_offer(self, record: PluginRecord, kind: Kind, provider: Provider[Any]) -> None:
        if record.state != "loaded":
            return
        offers = record.offers.setdefault(kind, [])
        taken = {name for other in offers for name in (other.name, *other.aliases)}
        twice = taken.intersection((provider.name, *provider.aliases))
        if twice:
            self.drop(record.name, "broken", f"it offers two {kind.label}s of the name {min(twice)!r}")
        else:
            offers.append(provider)

    def _implementations(self, hook: str) -> list[tuple[str, Callable[..., Any], tuple[str, ...]]]:
        caller = getattr(self._manager.hook, hook)
        # pluggy keeps the implementation that is called first at the end.
        return [(impl.plugin_name, impl.function, impl.argnames) for impl in reversed(caller.get_hookimpls())]

    # --- choosing ---

    def providers(self, kind: Kind) -> dict[str, list[tuple[PluginRecord, Provider[Any]]]]:
        """Everything of a kind that is on offer, by name and alias."""
        found: dict[str, list[tuple[PluginRecord, Provider[Any]]]] = {}
        for record in self.records.values():
            for provider in record.offers.get(kind, ()):
                for name in dict.fromkeys((provider.name, *provider.aliases)):
                    found.setdefault(name, []).append((record, provider))
        return found

    def choose(self, kind: Kind, config: Config, name: str | None = None) -> Provider[Any]:
        """The provider that the configuration selects, or the one of that name.

        :raises ConfigError: nobody provides it, or several do and ``plugins.prefer`` does not decide between them.
        """
        return self._choose(kind, name or _selected_names(kind, config)[0], config)[1]

    def choose_all(self, kind: Kind, config: Config) -> list[tuple[PluginRecord, Provider[Any]]]:
        """The providers that the configuration selects, each with its plugin, in the configuration's order.

        :raises ConfigError: as :meth:`choose` does.
        """
        return [self._choose(kind, name, config) for name in dict.fromkeys(_selected_names(kind, config))]

    def make(self, kind: Kind, context: Context, name: str | None = None) -> Any:
        """What the provider that the configuration selects, or the one of that name, makes.

        To be called once for every ``zCLI`` object.

        :raises ConfigError: as :meth:`choose` does, or the provider's factory failed.
        """
        record, provider = self._choose(kind, name or _selected_names(kind, context.config)[0], context.config)
        return _make(kind, record, provider, context)

    def make_all(self, kind: Kind, context: Context) -> list[tuple[PluginRecord, Any]]:
        """What the providers that the configuration selects make, each with its plugin.

        To be called once for every ``zCLI`` object.

        :raises ConfigError: as :meth:`make` does.
        """
        chosen = self.choose_all(kind, context.config)
        return [(record, _make(kind, record, provider, context)) for record, provider in chosen]

    def _choose(self, kind: Kind, name: str, config: Config) -> tuple[PluginRecord, Provider[Any]]:
        offers = self.providers(kind)
        candidates = offers.get(name, [])
        preferred = config.plugins.prefer.get(name)
        if len(candidates) > 1 and preferred:
            candidates = [pair for pair in candidates if pair[0].name == preferred] or candidates
        if len(candidates) == 1:
            return candidates[0]
        if candidates:
            raise ConfigError(_ambiguity(kind, name, [record for record, _ in candidates], preferred))
        raise ConfigError(self._absence(kind, name, _chooser(kind, config), sorted(offers)))

    def _absence(self, kind: Kind, name: str, chosen_by: str, names: list[str]) -> str:
        hint = suggestion(name, names)
        offered = f"on offer: {', '.join(names)}" if names else "none is on offer"
        message = f"no plugin provides the {kind.label} {name!r}, which {chosen_by} asks for{hint}; {offered}"
        for record in self.records.values():
            if record.state == "broken":
                message += f"\n     the plugin {record.name} ({record.origin}) is broken: {record.cause}"
            elif record.state == "disabled":
                message += f"\n     the plugin {record.name} ({record.origin}) is disabled by plugins.disable"
        return message

    # --- running hooks ---

    def notifier(self, hook: str, log: logging.Logger) -> Callable[..., None] | None:
        """A function that calls a running hook of every plugin, or None if no plugin implements it.

        Asked once, so that a hook that nobody implements costs nothing when things run. The function takes the
        hook's arguments by position; an implementation that raises is logged with its plugin's name.
        """
        names = getattr(self._manager.hook, hook).spec.argnames
        calls = [
            (plugin, function, tuple(names.index(argument) for argument in arguments))
            for plugin, function, arguments in self._implementations(hook)
        ]
        if not calls:
            return None

        def notify(*values: Any) -> None:
            for plugin, function, positions in calls:
                try:
                    function(*(values[position] for position in positions))
                except (Exception, SystemExit):
                    log.exception("the plugin %s failed in its hook %s; zCLI goes on without it", plugin, hook)

        return notify

    def call_each(self, hook: str, *values: Any) -> list[str]:
        """Call a hook of every plugin with these arguments; one sentence for each that raises."""
        names = getattr(self._manager.hook, hook).spec.argnames
        problems = []
        for plugin, function, arguments in self._implementations(hook):
            try:
                function(*(values[names.index(argument)] for argument in arguments))
            except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plugin does, the others go on
                problems.append(f"the plugin {plugin} failed in its hook {hook}: {describe_error(error)}")
        return problems

    def problems(self) -> list[str]:
        """One sentence for every plugin that is broken."""
        return [
            f"the plugin {record.name} ({record.origin}) is broken: {record.cause}"
            for record in self.records.values()
            if record.state == "broken"
        ]


def _import(value: str) -> Any:
    module, _, attribute = value.partition(":")
    found: Any = importlib.import_module(module)
    for name in filter(None, attribute.split(".")):
        found = getattr(found, name)
    return found


def _contract_refusal(plugin: Any) -> str | None:
    version = getattr(plugin, "ZCLI_CONTRACT", None)
    if version is None:
        what = "module" if isinstance(plugin, ModuleType) else "object"
        return f"its {what} does not state the contract version it was written for (ZCLI_CONTRACT = {CONTRACT_VERSION})"
    if version != CONTRACT_VERSION:
        return f"it was written for version {version} of zCLI's plugin contract; this zCLI has {CONTRACT_VERSION}"
    return None


def _check_provider(item: Any) -> None:
    if not isinstance(item, Provider):
        raise TypeError(f"expected a Provider, got {type(item).__name__}")
    if not (isinstance(item.name, str) and item.name and callable(item.factory)):
        raise TypeError(f"a Provider needs a name and a callable factory, got {item!r}")
    if not (isinstance(item.aliases, tuple) and all(isinstance(alias, str) for alias in item.aliases)):
        raise TypeError(f"a Provider's aliases are a tuple of names, got {item.aliases!r}")


def _make(kind: Kind, record: PluginRecord, provider: Provider[Any], context: Context) -> Any:
    missing = provider.missing()
    if missing:
        raise ConfigError(
            f"the {kind.label} {provider.name!r} of the plugin {record.name} ({record.origin}), which "
            f"{_chooser(kind, context.config)} asks for, needs {' and '.join(missing)}, which "
            f"{'is' if len(missing) == 1 else 'are'} not installed"
            + (f": pip install '{provider.install}'" if provider.install else "")
        )
    try:
        return provider.factory(context)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"the {kind.label} {provider.name!r} of the plugin {record.name} ({record.origin}), which "
            f"{_chooser(kind, context.config)} asks for, cannot be made: {describe_error(error)}"
        ) from error


def _selected_names(kind: Kind, config: Config) -> tuple[str, ...]:
    if kind.setting is None:
        raise ValueError(f"no setting selects a {kind.label}: name it")
    selected = config.get(kind.setting)
    return (selected,) if isinstance(selected, str) else tuple(selected)


def _chooser(kind: Kind, config: Config) -> str:
    if kind.setting is None:
        return "a call"
    return f"{kind.setting} ({config.explain(kind.setting).origin})"


def _ambiguity(kind: Kind, name: str, records: list[PluginRecord], preferred: str | None) -> str:
    who = " and ".join(f"{record.name} ({record.origin})" for record in records)
    not_among = f" (it names {preferred!r}, which is none of them)" if preferred else ""
    return (
        f"the {kind.label} {name!r} is provided by {who}; say which one with plugins.prefer: "
        f"{{{name}: {records[0].name}}}{not_among}, or disable one with plugins.disable"
    )


def describe_error(error: BaseException) -> str:
    """An exception in one line: its type and what it says."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

"""Imports a plugin and checks it: its contract version, its hooks and its providers."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterable
from types import ModuleType
from typing import TYPE_CHECKING, Any

from zcli_core import __version__
from zcli_core.plugins import hookspecs
from zcli_core.plugins.contract import CONTRACT_VERSION, Provider
from zcli_core.printable import printable
from zcli_core.suggestions import suggestion

if TYPE_CHECKING:
    import pluggy

    from zcli_core.plugins.records import PluginRecord

HOOKS = tuple(name for name in vars(hookspecs) if name.startswith("zcli_"))


def import_object(value: str) -> Any:
    """Import the object that an entry point names: ``"module"`` or ``"module:attribute"``."""
    module, _, attribute = value.partition(":")
    found: Any = importlib.import_module(module)
    for name in filter(None, attribute.split(".")):
        found = getattr(found, name)
    return found


def load_error(record: PluginRecord, plugin: Any, manager: pluggy.PluginManager) -> str | None:
    """Return why a plugin cannot be registered, as a sentence; None if it can."""
    return _contract_error(record, plugin) or _hook_error(plugin, manager) or _duplicate_module_error(plugin, manager)


def _contract_error(record: PluginRecord, plugin: Any) -> str | None:
    version = getattr(plugin, "ZCLI_CONTRACT", None)
    what = "module" if isinstance(plugin, ModuleType) else "object"
    if version is None:
        return f"its {what} does not state the contract version it was written for (ZCLI_CONTRACT = {CONTRACT_VERSION})"
    if type(version) is not int:
        return f"ZCLI_CONTRACT in its {what} must be an integer such as {CONTRACT_VERSION}, got {version!r}"
    if version == CONTRACT_VERSION:
        return None
    from zcli_core.system.installation import OURS, install_again

    older = record.entry_point.distribution if version < CONTRACT_VERSION else OURS
    return (
        f"it was written for version {version} of zCLI's plugin contract, and zcli-core {__version__} has version "
        f"{CONTRACT_VERSION}; upgrade {older}: {install_again(older, '--upgrade')}"
    )


def _hook_error(plugin: Any, manager: pluggy.PluginManager) -> str | None:
    for name in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, name)
        if options is None:
            continue
        hook = options.get("specname") or name
        if hook not in HOOKS and not options.get("optionalhook"):
            return f"unknown hook {hook!r}{suggestion(hook, HOOKS)}"
        if options.get("wrapper") or options.get("hookwrapper"):
            return f"its hook {hook!r} is a wrapper, which zCLI does not support, because it calls hooks one by one"
        if inspect.iscoroutinefunction(getattr(plugin, name)):
            return f"its hook {hook!r} is a coroutine function, but zCLI calls hooks as plain functions"
    return None


def _duplicate_module_error(plugin: Any, manager: pluggy.PluginManager) -> str | None:
    other = manager.get_name(plugin)
    return f"its module is already loaded as the plugin {other}" if other else None


def check_provider(item: Any) -> None:
    """Check an item that a hook gave.

    Raises:
        TypeError: The item is not a valid :class:`Provider`; the message says what is wrong.
    """
    if not isinstance(item, Provider):
        raise TypeError(f"expected a Provider, got {type(item).__name__}")
    if not (isinstance(item.name, str) and item.name and callable(item.factory)):
        raise TypeError(f"a Provider must have a name and a callable factory, got {item!r}")
    if not isinstance(item.summary, str):
        raise TypeError(f"the summary of a Provider must be a text, got {item.summary!r}")
    if not _is_tuple_of_names(item.aliases):
        raise TypeError(f"the aliases of a Provider must be a tuple of names, got {item.aliases!r}")
    if not _is_tuple_of_names(item.needs):
        raise TypeError(f"the needs of a Provider must be a tuple of module names, got {item.needs!r}")
    if not (item.install is None or (isinstance(item.install, str) and item.install)):
        raise TypeError(
            f"the install of a Provider must be an argument for pip such as 'zcli-mine[extra]', got {item.install!r}"
        )


def names_of(providers: Iterable[Provider[Any]]) -> set[str]:
    """Return all names and aliases of these providers."""
    return {name for provider in providers for name in (provider.name, *provider.aliases)}


def _is_tuple_of_names(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(name, str) and name for name in value)


def describe_error(error: BaseException) -> str:
    """Return an exception in one line: its type and its message."""
    try:
        text = printable(" ".join(str(error).split()))
    except Exception:  # noqa: BLE001 - its __str__ fails
        text = ""
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
